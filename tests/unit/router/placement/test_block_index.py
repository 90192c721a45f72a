"""What an engine says of its blocks, tied to those of the prompts."""

from twofold_cluster.kv_events import AllBlocksCleared, BlockRemoved, BlockStored
from twofold_cluster.prompt_key import PromptKey
from twofold_router.placement.block_index import MAX_UNTIED_CHAINS, BlockIndex
from twofold_router.placement.mirror import CacheMirror
from twofold_router.placement.testing import make_key

BLOCK = 16
PROMPT_BLOCKS = 4
"""Of the engine, in a block of the prompt key."""


class Index:
    """An index, its mirror, and an engine that tells of what it stores."""

    def __init__(self, capacity_tokens: int = 10_000) -> None:
        self.mirror = CacheMirror(capacity_tokens, BLOCK)
        self.index = BlockIndex(self.mirror, BLOCK, capacity_tokens)

    def store(self, *blocks: int, parent: int | None = None, medium: str | None = "GPU") -> None:
        event = BlockStored(blocks, parent, len(blocks) * BLOCK, BLOCK, medium)
        self.index.take_in([event])

    def remove(self, *blocks: int, medium: str | None = "GPU", group: int = 0) -> None:
        self.index.take_in([BlockRemoved(blocks, medium, group)])

    def prefill(self, key: PromptKey) -> None:
        self.mirror.hold(key, key.size_bytes // 4)
        self.index.tie(key, key.size_bytes // 4)


def prompt(*blocks: object, rest_tokens: int = 0) -> PromptKey:
    return make_key(*blocks, rest_tokens=rest_tokens, block_tokens=PROMPT_BLOCKS * BLOCK)


def held(index: Index, key: PromptKey) -> list[bool]:
    return [digest in index.mirror for digest in key.blocks]


def test_a_block_that_the_engine_evicts_leaves_the_mirror() -> None:
    index = Index()
    key = prompt("a", "b", "c", rest_tokens=5)
    index.store(*range(12))
    index.prefill(key)

    index.remove(11)
    assert held(index, key) == [True, True, False]
    index.remove(9, 8, 7)

    assert held(index, key) == [True, False, False]


def test_a_continuation_is_tied_behind_the_prefix_that_it_shares() -> None:
    index = Index()
    first, second = prompt("a", "b"), prompt("a", "b", "c")
    index.store(*range(8))
    index.prefill(first)
    index.store(*range(8, 12), parent=7)
    index.prefill(second)

    index.remove(11)

    assert held(index, second) == [True, True, False]


def test_blocks_that_come_in_pieces_are_one_chain() -> None:
    index = Index()
    index.store(*range(5))
    index.store(5, 6, 7, parent=4)
    index.prefill(prompt("a", "b"))

    index.remove(7)

    assert held(index, prompt("a", "b")) == [True, False]


def test_two_chains_of_the_same_length_are_not_told_apart() -> None:
    index = Index()
    index.store(*range(4))
    index.store(*range(10, 14))
    index.prefill(prompt("a"))

    index.remove(*range(4), *range(10, 14))

    assert held(index, prompt("a")) == [True]


def test_a_chain_whose_beginning_was_not_told_is_not_used() -> None:
    index = Index()
    index.store(1, 2, 3, 4, parent=99)
    index.prefill(prompt("a"))

    index.remove(4)

    assert held(index, prompt("a")) == [True]


def test_a_prompt_is_not_tied_to_a_chain_of_another_length() -> None:
    index = Index()
    index.store(*range(5))
    index.prefill(prompt("a"))

    index.remove(3)

    assert held(index, prompt("a")) == [True]


def test_another_cache_than_the_devices_does_not_count() -> None:
    index = Index()
    index.store(*range(4))
    index.store(*range(20, 24), medium="CPU")  # if it counted, there were two chains of this length
    index.prefill(prompt("a"))

    index.remove(3, medium="CPU")
    index.remove(3, group=1)

    assert held(index, prompt("a")) == [True]
    index.remove(3)
    assert held(index, prompt("a")) == [False]


def test_it_is_approximate_then_exact_and_degraded_when_events_are_lost() -> None:
    index = Index()
    states = [index.index.state]
    index.store(*range(4))
    states.append(index.index.state)
    index.prefill(prompt("a"))
    index.index.take_in("lost")
    states.append(index.index.state)
    index.remove(3)  # what it was is forgotten

    assert states == ["approximate", "exact", "degraded"]
    assert held(index, prompt("a")) == [True]
    index.store(*range(4))
    assert index.index.state == "degraded"


def test_a_restart_or_a_clearing_empties_the_mirror() -> None:
    for empty in ("restarted", [AllBlocksCleared()]):
        index = Index()
        index.store(*range(4))
        index.prefill(prompt("a"))
        index.index.take_in("lost")

        index.index.take_in(empty)  # type: ignore[arg-type]

        assert len(index.mirror) == 0
        assert index.index.state == "exact"


def test_a_prefix_that_everybody_shares_is_kept_once() -> None:
    index = Index()
    index.store(*range(4))
    index.prefill(prompt("a"))
    for number in range(50):
        index.store(*range(100 + 4 * number, 104 + 4 * number), parent=3)
        index.prefill(prompt("a", number))

    assert sum(map(len, index.index._digests.values())) == 51


def test_an_engine_that_tells_of_no_removals_is_not_believed_for_ever() -> None:
    index = Index(capacity_tokens=100 * BLOCK)
    for number in range(1_000):
        index.store(number)
        assert len(index.index._depth) <= 4 * 100

    assert index.index.state == "degraded"


def test_chains_that_nobody_claims_are_bounded() -> None:
    index = Index(capacity_tokens=10**6)
    for number in range(3 * MAX_UNTIED_CHAINS):
        index.store(number)

    assert len(index.index._untied) == MAX_UNTIED_CHAINS


def test_a_prompt_that_is_over_before_its_events_come_is_tied_by_the_next_batch() -> None:
    index = Index()
    key = prompt("a", "b")
    index.store(100)  # something else: from now on the engine is followed
    index.prefill(key)
    index.store(*range(8))

    index.remove(7)

    assert held(index, key) == [True, False]
