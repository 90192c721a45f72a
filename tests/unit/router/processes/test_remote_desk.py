"""What a desk does by itself: its copy of the workers, and what it says when nobody places."""

import asyncio

import msgspec

from twofold_cluster.errors import Fault
from twofold_cluster.identity import Role
from twofold_cluster.worker import Worker
from twofold_router.placement import Decision, Refuse
from twofold_router.placement.testing import make_request
from twofold_router.processes.messages import (
    DecodeMoved,
    Message,
    MoveDecode,
    Stale,
    Submit,
    Suspect,
    Welcome,
    WorkersChanged,
)
from twofold_router.processes.remote_desk import RemoteDesk
from twofold_router.testing import MODEL, make_worker

PREFILL = make_worker("p", Role.PREFILL)
DECODE = make_worker("d", Role.DECODE)
OTHER = make_worker("e", Role.DECODE)


class Desk(RemoteDesk):
    """A desk whose messages are seen, at a time that is set."""

    def __init__(self, process: int = 1) -> None:
        self.sent: list[Message] = []
        self.time = 0.0
        super().__init__(process, self.sent.append, suspect_seconds=1.0, clock=lambda: self.time)

    def hear(self, message: Message) -> None:
        self.handlers()[type(message)](message)


def welcomed(*workers: Worker) -> Desk:
    desk = Desk()
    desk.hear(Welcome(list(workers), is_stale=False))
    return desk


def test_a_desk_knows_what_it_was_told_of_workers() -> None:
    desk = welcomed(PREFILL, DECODE)
    again = msgspec.structs.replace(DECODE, incarnation="2")

    desk.hear(WorkersChanged([again, OTHER], [PREFILL.worker_id]))
    desk.hear(Stale(is_stale=True))

    assert set(desk.workers) == {again, OTHER}
    assert desk.is_stale
    assert desk.welcomed.is_set()


def test_ids_are_unique_over_all_processes() -> None:
    desks = [Desk(process) for process in (1, 11, 111)]

    ids = [desk.unique_id() for desk in desks for _ in range(120)]

    assert len(set(ids)) == len(ids)


def test_a_partner_is_of_the_same_party_and_not_avoided() -> None:
    stranger = make_worker("s", Role.DECODE, revision="r2")
    desk = welcomed(PREFILL, stranger, DECODE)

    assert desk.partner_of(PREFILL, MODEL, frozenset()) == DECODE
    assert desk.partner_of(PREFILL, MODEL, frozenset({DECODE.worker_id})) is None


def test_a_suspect_is_told_of_and_nobodys_partner_for_a_while() -> None:
    desk = welcomed(PREFILL, DECODE)

    desk.suspect(DECODE)

    assert desk.sent == [Suspect(DECODE.worker_id, DECODE.incarnation)]
    assert desk.partner_of(PREFILL, MODEL, frozenset()) is None
    desk.time = 1.0
    assert desk.partner_of(PREFILL, MODEL, frozenset()) == DECODE


def test_suspicions_of_others_count_and_those_of_an_earlier_life_do_not() -> None:
    desk = welcomed(PREFILL, DECODE)

    desk.hear(Suspect(DECODE.worker_id, make_worker("x", Role.BOTH, incarnation="0").incarnation))
    early = desk.partner_of(PREFILL, MODEL, frozenset())
    desk.hear(Suspect(DECODE.worker_id, DECODE.incarnation))

    assert (early, desk.partner_of(PREFILL, MODEL, frozenset())) == (DECODE, None)


async def test_a_move_is_answered_with_a_worker_or_none() -> None:
    desk = welcomed(PREFILL, DECODE, OTHER)
    moves = [asyncio.create_task(desk.move_decode(name, frozenset())) for name in ("a", "b")]
    await asyncio.sleep(0)

    desk.hear(DecodeMoved("b", None))
    desk.hear(DecodeMoved("a", OTHER.worker_id))

    assert [await move for move in moves] == [OTHER, None]
    assert desk.sent == [MoveDecode("a", frozenset()), MoveDecode("b", frozenset())]


async def test_an_answer_for_a_move_that_nobody_awaits_is_ignored() -> None:
    desk = welcomed(DECODE)
    move = asyncio.create_task(desk.move_decode("a", frozenset()))
    await asyncio.sleep(0)
    move.cancel()

    desk.hear(DecodeMoved("a", DECODE.worker_id))
    await asyncio.wait([move])
    desk.hear(DecodeMoved("a", DECODE.worker_id))

    assert move.cancelled()


async def test_without_a_placement_process_all_are_refused_at_once() -> None:
    desk = welcomed(DECODE)
    decisions: list[Decision] = []
    desk.submit(make_request("a"), decisions.append)
    move = asyncio.create_task(desk.move_decode("b", frozenset()))
    await asyncio.sleep(0)

    desk.lose()
    desk.submit(make_request("c"), decisions.append)

    async with asyncio.timeout(5):
        assert await move is None
        assert await desk.move_decode("d", frozenset()) is None
    assert [each.request_id for each in decisions] == ["a", "c"]
    for decision in decisions:
        assert isinstance(decision, Refuse)
        assert decision.fault is Fault.DRAINING
        assert decision.retry_after_seconds == 1
    assert desk.is_stale
    assert [type(each) for each in desk.sent] == [Submit, MoveDecode]


def test_a_desk_that_is_lost_before_it_was_welcomed_lets_nobody_wait() -> None:
    desk = Desk()

    desk.lose()

    assert desk.welcomed.is_set()
    assert not desk.workers
