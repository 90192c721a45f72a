"""The prefix hotness tree: how long a key is, and what the tree keeps."""

import random
from collections import deque
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twofold_router.placement.hotness import PrefixHotness, _Prefix
from twofold_router.placement.prefixes import Blocks

EIGHT = 8


def chain(*names: object) -> Blocks:
    """Return digests as of a chain: each is of all that precedes it, too."""
    return tuple(repr(names[: end + 1]).encode() for end in range(len(names)))


def nodes(prefix: _Prefix, path: Blocks = ()) -> Iterator[tuple[Blocks, _Prefix]]:
    for digest, child in (prefix.children or {}).items():
        yield (*path, digest), child
        yield from nodes(child, (*path, digest))


PROMPTS = st.lists(st.integers(0, 1), min_size=1, max_size=5).map(lambda names: chain(*names))


@given(
    st.lists(st.tuples(PROMPTS, st.integers(1, 12)), max_size=120),
    st.integers(1, 40),
    st.integers(1, 8),
    st.integers(1, 4),
)
@settings(max_examples=300)
def test_each_prefix_counts_the_requests_of_the_window_that_carry_it(
    requests: list[tuple[Blocks, int]], window: int, minimum: int, longest: int
) -> None:
    hotness = PrefixHotness(
        window_requests=window, minimum_requests=minimum, maximum_key_blocks=longest
    )
    recent: deque[Blocks] = deque(maxlen=window)
    for blocks, worker_count in requests:
        length, rho = hotness.key_of(blocks, worker_count)
        recent.append(blocks)

        carry = sum(each[:length] == blocks[:length] for each in recent)
        assert rho == carry / len(recent)
        assert 1 <= length <= min(len(blocks), longest)
    known = list(nodes(hotness._root))
    for path, prefix in known:
        assert prefix.count == sum(each[: len(path)] == path for each in recent) > 0
    held = [*hotness._root.held.values()] + [b for _, p in known for b in p.held.values()]
    assert sorted(held) == sorted(each[:longest] for each in recent)


def test_a_prefix_that_nobody_shares_is_a_key_of_one_block() -> None:
    hotness = PrefixHotness()

    keys = {hotness.key_of(chain(number, "more"), EIGHT)[0] for number in range(5000)}

    assert keys == {1}


def test_a_prefix_that_all_requests_carry_makes_a_key_of_two_blocks() -> None:
    hotness = PrefixHotness()
    for number in range(100):
        hotness.observe(chain("system prompt", number, "more"))

    assert hotness.key_of(chain("system prompt", 1000, "more"), EIGHT) == (2, 1 / 101)


def test_a_hot_prefix_of_13_blocks_is_followed_to_its_end() -> None:
    """The paper's hottest prefix of the agent workload: 37.8 % of the requests, 8 workers."""
    chance = random.Random(0)
    hotness = PrefixHotness()
    shared = [f"tool {number}" for number in range(13)]
    keys: dict[bool, int] = {}
    for number in range(3000):
        carries = chance.random() < 0.378
        names = [*shared, number, "more"] if carries else [number] * 15
        keys[carries], _ = hotness.key_of(chain(*names), EIGHT)

    assert keys == {True: 14, False: 1}


def test_a_prefix_at_two_shares_is_not_hot_and_above_it_is() -> None:
    hotness = PrefixHotness(window_requests=400)
    for number in range(400):
        hotness.observe(chain("hot" if number % 4 == 0 else number, number))

    assert hotness.key_length(chain("hot", "next"), EIGHT) == 1
    hotness.observe(chain("hot", "next"))  # in place of a hot one
    hotness.observe(chain("hot", "next"))  # in place of another
    assert hotness.key_length(chain("hot", "next"), EIGHT) == 2


