"""Who is named as the source of a prefix."""

from typing import Any

import pytest

from twofold_cluster.legs import PrefixSource
from twofold_router.placement.accounts import Account
from twofold_router.placement.prefix_sources import find_source, longest_held
from twofold_router.placement.testing import make_account, make_key, make_waiting
from twofold_router.placement.waiting import Waiting

PROMPT = make_key("a", "b", "c", "d")
"""2048 tokens."""


def account(name: str, blocks: str = "", **worker: Any) -> Account:
    """Make one that takes a millisecond a token and holds the prompt's first *blocks*."""
    made = make_account(name, **({"side_channel": f"{name}.example:5600"} | worker))
    made.speed.announce(0.001)
    if blocks:
        made.mirror.hold(make_key(*blocks), len(blocks) * 512)
    return made


def waiting(*candidates: Account) -> Waiting:
    made = make_waiting(key=PROMPT)
    made.candidates = candidates
    return made


def test_the_candidate_with_the_longest_prefix_is_named() -> None:
    at, short, long = account("at"), account("short", "a"), account("long", "abc")

    source = find_source(waiting(at, short, long), at, 0.0)

    assert source == PrefixSource(
        engine_id="long:1",
        host="long.example",
        port=5600,
        tensor_parallel=1,
        tokens=1536,
        seconds_per_token=0.001,
    )


def test_the_whole_prompt_but_its_last_tokens_may_be_held() -> None:
    at, other = account("at"), account("other", "abcd")

    source = find_source(waiting(at, other), at, 0.0)

    assert source is not None
    assert source.tokens == 2048 - 16


@pytest.mark.parametrize(("own_blocks", "is_named"), [("", True), ("a", True), ("ab", False)])
def test_it_must_hold_a_block_more_than_the_worker_that_computes(
    own_blocks: str, is_named: bool
) -> None:
    at, other = account("at", own_blocks), account("other", "ab")

    source = find_source(waiting(at, other), at, len(own_blocks) * 512.0)

    assert (source is not None) == is_named


def test_less_than_a_block_more_is_not_named() -> None:
    at, other = account("at", "ab"), account("other")
    key = make_key("a", "b", rest_tokens=200)
    other.mirror.hold(key, 1224)
    made = make_waiting(key=key)
    made.candidates = (at, other)

    assert other.mirror.cached_tokens(key) > 1024
    assert find_source(made, at, 1024.0) is None


def test_a_block_counts_by_the_tokens_that_an_engine_caches_of_it() -> None:
    at, other = account("at"), account("other")
    other.mirror.hold(make_key("a"), 505)  # 496 in whole blocks of 16
    made = make_waiting(key=PROMPT, prompt_tokens=4 * 505)
    made.candidates = (at, other)

    source = find_source(made, at, 0.0)

    assert source is not None
    assert source.tokens == 496


def test_nobody_is_named_to_itself() -> None:
    at = account("at", "abc")

    assert find_source(waiting(at), at, 0.0) is None


def test_somebody_who_is_no_candidate_is_not_asked() -> None:
    at = account("at")
    account("stranger", "abc")

    assert find_source(waiting(at), at, 0.0) is None


@pytest.mark.parametrize(
    "difference",
    [
        {"revision": "r2"},
        {"compatibility": "c2"},
        {"service": "another"},
        {"tensor_parallel": 2},
        {"side_channel": ""},
        {"side_channel": "no-port"},
    ],
)
def test_a_worker_that_cannot_be_fetched_from_is_not_named(difference: dict[str, Any]) -> None:
    at, other = account("at"), account("other", "abc", **difference)

    assert find_source(waiting(at, other), at, 0.0) is None


def test_a_worker_that_cannot_fetch_is_told_of_no_source() -> None:
    at, other = account("at", side_channel=""), account("other", "abc")

    assert find_source(waiting(at, other), at, 0.0) is None


def test_a_prompt_of_less_than_a_block_has_no_source() -> None:
    at, other = account("at"), account("other")
    key = make_key(rest_tokens=500)
    other.mirror.hold(key, 500)
    made = make_waiting(key=key)
    made.candidates = (at, other)

    assert find_source(made, at, 0.0) is None


def test_the_longest_prefix_is_found_for_each_who_can_use_it() -> None:
    old = [account("o1", "a"), account("o2", "abc"), account("o3")]
    new = [account("n1", "ab", revision="r2"), account("mute", "abcd", side_channel="")]

    held = longest_held([*old, *new], PROMPT)

    by_revision = {circle[1]: tokens for circle, tokens in held.items()}
    assert by_revision == {"r1": 1536, "r2": 1024}
