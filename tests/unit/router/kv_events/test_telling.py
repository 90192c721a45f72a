from collections import Counter

from twofold_cluster.identity import Incarnation, WorkerId
from twofold_cluster.kv_events import (
    AllBlocksCleared,
    Batch,
    BlockRemoved,
    EventBatch,
    Fresh,
    Happening,
    KvEvent,
    Lost,
    Restarted,
)
from twofold_router.kv_events.telling import Telling
from twofold_router.placement.accounts import Life
from twofold_router.placement.interface import BlocksChange

LIFE: Life = (WorkerId("w"), Incarnation("1"))


def told(*happenings: Happening) -> tuple[list[BlocksChange], Counter[str]]:
    """Return what placement is told, and what is counted."""
    changes: list[BlocksChange] = []
    counts: Counter[str] = Counter()

    def on_change(life: Life, change: BlocksChange) -> None:
        assert life == LIFE
        changes.append(change)

    telling = Telling(LIFE, on_change, lambda what: counts.update([what]))
    for happening in happenings:
        telling.hear(happening)
    return changes, counts


def test_placement_is_told_of_events_and_of_no_empty_batch() -> None:
    events: list[KvEvent] = [BlockRemoved((1,)), AllBlocksCleared()]

    changes, counts = told(Batch(0, EventBatch(1.0, events)), Batch(1, EventBatch(2.0, [])))

    assert changes == [events]
    assert counts == {"batch": 2}


def test_placement_is_told_of_losses_and_of_new_beginnings() -> None:
    changes, counts = told(Lost(3), Lost(None), Restarted.RESTARTED)

    assert changes == ["lost", "lost", "restarted"]
    assert counts == {"loss": 2, "restart": 1}


def test_a_fresh_engine_tells_placement_nothing() -> None:
    assert told(Fresh.FRESH) == ([], Counter())
