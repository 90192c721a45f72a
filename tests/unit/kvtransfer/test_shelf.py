import itertools
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.kvtransfer.pools import FakeBlock, FakePool

from twofold_kvtransfer.shelf import Shelf

NAMES = (b"a", b"b", b"c")


class TornPool(FakePool):
    """Changes while somebody looks, as it does under another thread."""

    def __init__(self, count: int) -> None:
        super().__init__(count)
        self.before: dict[int, Callable[[], object]] = {}
        """What happens just before which look at it; the first is number 0."""
        self._looks = itertools.count()

    def get_cached_block(
        self, block_hash: bytes, kv_cache_group_ids: list[int]
    ) -> Sequence[FakeBlock] | None:
        self.before.get(next(self._looks), lambda: None)()
        return super().get_cached_block(block_hash, kv_cache_group_ids)


def raise_(error: Exception) -> None:
    raise error


def test_blocks_are_seen_up_to_the_first_name_that_none_has() -> None:
    pool = FakePool(8)
    shelf = Shelf(pool)
    one, other = pool.hold(NAMES[:2])
    pool.hold([b"d"])

    sight = shelf.look([*NAMES, b"d"])

    assert sight.blocks == (one.block_id, other.block_id)
    assert len(sight.versions) == 2
    assert shelf.unchanged(NAMES[:2], sight.blocks, sight.versions)


def test_of_nothing_nothing_is_seen_and_it_stays_so() -> None:
    shelf = Shelf(FakePool(8))

    sight = shelf.look(NAMES)

    assert (sight.blocks, sight.versions) == ((), ())
    assert shelf.unchanged((), (), ())


def test_what_was_cached_before_the_shelf_was_put_up_is_seen() -> None:
    pool = FakePool(8)
    pool.hold(NAMES)
    shelf = Shelf(pool)

    sight = shelf.look(NAMES)

    assert len(sight.blocks) == 3
    assert shelf.unchanged(NAMES, sight.blocks, sight.versions)


def test_the_pool_gives_the_blocks_that_it_would_have_given() -> None:
    pool, same = FakePool(8), FakePool(8)
    Shelf(pool)

    taken = [block.block_id for block in pool.get_new_blocks(3)]

    assert taken == [block.block_id for block in same.get_new_blocks(3)]
    with pytest.raises(ValueError, match="Cannot get 5"):
        pool.get_new_blocks(5)


def test_what_is_seen_is_there_when_the_steps_scheduled_by_then_are_done() -> None:
    pool = FakePool(8)
    shelf = Shelf(pool)
    assert [shelf.steps.note_scheduled() for _ in range(2)] == [1, 2]
    pool.schedule(NAMES)
    assert shelf.steps.note_scheduled() == 3

    sight = shelf.look(NAMES)

    shelf.steps.note_done(2)
    assert not shelf.steps.has_done(sight.step)
    shelf.steps.note_scheduled()
    shelf.steps.note_done(4)
    assert shelf.steps.has_done(sight.step)


def test_what_a_step_names_while_it_is_scheduled_is_not_there_before_that_is_done() -> None:
    pool = FakePool(8)
    shelf = Shelf(pool)
    shelf.steps.note_done(shelf.steps.note_scheduled())
    pool.schedule(NAMES)

    sight = shelf.look(NAMES)

    assert not sight.blocks or not shelf.steps.has_done(sight.step)
    shelf.steps.note_done(shelf.steps.note_scheduled())
    assert shelf.steps.has_done(sight.step)


def test_a_block_that_others_use_or_leave_is_the_same() -> None:
    pool = FakePool(8)
    shelf = Shelf(pool)
    blocks = pool.hold(NAMES)
    sight = shelf.look(NAMES)

    pool.touch(blocks)
    assert shelf.unchanged(NAMES, sight.blocks, sight.versions)
    pool.free_blocks(reversed(blocks))
    pool.hold([b"d"])

    assert shelf.unchanged(NAMES, sight.blocks, sight.versions)


@pytest.mark.parametrize("which", range(3))
@pytest.mark.parametrize("again", [True, False])
def test_a_block_that_had_another_content_is_seen_to_be_changed(which: int, again: bool) -> None:
    """Also if it has its name *again*: it was written in between."""
    pool = FakePool(8)
    shelf = Shelf(pool)
    blocks = pool.hold(NAMES)
    sight = shelf.look(NAMES)

    pool.give_away(blocks[which], NAMES[which] if again else b"d")

    assert not shelf.unchanged(NAMES, sight.blocks, sight.versions)


