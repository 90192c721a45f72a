"""The feed of one worker, without a directory: what it tells is applied to a plain set."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twofold_cluster.identity import Incarnation, WorkerId
from twofold_cluster.kv_events import (
    AllBlocksCleared,
    BlockRemoved,
    BlockStored,
    EventBatch,
    KvEvent,
)
from twofold_kvtransfer.directory import DirectoryUpdate, Feed, Position
from twofold_kvtransfer.directory.feed import MAX_UNSENT_BLOCKS
from twofold_kvtransfer.directory.updates import MAX_BLOCKS_PER_UPDATE

NAMES = [bytes([number]) * 16 for number in range(6)]


def a_feed(max_blocks: int = 10**6) -> Feed:
    return Feed(WorkerId("worker-0"), Incarnation("1"), lambda tier: max_blocks)


def batch(number: int, *events: KvEvent) -> EventBatch:
    return EventBatch(1000.0 + number, list(events))


def store(*names: bytes, tier: str | None = "GPU", group: int = 0) -> BlockStored:
    return BlockStored(names, None, len(names), 1, tier, group=group)


def a_told_feed(*names: bytes, max_blocks: int = 10**6) -> Feed:
    """A feed that has told of its batch 0, which stores *names*."""
    feed = a_feed(max_blocks)
    feed.link(None)
    feed.take(0, batch(0, store(*names)))
    feed.rebuild("t")
    return feed


def blocks_of(feed: Feed) -> set[bytes]:
    return {name for part in feed.rebuild("t") for _, name in part.stored}


def applied(updates: list[DirectoryUpdate], held: set[tuple[str, bytes]]) -> None:
    for update in updates:
        if update.clears:
            held.clear()
        held -= set(update.removed)
        held |= set(update.stored)


def blocks_in(event: BlockStored | BlockRemoved) -> set[tuple[str, bytes]]:
    return {(event.medium or "", name) for name in NAMES if name in event.block_hashes}


events = st.one_of(
    st.builds(
        lambda names, tier: store(*names, tier=tier),
        st.lists(st.sampled_from(NAMES), max_size=3),
        st.sampled_from(["GPU", "CPU"]),
    ),
    st.builds(
        lambda name, tier: BlockRemoved((name,), tier),
        st.sampled_from(NAMES),
        st.sampled_from(["GPU", "CPU"]),
    ),
    st.builds(AllBlocksCleared),
)


def test_an_engine_that_has_told_nothing_yet_holds_nothing() -> None:
    feed = a_feed()
    (unknown,) = feed.rebuild("t")
    feed.begin()
    (whole,) = feed.rebuild("t")

    assert unknown.degrades
    assert not whole.degrades


def test_what_is_known_of_an_engine_is_not_forgotten_by_its_beginning() -> None:
    feed = a_feed()
    feed.take(3, batch(3, store(NAMES[0])))
    feed.begin()

    (part,) = feed.rebuild("t")
    assert part.degrades


@given(
    batches=st.lists(st.lists(events, max_size=4), min_size=1, max_size=12),
    outcomes=st.lists(st.sampled_from(["gather", "sent", "unsent", "answer lost"]), max_size=12),
)
def test_the_updates_make_what_the_engine_holds(
    batches: list[list[KvEvent]], outcomes: list[str]
) -> None:
    feed = a_told_feed()
    told: set[tuple[str, bytes]] = set()
    held: set[tuple[str, bytes]] = set()
    outcome = "gather"
    for number, happened in enumerate(batches, start=1):
        feed.take(number, batch(number, *happened))
        if outcome == "sent":
            feed.sent()
        elif outcome != "gather":
            feed.unsent()
        for event in happened:
            if isinstance(event, AllBlocksCleared):
                held.clear()
            elif isinstance(event, BlockStored):
                held |= blocks_in(event)
            else:
                held -= blocks_in(event)
        outcome = outcomes[number] if number < len(outcomes) else "gather"
        if outcome != "gather":
            updates = feed.updates()
            applied(updates if outcome != "unsent" else [], told)
    if outcome != "gather":
        feed.unsent()

    last = feed.updates()
    applied(last, told)

    assert told == held
    assert last[-1].position == Position(1000.0 + len(batches), len(batches))
    assert feed.is_whole
    assert not any(update.degrades for update in last)


def test_a_new_feed_has_an_empty_entry_to_begin_with() -> None:
    feed = a_feed()
    feed.link(None)

    assert feed.needs_rebuild
    assert [part.stored for part in feed.rebuild("t")] == [()]
    assert not feed.needs_rebuild


def test_a_feed_that_heard_all_from_the_first_batch_is_whole() -> None:
    assert a_told_feed().is_whole


def test_a_feed_that_begins_later_is_not_whole() -> None:
    feed = a_feed()
    feed.take(3, batch(3))

    assert not feed.is_whole


def test_after_a_gap_nothing_is_known_and_the_update_shows_the_gap() -> None:
    feed = a_told_feed(NAMES[0])
    feed.take(1, batch(1, store(NAMES[1])))
    feed.take(3, batch(3, store(NAMES[2])))

    (update,) = feed.updates()

    assert (update.first, update.position.number) == (3, 3)
    assert update.stored == (("GPU", NAMES[2]),)
    assert not feed.is_whole
    assert blocks_of(feed) == {NAMES[2]}


def test_what_was_not_sent_before_a_gap_is_not_sent_after_it() -> None:
    feed = a_told_feed()
    feed.take(1, batch(1, store(NAMES[1])))
    feed.updates()
    feed.take(3, batch(3))
    feed.unsent()

    (update,) = feed.updates()

    assert (update.first, update.stored) == (3, ())


def test_a_batch_that_comes_again_is_ignored() -> None:
    feed = a_told_feed(NAMES[0])
    feed.take(1, batch(1, BlockRemoved((NAMES[0],), "GPU")))
    feed.take(0, batch(0, store(NAMES[0])))

    assert blocks_of(feed) == set()


def test_an_unreadable_batch_empties_the_entry() -> None:
    feed = a_told_feed(NAMES[0])
    feed.lose(1)

    (update,) = feed.updates()

    assert (update.clears, update.degrades) == (True, True)
    assert update.position == Position(1000.0, 1)


def test_a_clear_makes_whole_again() -> None:
    feed = a_told_feed(NAMES[0])
    feed.lose(1)
    feed.take(2, batch(2, AllBlocksCleared(), store(NAMES[1])))

    (update,) = feed.updates()

    assert feed.is_whole
    assert (update.clears, update.degrades) == (True, False)
    assert update.stored == (("GPU", NAMES[1]),)


def test_an_engine_that_begins_anew_replaces_all_even_before_its_first_batch() -> None:
    feed = a_told_feed(NAMES[0])
    feed.restart()

    assert feed.needs_rebuild
    (part,) = feed.rebuild("t")
    assert (part.stored, part.position) == ((), Position(1000.0, 0))


def test_an_unreadable_batch_after_a_new_beginning_does_not_go_back() -> None:
    feed = a_told_feed()
    feed.take(1, batch(1))
    feed.restart()
    feed.lose(0)

    (part,) = feed.rebuild("t")

    assert part.position == Position(1001.0, 1)


def test_a_clock_that_is_set_back_sets_no_batch_back() -> None:
    feed = a_told_feed(NAMES[0])
    feed.take(1, EventBatch(940.0, [BlockRemoved((NAMES[0],), "GPU")]))
    feed.take(2, EventBatch(941.0, [store(NAMES[1])]))

    (update,) = feed.updates()

    assert update.position == Position(1000.0, 2)


@pytest.mark.parametrize("number", [0, 2])
def test_an_engine_that_begins_anew_with_an_earlier_clock_is_still_later(number: int) -> None:
    feed = a_told_feed(NAMES[0])
    feed.take(1, batch(1))
    feed.restart()
    feed.take(number, EventBatch(940.0, [store(NAMES[1])]))

    (part,) = feed.rebuild("t")

    assert part.position > Position(1001.0, 1)


def test_a_feed_continues_only_from_the_very_batch_where_the_directory_stands() -> None:
    feed = a_feed()
    feed.link(Position(1005.0, 5))
    feed.take(4, batch(4))
    assert (feed.updates(), feed.needs_rebuild) == ([], False)
    feed.take(5, batch(5, store(NAMES[0])))
    feed.take(6, batch(6, store(NAMES[1])))

    (update,) = feed.updates()

    assert (update.first, update.stored) == (6, (("GPU", NAMES[1]),))


def test_a_feed_does_not_continue_what_another_life_of_the_engine_has_left() -> None:
    feed = a_feed()
    feed.link(Position(500.0, 5))
    feed.take(5, batch(5))

    assert feed.needs_rebuild


def test_more_than_the_capacity_leaves_out_the_newest_and_says_so() -> None:
    feed = a_told_feed(*NAMES[:2], max_blocks=2)
    feed.take(1, batch(1, store(NAMES[2], NAMES[0]), store(NAMES[3], tier="CPU")))

    (update,) = feed.updates()

    assert update.degrades
    assert set(update.stored) == {("GPU", NAMES[0]), ("CPU", NAMES[3])}
    assert not feed.is_whole


def test_blocks_of_a_hybrid_model_are_not_listed() -> None:
    feed = a_told_feed(NAMES[0])
    feed.take(1, batch(1, store(NAMES[1], group=1), AllBlocksCleared(), store(NAMES[0])))

    assert not feed.is_whole
    assert blocks_of(feed) == set()


def test_an_engine_that_names_no_tier_has_its_blocks_on_the_gpu() -> None:
    feed = a_told_feed()
    feed.take(1, batch(1, store(NAMES[0], tier=None)))

    assert feed.updates()[0].stored == (("GPU", NAMES[0]),)


def test_without_a_change_one_update_renews() -> None:
    (update,) = a_told_feed().updates()

    assert (update.first, update.position.number) == (1, 0)
    assert (update.stored, update.removed) == ((), ())


def test_a_large_change_comes_in_parts_of_which_the_first_removes() -> None:
    feed = a_told_feed(NAMES[0])
    many = [number.to_bytes(16, "big") for number in range(1, MAX_BLOCKS_PER_UPDATE + 2)]
    feed.take(1, batch(1, AllBlocksCleared(), store(*many), BlockRemoved((NAMES[0],), "GPU")))

    first, second = feed.updates()

    assert first.removed == (("GPU", NAMES[0]),)
    assert (first.clears, second.clears) == (True, False)
    assert (first.is_last_part, second.is_last_part) == (False, True)
    assert {name for _, name in first.stored + second.stored} == set(many)


def test_changes_that_nobody_can_be_told_of_give_way_to_a_rebuild() -> None:
    feed = a_told_feed()
    removed = tuple(number.to_bytes(16, "big") for number in range(MAX_UNSENT_BLOCKS + 1))
    feed.take(1, batch(1, BlockRemoved(removed, "GPU")))

    assert feed.needs_rebuild
    assert feed.updates() == []


def test_a_rebuild_tells_heads_of_chains_before_what_follows_them() -> None:
    many = [number.to_bytes(16, "big") for number in range(200)]
    feed = a_told_feed(*many)

    (part,) = feed.rebuild("t")

    assert [name for _, name in part.stored] == many


def test_what_is_missed_for_good_is_counted_by_the_batch() -> None:
    feed = a_feed()
    feed.lose(1)  # the engine has dropped 0 and 1
    feed.take(2, batch(2))
    feed.take(5, batch(5))  # not 3 and 4
    feed.lose(6)
    counted = feed.lost_count

    feed.lose(3)  # known
    feed.take(2, batch(2))
    feed.restart()
    feed.take(0, batch(0))

    assert counted == 5
    assert feed.lost_count == 5
