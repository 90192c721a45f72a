import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from xxhash import xxh3_128_digest

from twofold_cluster.apis import Api
from twofold_cluster.canonical import canonical_bytes
from twofold_cluster.errors import Fault, RequestError
from twofold_cluster.fields import Fields, decode_fields
from twofold_cluster.prompt_key import PromptKey, prompt_key

BLOCK_BYTES = 16

words = st.text(max_size=60)
names = st.text(alphabet='ab"\n\0', max_size=3)


@given(text=words)
def test_a_key_covers_all_canonical_bytes(text: str) -> None:
    fields = chat(text)
    canonical = canonical_bytes(Api.CHAT, fields)

    key = key_of(fields)

    assert key.size_bytes == len(canonical)
    assert len(key.blocks) == len(canonical) // BLOCK_BYTES
    assert {len(digest) for digest in (*key.blocks, key.end)} == {16}


@given(text=words)
def test_each_digest_is_of_the_one_before_and_its_own_block(text: str) -> None:
    canonical = canonical_bytes(Api.CHAT, chat(text))
    key = key_of(chat(text))

    rest = canonical[len(key.blocks) * BLOCK_BYTES :]
    last = key.blocks[-1]
    for i in range(1, len(key.blocks)):
        block = canonical[i * BLOCK_BYTES : (i + 1) * BLOCK_BYTES]
        assert key.blocks[i] == xxh3_128_digest(key.blocks[i - 1] + block)
    assert key.end == (xxh3_128_digest(last + rest) if rest else last)


@given(text=words, one=words, other=words)
def test_two_prompts_share_the_blocks_of_their_common_beginning(
    text: str, one: str, other: str
) -> None:
    fields = [chat(text + one), chat(text + other)]
    first, second = (canonical_bytes(Api.CHAT, f) for f in fields)
    common = next(
        (i for i, (a, b) in enumerate(zip(first, second, strict=False)) if a != b),
        min(len(first), len(second)),
    )

    key, other_key = (key_of(f) for f in fields)

    shared = sum(a == b for a, b in zip(key.blocks, other_key.blocks, strict=False))
    assert shared == common // BLOCK_BYTES
    assert len(set(key.blocks) & set(other_key.blocks)) == shared
    assert (key.end == other_key.end) == (first == second)


@given(one=st.tuples(names, names, names), other=st.tuples(names, names, names), text=words)
def test_another_model_adapter_or_salt_shares_no_block(
    one: tuple[str, str, str], other: tuple[str, str, str], text: str
) -> None:
    keys = [
        prompt_key(
            Api.CHAT, chat(text), model=model, adapter=adapter, salt=salt, block_bytes=BLOCK_BYTES
        )
        for model, adapter, salt in (one, other)
    ]

    assert bool(digests(keys[0]) & digests(keys[1])) == (one == other)


def test_a_salt_of_the_requests_own_shares_no_block() -> None:
    fields = chat("hello")
    salts = [msgspec.Raw(salt) for salt in (b'"a"', b'"b"', b"1")]

    keys = [key_of(fields), *(key_of({**fields, "cache_salt": salt}) for salt in salts)]
    keys += [
        prompt_key(Api.CHAT, fields, model="m", salt=salt, block_bytes=BLOCK_BYTES)
        for salt in ("a", '"a"', "1")
    ]

    assert len(set().union(*map(digests, keys))) == sum(len(digests(key)) for key in keys)


def test_a_null_salt_is_none() -> None:
    fields = chat("hello")

    assert key_of({**fields, "cache_salt": msgspec.Raw(b"null")}) == key_of(fields)


@pytest.mark.parametrize(
    "messages",
    [b'"\xff"', b'[{"role":"user","content":"\xed\xa0\x80"}]', b"1e999"],
)
def test_a_prompt_that_is_no_json_is_a_fault_of_the_request(messages: bytes) -> None:
    with pytest.raises(RequestError) as raised:
        key_of(decode_fields(b'{"messages":' + messages + b"}"))

    assert raised.value.fault is Fault.INVALID_JSON


def test_a_prompt_that_is_nested_too_deep_is_a_fault_of_the_request() -> None:
    key, faults = None, []
    for depth in range(800, 1000):  # the bound is the interpreter's, and hit at several places
        content = b'{"a":' * depth + b"1" + b"}" * depth
        try:
            key = key_of({"messages": msgspec.Raw(b'[{"content":' + content + b"}]")})
        except RequestError as error:
            faults.append(error.fault)

    assert key is not None
    assert set(faults) == {Fault.INVALID_JSON}


def chat(text: str) -> Fields:
    body = {
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": text}]
    }
    return decode_fields(msgspec.json.encode(body))


def key_of(fields: Fields) -> PromptKey:
    return prompt_key(Api.CHAT, fields, model="m", block_bytes=BLOCK_BYTES)


def digests(key: PromptKey) -> set[bytes]:
    return {*key.blocks, key.end}
