"""The block pool, against what it says of itself."""

from collections import Counter
from dataclasses import dataclass, field

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from twofold_sim.engine_model.blocks import BlockPool
from twofold_sim.engine_model.interface import BlocksEvent, BlocksRemoved, BlocksStored

BLOCK_COUNT = 12


@dataclass
class Holder:
    """Somebody with a prompt: the ids of its blocks, and what it was lent of them."""

    prompt: tuple[str, ...]
    shared: list[str] = field(default_factory=list)
    nameless_count: int = 0


class Pool(RuleBasedStateMachine):
    """Prompts of three families that have beginnings in common come, compute and go."""

    def __init__(self) -> None:
        super().__init__()
        self.cached: set[str] = set()
        """As the events tell."""
        self.holders: list[Holder] = []
        self.pool = BlockPool(BLOCK_COUNT, self.hear)

    def hear(self, event: BlocksEvent) -> None:
        match event:
            case BlocksStored(ids, parent):
                assert self.cached.isdisjoint(map(str, ids))
                assert parent is None or parent in self.cached
                self.cached.update(map(str, ids))
            case BlocksRemoved(ids):
                lent = {block_id for holder in self.holders for block_id in holder.shared}
                assert self.cached.issuperset(map(str, ids))
                assert lent.isdisjoint(map(str, ids)), "evicted what is lent"
                self.cached.difference_update(map(str, ids))

    @rule(family=st.sampled_from("abc"), depth=st.integers(0, 6), own=st.integers(0, 3))
    def come(self, family: str, depth: int, own: int) -> None:
        """Find a prefix, compute the rest, and name it."""
        number = len(self.holders)
        prompt = tuple(f"{family}{i}" for i in range(depth))
        prompt += tuple(f"{number}-{len(self.cached)}-{i}" for i in range(own))
        hits = self.pool.count_hits(prompt, len(prompt))
        assert self.cached.issuperset(prompt[:hits])
        assert hits == len(prompt) or prompt[hits] not in self.cached
        found, rest = prompt[:hits], prompt[hits:]
        if len(rest) + self.pool.count_idle(found) > self.pool.free_count:
            return
        self.pool.share(found)
        holder = Holder(prompt, [*found])
        self.holders.append(holder)
        self.pool.take(len(rest))
        named = self.pool.name(rest, found[-1] if found else None)
        holder.shared += map(str, named)
        holder.nameless_count = len(rest) - len(named)

    @precondition(lambda self: self.holders)
    @rule(data=st.data(), count=st.integers(1, 3))
    def generate(self, data: st.DataObject, count: int) -> None:
        if count <= self.pool.free_count:
            self.pool.take(count)
            data.draw(st.sampled_from(self.holders)).nameless_count += count

    @precondition(lambda self: self.holders)
    @rule(data=st.data())
    def go(self, data: st.DataObject) -> None:
        index = data.draw(st.integers(0, len(self.holders) - 1))
        holder = self.holders.pop(index)
        self.pool.give_back(holder.shared, holder.nameless_count)

    @invariant()
    def all_are_free_or_lent(self) -> None:
        named = {block_id for holder in self.holders for block_id in holder.shared}
        nameless = sum(holder.nameless_count for holder in self.holders)

        assert self.pool.lent_count == len(named) + nameless
        assert 0 <= self.pool.free_count <= BLOCK_COUNT

    @invariant()
    def a_block_is_found_if_and_only_if_it_is_told_of(self) -> None:
        assert all(block_id in self.pool for block_id in self.cached)
        assert all(block_id in self.cached for holder in self.holders for block_id in holder.shared)

    @invariant()
    def a_holder_has_each_of_its_blocks_once(self) -> None:
        for holder in self.holders:
            assert not Counter(holder.shared) - Counter(holder.prompt)


TestPool = Pool.TestCase


def fill(pool: BlockPool, *ids: str) -> None:
    """Compute a prompt of these blocks and go."""
    pool.take(len(ids))
    pool.name(ids)
    pool.give_back(ids, 0)


def test_the_block_that_was_given_back_first_is_blanked_first_and_of_a_prompt_its_last() -> None:
    told: list[BlocksEvent] = []
    pool = BlockPool(4, told.append)
    fill(pool, "a0", "a1")
    fill(pool, "b0", "b1")

    pool.take(3)

    assert told[-1] == BlocksRemoved(("a1", "a0", "b1"))
    assert "b0" in pool


def test_a_block_that_is_found_again_is_used_again() -> None:
    pool = BlockPool(4)
    fill(pool, "a0", "a1")
    fill(pool, "b0", "b1")
    pool.share(["a0"])
    pool.give_back(["a0"], 0)

    pool.take(3)

    assert "a0" in pool
    assert "b0" not in pool


def test_nothing_is_evicted_while_blank_blocks_are_left() -> None:
    pool = BlockPool(4)
    fill(pool, "a0", "a1")

    pool.take(2)

    assert pool.count_hits(["a0", "a1"], 2) == 2


def test_a_prefix_ends_at_the_first_block_that_is_missing() -> None:
    pool = BlockPool(4)
    fill(pool, "a0", "a1", "a2")

    assert pool.count_hits(["a0", "x", "a2"], 3) == 1
    assert pool.count_hits(["x", "a1"], 2) == 0
    assert pool.count_hits(["a0", "a1", "a2"], 2) == 2


def test_who_computes_a_named_block_again_keeps_one_without_a_name() -> None:
    pool = BlockPool(4)
    pool.take(1)
    pool.name(["a0"])
    pool.take(2)

    assert pool.name(["a0", "a1"]) == ["a1"]
    assert pool.lent_count == 3


def test_what_is_stored_is_told_in_unbroken_runs_each_with_its_parent() -> None:
    events: list[BlocksEvent] = []
    pool = BlockPool(9, events.append)
    pool.take(1)
    pool.name(["c"])
    pool.take(5)

    pool.name(["a", "b", "c", "d", "e"], "root")

    assert events[1:] == [BlocksStored(("a", "b"), "root"), BlocksStored(("d", "e"), "c")]


def test_giving_back_what_was_not_lent_is_a_bug() -> None:
    pool = BlockPool(2)

    with pytest.raises(AssertionError):
        pool.give_back([], 1)
