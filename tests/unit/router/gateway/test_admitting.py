"""Who a request is from, and what it is charged."""

from pathlib import Path

import pytest

from twofold_cluster.errors import Fault, RequestError
from twofold_router.access import ANONYMOUS, Caller, Classes, Keyring, Limits, LocalLimiter
from twofold_router.access.minting import hash_of
from twofold_router.gateway.admitting import EXPECTED_OUTPUT_TOKENS, Admitting

LIMITED = Caller("k", "t", None, None, Limits(tokens_per_minute=1000))
FAIRNESS = {b"x-llm-d-inference-fairness-id": b"team"}


def admitting(keyring: Keyring | None = None) -> Admitting:
    return Admitting(Classes(), keyring, LocalLimiter(lambda: 0.0))


@pytest.fixture
def keyring(tmp_path: Path) -> Keyring:
    path = tmp_path / "keys.toml"
    path.write_text(f'[[key]]\nname = "k"\nhash = "{hash_of("secret")}"\ntenant = "t"\n')
    return Keyring(path, {"default"})


def test_without_keys_everybody_is_let_in() -> None:
    assert admitting().identify({}) is ANONYMOUS
    assert admitting().identify({b"authorization": b"Bearer x"}) is ANONYMOUS


def test_with_keys_only_those_who_have_one(keyring: Keyring) -> None:
    door = admitting(keyring)
    found = [
        door.identify({b"authorization": b"Bearer secret"}).name,
        door.identify({b"x-api-key": b"secret"}).name,
    ]
    with pytest.raises(RequestError) as caught:
        door.identify({b"x-api-key": b"wrong"})

    assert found == ["k", "k"]
    assert caught.value.fault is Fault.INVALID_API_KEY


def test_a_flow_is_a_tenant_only_where_there_are_no_keys(keyring: Keyring) -> None:
    caller = keyring.find(b"Bearer secret", None)

    assert admitting().terms(FAIRNESS, ANONYMOUS).tenant == "team"
    assert admitting().terms({}, ANONYMOUS).tenant == "anonymous"
    assert admitting(keyring).terms(FAIRNESS, caller).tenant == "t"


async def test_who_has_no_limits_gets_no_bill() -> None:
    assert await admitting().charge(ANONYMOUS, b"x" * 1000, None) is None


@pytest.mark.parametrize(("most", "expected"), [(None, EXPECTED_OUTPUT_TOKENS), (10, 10)])
async def test_an_estimate_is_the_size_and_the_bound_of_the_answer(
    most: int | None, expected: int
) -> None:
    bill = await admitting().charge(LIMITED, b"x" * 400, most)

    assert bill is not None
    assert bill.admission.reserved_tokens == 100 + expected


@pytest.mark.parametrize(
    "part",
    [
        b'{"type":"image_url","image_url":{"url":"data:image/png;base64,%b"}}',
        b'{"type": "image_url", "image_url": {"url": "data:image/png;base64,%b", "detail": "low"}}',
        b'{"type":"input_audio","input_audio":{"data":"%b","format":"wav"}}',
        b'{"type": "image", "source": {"type": "base64", "data": "%b"}}',
    ],
)
async def test_images_and_audio_are_no_text(part: bytes) -> None:
    text = b'{"type":"text","text":"' + b"x" * 400 + b'"}'
    body = b"[%b,%b,%b]" % (part % (b"Qk0/" * 10_000), text, part % (b"Qk0+" * 10_000))
    bill = await admitting().charge(LIMITED, body, 10)

    assert bill is not None
    assert 110 <= bill.admission.reserved_tokens <= 180


@pytest.mark.parametrize("body", [b'"data:image/png;base64,never ends', b'"data: is a word"' * 20])
async def test_what_only_begins_like_an_image_is_counted(body: bytes) -> None:
    bill = await admitting().charge(LIMITED, body, 10)

    assert bill is not None
    assert bill.admission.reserved_tokens == len(body) // 4 + 10


async def test_what_was_used_takes_the_place_of_the_estimate() -> None:
    door = admitting()
    for used in (1, 1, None, 1):
        bill = await door.charge(LIMITED, b"", 900)
        assert bill is not None
        bill.used_tokens = used
        door.settle(bill)
        if used is None:
            with pytest.raises(RequestError) as caught:
                await door.charge(LIMITED, b"", 900)
            assert caught.value.fault is Fault.QUEUE_FULL
            return
    raise AssertionError("the estimate was given back")