def test_a_hot_prefix_stays_so_until_it_has_less_than_one_share() -> None:
    hotness = PrefixHotness(window_requests=80)
    for number in range(80):
        hotness.observe(chain("hot", number))
    prompt = chain("hot", "next")
    assert hotness.key_length(prompt, EIGHT) == 2

    for number in range(70):
        hotness.observe(chain(number))
    assert hotness.key_length(prompt, EIGHT) == 2  # 10 of 80 is 1/n
    hotness.observe(chain("cold"))
    assert hotness.key_length(prompt, EIGHT) == 1
    for number in range(9):
        hotness.observe(chain("hot", number))
    assert hotness.key_length(prompt, EIGHT) == 1  # 10 to 20 of 80: stays as it is


def test_a_prefix_in_a_prefix_cools_down_with_it() -> None:
    hotness = PrefixHotness(window_requests=80)
    for number in range(80):
        hotness.observe(chain("hot", "hotter", number))
    assert hotness.key_length(chain("hot", "hotter", "next"), EIGHT) == 3

    for number in range(79):
        hotness.observe(chain(number))
    assert hotness.key_length(chain("hot", "hotter", 79), EIGHT) == 1
    assert all(len(path) == 1 for path, _ in nodes(hotness._root))
    hotness.observe(chain("last"))
    assert chain("hot") not in dict(nodes(hotness._root))


def test_a_few_requests_make_nothing_hot() -> None:
    hotness = PrefixHotness(minimum_requests=8)

    keys = [hotness.key_of(chain("same", "next", number), 100)[0] for number in range(8)]

    assert keys == [1] * 7 + [3]


def test_a_prefix_of_a_few_requests_stays_hot_until_it_has_half_as_many() -> None:
    hotness = PrefixHotness(window_requests=8, minimum_requests=8)
    for number in range(8):
        hotness.observe(chain("same", number))
    assert hotness.key_length(chain("same", "next"), 100) == 2

    for number in range(4):
        hotness.observe(chain(number))
    assert hotness.key_length(chain("same", "next"), 100) == 2
    hotness.observe(chain("fifth"))
    assert hotness.key_length(chain("same", "next"), 100) == 1


def test_with_two_workers_nothing_is_hot() -> None:
    hotness = PrefixHotness()

    assert {hotness.key_of(chain("same", number), 2)[0] for number in range(50)} == {1}


def test_a_key_is_not_longer_than_the_prompt() -> None:
    hotness = PrefixHotness()
    for _ in range(50):
        length_and_rho = hotness.key_of(chain("a", "b"), EIGHT)

    assert length_and_rho == (2, 1.0)
    assert hotness.key_of(chain("a"), EIGHT) == (1, 1.0)


def test_a_prefix_that_was_not_seen_has_no_share() -> None:
    hotness = PrefixHotness()
    hotness.observe(chain("a"))

    assert hotness._follow(chain("b"), EIGHT) == (1, 0.0)
    assert PrefixHotness().key_length(chain("b"), EIGHT) == 1


@pytest.mark.parametrize("worker_count", [1, 8, 100, 10_000])
def test_the_tree_has_no_more_nodes_than_the_window_has_blocks_of_keys(worker_count: int) -> None:
    """Few hot prefixes at a time, each as deep as keys go, that change while time passes."""
    chance = random.Random(1)
    hotness = PrefixHotness(window_requests=256, maximum_key_blocks=8)
    for number in range(5000):
        group = number // 500 * 10 + chance.randrange(10)
        hotness.key_of(chain(*[group] * chance.randrange(1, 7), *[number] * 20), worker_count)

        if number % 100 == 0:
            known = list(nodes(hotness._root))
            assert len(known) <= 256 * 2
            assert max(len(path) for path, _ in known) <= 8


def test_a_window_full_of_others_leaves_nothing_of_a_hot_prefix() -> None:
    hotness = PrefixHotness(window_requests=100)
    for number in range(100):
        hotness.key_of(chain("hot", "hotter", number), EIGHT)
    for number in range(100):
        hotness.key_of(chain(number), EIGHT)

    assert len(list(nodes(hotness._root))) == 100
    assert len(hotness._window) == 100
