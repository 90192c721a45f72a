"""The mirror of a worker's prefix cache: what it claims, and what it never claims."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from twofold_cluster.prompt_key import PromptKey
from twofold_router.placement.mirror import CacheMirror
from twofold_router.placement.testing import make_key

ENGINE_BLOCK = 16
KEYS = st.builds(
    lambda blocks, rest: make_key(*blocks, rest_tokens=rest, block_tokens=64),
    st.lists(st.integers(0, 1), max_size=6),
    st.sampled_from([0, 1, 40]),
)
STEPS = st.lists(st.tuples(st.sampled_from(["hold", "correct"]), KEYS, st.integers(0, 400)))


def tokens_of(key: PromptKey) -> int:
    return key.size_bytes // 4


def held(mirror: CacheMirror, key: PromptKey) -> int:
    """Count the leading blocks of *key* in the mirror."""
    known = [digest in mirror for digest in key.blocks]
    return known.index(False) if False in known else len(known)


@given(STEPS, st.integers(0, 1000))
@settings(max_examples=300)
def test_it_is_bounded_and_holds_a_block_only_with_those_before_it(
    steps: list[tuple[str, PromptKey, Any]], capacity: int
) -> None:
    mirror = CacheMirror(capacity, ENGINE_BLOCK)
    for name, key, cached in steps:
        if name == "hold":
            mirror.hold(key, tokens_of(key))
        else:
            mirror.correct(key, cached)

        assert 0 <= mirror.held_tokens <= capacity
        for _, known, _ in steps:
            in_mirror = [digest in mirror for digest in known.blocks]
            assert in_mirror == sorted(in_mirror, reverse=True)
            assert known.end not in mirror or all(in_mirror)


@given(STEPS, KEYS)
@settings(max_examples=300)
def test_a_prediction_is_of_whole_engine_blocks_and_never_of_the_last_token(
    steps: list[tuple[str, PromptKey, Any]], key: PromptKey
) -> None:
    mirror = CacheMirror(1000, ENGINE_BLOCK)
    for _, known, _ in steps:
        mirror.hold(known, tokens_of(known))

    cached = mirror.cached_tokens(key)

    assert cached % ENGINE_BLOCK == 0
    assert 0 <= cached <= max(tokens_of(key) - 1, 0)
    if key.end not in mirror:
        assert cached == held(mirror, key) * 64


def test_the_least_recently_used_prompt_is_evicted_from_its_end() -> None:
    mirror = CacheMirror(6 * 512, ENGINE_BLOCK)
    old, new = make_key("old", 1, 2), make_key("new", 1, 2)
    mirror.hold(old, 3 * 512)
    mirror.hold(new, 3 * 512)

    mirror.hold(make_key("other", 1), 2 * 512)

    assert (held(mirror, old), held(mirror, new)) == (1, 3)


def test_use_makes_young_again() -> None:
    mirror = CacheMirror(4 * 512, ENGINE_BLOCK)
    used, unused = make_key("used", 1), make_key("unused", 1)
    for key in (used, unused, used):
        mirror.hold(key, 2 * 512)

    mirror.hold(make_key("other", 1), 2 * 512)

    assert (held(mirror, used), held(mirror, unused)) == (2, 0)


def test_a_prompt_of_dense_tokens_evicts_no_more_than_it_takes() -> None:
    mirror = CacheMirror(100 * 512, ENGINE_BLOCK)
    known = make_key(*range(50))
    mirror.hold(known, 50 * 512)

    mirror.hold(make_key("an image", 1), 2 * 4000)

    assert held(mirror, known) == 50


def test_a_prompt_that_is_longer_than_the_cache_leaves_its_beginning() -> None:
    mirror = CacheMirror(3 * 512, ENGINE_BLOCK)
    key = make_key(*range(10))

    mirror.hold(key, 10 * 512)

    assert held(mirror, key) == len(mirror) == 3


def test_a_correction_drops_what_is_gone_and_all_that_is_older() -> None:
    mirror = CacheMirror(10**6, ENGINE_BLOCK)
    older, wrong, younger = make_key("older", 1), make_key(*range(4)), make_key("younger", 1)
    for key in (older, wrong, younger):
        mirror.hold(key, tokens_of(key))

    mirror.correct(wrong, 512)

    # A block that ends within one block of what was reported has the benefit of the doubt.
    assert (held(mirror, older), held(mirror, wrong), held(mirror, younger)) == (0, 2, 2)


def test_a_correction_within_a_block_changes_nothing() -> None:
    mirror = CacheMirror(10**6, ENGINE_BLOCK)
    key = make_key(*range(4))
    mirror.hold(key, 4 * 512)

    mirror.correct(key, 4 * 512 - ENGINE_BLOCK)

    assert held(mirror, key) == 4


def test_tokens_before_a_blocks_end_are_learned_from_the_engines_count() -> None:
    mirror = CacheMirror(10**6, ENGINE_BLOCK)
    mirror.hold(make_key(0, 1, rest_tokens=512), 3 * 320)

    assert mirror.cached_tokens(make_key(0, 1, "another")) == 2 * 320


def test_a_whole_prompt_again_is_cached_but_for_its_last_engine_block() -> None:
    mirror = CacheMirror(10**6, ENGINE_BLOCK)
    whole, partial = make_key(0, 1), make_key(0, 1, rest_tokens=100)
    mirror.hold(whole, 1024)
    mirror.hold(partial, 1124)

    assert mirror.cached_tokens(whole) == 1024 - ENGINE_BLOCK
    assert mirror.cached_tokens(partial) == 1120


def test_nothing_is_learned_of_an_empty_prompt() -> None:
    mirror = CacheMirror(10**6, ENGINE_BLOCK)
    mirror.hold(PromptKey(0, 2048, (), b"end"), 5)
    mirror.hold(make_key(0), 0)

    assert len(mirror) == 0
    assert mirror.cached_tokens(make_key(0)) == 0