def test_a_block_that_lost_its_name_is_seen_to_be_changed() -> None:
    pool = FakePool(8)
    shelf = Shelf(pool)
    blocks = pool.hold(NAMES)
    sight = shelf.look(NAMES)

    pool.take_name(blocks[2])

    assert not shelf.unchanged(NAMES, sight.blocks, sight.versions)


def test_of_two_blocks_of_a_name_the_one_that_was_seen_counts() -> None:
    pool = FakePool(8)
    shelf = Shelf(pool)
    (first,) = pool.hold([b"a"])
    (second,) = pool.hold([b"a"])
    sight = shelf.look([b"a"])
    assert sight.blocks == (first.block_id,)

    pool.give_away(second)
    assert shelf.unchanged([b"a"], sight.blocks, sight.versions)
    pool.hold([b"a"])
    pool.give_away(first)

    assert not shelf.unchanged([b"a"], sight.blocks, sight.versions)


def test_a_block_that_changes_hands_under_the_look_is_not_seen() -> None:
    pool = TornPool(8)
    shelf = Shelf(pool)
    blocks = pool.hold(NAMES)
    pool.before[3] = lambda: pool.give_away(blocks[1])  # between the two looks at the second

    sight = shelf.look(NAMES)

    assert sight.blocks == (blocks[0].block_id,)


def test_a_block_that_is_given_away_and_named_again_under_the_look_is_seen_as_it_is_now() -> None:
    pool = TornPool(8)
    shelf = Shelf(pool)
    (block,) = pool.hold([b"a"])
    pool.before[1] = lambda: pool.give_away(block, b"a")

    sight = shelf.look([b"a"])

    assert not shelf.unchanged([b"a"], sight.blocks, sight.versions)


TORN = [RuntimeError("dictionary changed size during iteration"), StopIteration()]


@pytest.mark.parametrize("error", TORN)
def test_a_name_whose_blocks_come_and_go_just_now_is_not_seen(error: Exception) -> None:
    pool = TornPool(8)
    shelf = Shelf(pool)
    blocks = pool.hold(NAMES)
    pool.before[2] = lambda: raise_(error)

    assert shelf.look(NAMES).blocks == (blocks[0].block_id,)


@pytest.mark.parametrize("error", TORN)
def test_a_name_whose_blocks_come_and_go_just_now_counts_as_changed(error: Exception) -> None:
    pool = TornPool(8)
    shelf = Shelf(pool)
    pool.hold(NAMES)
    sight = shelf.look(NAMES)
    pool.before[6 + 1] = lambda: raise_(error)

    assert not shelf.unchanged(NAMES, sight.blocks, sight.versions)


def test_lists_of_unequal_length_are_a_bug() -> None:
    pool = FakePool(8)
    shelf = Shelf(pool)
    pool.hold(NAMES)
    sight = shelf.look(NAMES)

    with pytest.raises(ValueError, match="zip"):
        shelf.unchanged(NAMES, sight.blocks, sight.versions[:2])


changes = st.lists(
    st.tuples(st.sampled_from(["hold", "use", "leave", "give away"]), st.integers(0, 5))
)


@given(changes, changes)
def test_unchanged_means_that_no_block_was_taken_anew(
    before: list[tuple[str, int]], after: list[tuple[str, int]]
) -> None:
    pool = FakePool(5)
    taken: list[int] = []
    take = pool.get_new_blocks

    def watched(count: int) -> list[FakeBlock]:
        blocks = take(count)
        taken.extend(block.block_id for block in blocks)
        return blocks

    pool.get_new_blocks = watched
    shelf = Shelf(pool)
    names = [bytes([number]) for number in range(6)]
    _do(pool, names, before)
    sight = shelf.look(names)
    seen = names[: len(sight.blocks)]
    taken.clear()
    _do(pool, names, after)

    is_same = not set(taken) & set(sight.blocks)
    assert shelf.unchanged(seen, sight.blocks, sight.versions) == is_same


def _do(pool: FakePool, names: list[bytes], changes: list[tuple[str, int]]) -> None:
    for change, number in changes:
        block = pool.blocks[1 + number % 4]
        if change == "hold" and pool.free:
            pool.hold([names[number]])
        elif change == "use":
            pool.touch([block])
        elif change == "leave" and block.users:
            pool.free_blocks([block])
        elif change == "give away" and not block.users:
            pool.give_away(block)
