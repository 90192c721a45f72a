import json

import pytest
from tests.unit.cli.test_finding import D0, P0
from tests.unit.cli.test_pull_sources import a_puller

from twofold_cli.finding import Found, prompt_body
from twofold_cli.pull_sources import CannotPullError
from twofold_cli.pulling import cached_tokens, request_body, wanted_tokens
from twofold_cluster.legs import prefix_source
from twofold_kvtransfer.prefixes import prefix_from_params

FOUND = Found("1", 64, 16, (), ())


def test_a_worker_is_sent_the_prompt_for_one_token_and_who_has_it() -> None:
    source = prefix_source(a_puller(P0, side_channel="[::1]:5600"), 48, 0.25)
    assert source is not None

    body = request_body(prompt_body("Hi", model=None, is_chat=False), a_puller(D0), source)

    assert (body["prompt"], body["model"], body["max_tokens"]) == ("Hi", "m", 1)
    read = prefix_from_params(body["kv_transfer_params"])
    assert read is not None
    assert (read.engine_id, read.host, read.port) == ("p-0:1", "::1", 5600)
    assert (read.tokens, read.seconds_per_token, read.tensor_parallel) == (48, 0.25, 1)
    assert "do_remote_decode" not in body["kv_transfer_params"]


def test_an_adapter_is_asked_by_its_own_name() -> None:
    source = prefix_source(a_puller(P0), 48, 0.25)
    assert source is not None

    body = request_body(prompt_body("Hi", model="tuned", is_chat=True), a_puller(D0), source)

    assert body["model"] == "tuned"
    assert body["messages"] == [{"role": "user", "content": "Hi"}]


@pytest.mark.parametrize(("held", "wanted"), [(16, 16), (40, 32), (48, 48), (64, 48), (900, 48)])
def test_what_is_wanted_is_full_blocks_and_never_the_last_token(held: int, wanted: int) -> None:
    assert wanted_tokens(FOUND, held) == wanted


@pytest.mark.parametrize(("prompt", "held"), [(16, 16), (70, 15)])
def test_what_fills_no_block_cannot_be_pulled(prompt: int, held: int) -> None:
    with pytest.raises(CannotPullError, match=f"nothing of a prompt of {prompt} tokens"):
        wanted_tokens(Found("1", prompt, 16, (), ()), held)


@pytest.mark.parametrize(
    ("details", "cached"), [({"cached_tokens": 48}, 48), ({"cached_tokens": None}, 0), (None, 0)]
)
def test_an_answer_says_how_much_of_the_prompt_was_cached(
    details: dict[str, int | None] | None, cached: int
) -> None:
    answer = {"usage": {"prompt_tokens": 70, "prompt_tokens_details": details}, "choices": []}

    assert cached_tokens(D0, 200, json.dumps(answer).encode()) == cached


def test_a_refusal_is_told_as_the_worker_has_worded_it() -> None:
    with pytest.raises(CannotPullError, match="d-0 refuses the prompt: 503: draining"):
        cached_tokens(D0, 503, b"draining")
    with pytest.raises(CannotPullError, match="d-0 does not say what was cached"):
        cached_tokens(D0, 200, b"{}")
