"""The desk of one process, before the real placement, on a clock that the test winds."""

import asyncio
import itertools
from typing import Any

import msgspec

from twofold_cluster.errors import Fault
from twofold_cluster.identity import Role
from twofold_cluster.worker import Worker, WorkerState
from twofold_router.gateway import Dispatcher
from twofold_router.gateway.tickets import Ticket
from twofold_router.placement import (
    Decision,
    Dispatch,
    Outcome,
    PlacementRequest,
    PlacementSettings,
    Refuse,
    make_placement,
)
from twofold_router.placement.testing import make_key, make_request
from twofold_router.testing.workers import MODEL, make_worker

P1, P2 = make_worker("p1", Role.PREFILL), make_worker("p2", Role.PREFILL)
D1, D2 = make_worker("d1", Role.DECODE), make_worker("d2", Role.DECODE)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Desk:
    """A dispatcher, its clock, and the decisions about what was submitted."""

    def __init__(self, *workers: Worker, suspect_seconds: float = 1.0, **settings: Any) -> None:
        self.clock = Clock()
        self.seconds: list[float] = []
        self.dispatcher = Dispatcher(
            make_placement("twofold", PlacementSettings(**settings)),
            suspect_seconds=suspect_seconds,
            clock=self.clock,
            observe=self.seconds.append,
        )
        self.dispatcher.follow(workers, [])
        self.decisions: dict[str, Decision] = {}

    def submit(self, request_id: str, **changes: Any) -> Decision | None:
        request = self.request(request_id, **changes)

        def decide(decision: Decision) -> None:
            assert request_id not in self.decisions, "decided twice"
            self.decisions[request_id] = decision

        self.dispatcher.submit(request, decide)
        return self.decisions.get(request_id)

    def request(self, request_id: str, **changes: Any) -> PlacementRequest:
        values = {"arrived_at": self.clock.now, "deadline_at": self.clock.now + 600.0} | changes
        return make_request(request_id, **values)

    def dispatched(self, request_id: str, **changes: Any) -> Dispatch:
        decision = self.submit(request_id, **changes)
        assert isinstance(decision, Dispatch), decision
        return decision

    def counts(self) -> tuple[int, int]:
        now = self.dispatcher.snapshot().placement
        return now.queued, now.in_flight

    def pass_time(self, seconds: float) -> None:
        """Let time pass, and the placement know."""
        self.clock.now += seconds
        self.dispatcher._tell(self.dispatcher._placement.tick(self.clock.now))


async def test_a_request_is_decided_at_once_where_there_is_room() -> None:
    desk = Desk(P1, D1)
    decision = desk.dispatched("a")

    assert (decision.prefill, decision.decode) == (P1, D1)
    assert desk.counts() == (0, 1)
    assert len(desk.seconds) == 1
    desk.dispatcher.finished("a", Outcome(1))
    assert desk.counts() == (0, 0)


async def test_one_that_ends_decides_about_one_that_waits() -> None:
    desk = Desk(P1, D1, max_unprefilled_tokens=1)
    desk.submit("a")
    before = desk.submit("b")
    desk.dispatcher.prefilled("a", None)

    assert before is None
    assert isinstance(desk.decisions["b"], Dispatch)
    assert desk.counts() == (0, 2)


async def test_a_worker_that_joins_takes_what_waits() -> None:
    desk = Desk(P1, D1, max_unprefilled_tokens=1)
    for name in "abcdef":
        desk.submit(name)
    desk.dispatcher.follow([P2], [])

    placed = [each for each in desk.decisions.values() if isinstance(each, Dispatch)]
    assert {each.prefill for each in placed} == {P1, P2}


async def test_one_that_is_cancelled_is_never_decided() -> None:
    desk = Desk(P1, D1, max_unprefilled_tokens=1)
    desk.submit("a")
    desk.submit("b")
    desk.dispatcher.cancel("b")
    desk.dispatcher.prefilled("a", None)

    assert "b" not in desk.decisions
    assert desk.counts() == (0, 1)
    assert not desk.dispatcher._deciders


async def test_time_alone_refuses_one_that_waited_too_long() -> None:
    desk = Desk(P1, D1, max_unprefilled_tokens=1)
    desk.submit("a")
    desk.submit("b", deadline_at=desk.clock.now + 5.0)
    desk.pass_time(4.0)
    in_time = desk.decisions.get("b")
    desk.pass_time(2.0)

    decision = desk.decisions["b"]
    assert in_time is None
    assert isinstance(decision, Refuse)
    assert decision.fault is Fault.DEADLINE_EXCEEDED


async def test_without_workers_a_request_is_refused() -> None:
    decision = Desk().submit("a")

    assert isinstance(decision, Refuse)
    assert decision.fault is Fault.NO_WORKER


async def test_a_suspect_gets_nothing_new_and_keeps_what_it_has() -> None:
    desk = Desk(P1, P2, D1)
    first = desk.dispatched("a").prefill
    assert first is not None
    other = P2 if first == P1 else P1
    desk.dispatcher.suspect(first)
    placed = {desk.dispatched(name, key=make_key(name)).prefill for name in "bcdefghi"}

    assert placed == {other}
    assert desk.counts() == (0, 9)
    assert first in desk.dispatcher.workers, "the list of workers stays as it was told"


async def test_a_suspect_is_trusted_again_by_itself() -> None:
    desk = Desk(P1, D1, suspect_seconds=0.001)
    desk.dispatcher.suspect(P1)
    during = desk.dispatched("during").prefill
    desk.clock.now += 0.002
    names = (f"after {number}" for number in itertools.count())
    short = make_key(rest_tokens=1)  # so that nobody has to wait for the decode worker
    async with asyncio.timeout(5):
        while (after := desk.dispatched(next(names), key=short).prefill) is None:
            await asyncio.sleep(0)

    assert (during, after) == (None, P1)


async def test_what_is_said_of_a_suspect_makes_it_no_better() -> None:
    desk = Desk(P1, D1, suspect_seconds=60.0)
    desk.dispatcher.suspect(P1)
    desk.dispatcher.follow([msgspec.structs.replace(P1, revision="r1")], [])

    assert desk.dispatched("a").prefill is None


async def test_a_new_life_of_a_suspect_is_trusted() -> None:
    desk = Desk(P1, D1, suspect_seconds=60.0)
    desk.dispatcher.suspect(P1)
    anew = make_worker("p1", Role.PREFILL, incarnation="2")
    desk.dispatcher.follow([anew], [])
    desk.dispatcher.suspect(P1)

    assert desk.dispatched("a").prefill == anew


async def test_one_that_has_gone_is_not_suspected() -> None:
    desk = Desk(P1, D1)
    desk.dispatcher.follow([], [P1])
    desk.dispatcher.suspect(P1)

    assert list(desk.dispatcher.workers) == [D1]
    assert desk.dispatched("a").prefill is None


async def test_a_partner_can_read_the_blocks() -> None:
    strange = make_worker("d0", Role.DECODE, compatibility="other")
    older = make_worker("d00", Role.DECODE, revision="r0")
    draining = msgspec.structs.replace(D1, state=WorkerState.DRAINING)
    desk = Desk(P1, P2, strange, older, draining, D2, suspect_seconds=60.0)
    partner_of = desk.dispatcher.partner_of
    first = partner_of(P1, MODEL, frozenset())
    avoided = partner_of(P1, MODEL, frozenset({D2.worker_id}))
    desk.dispatcher.suspect(D2)
    suspected = partner_of(P1, MODEL, frozenset())

    assert (first, avoided, suspected) == (D2, None, None)


async def test_a_partner_may_be_on_standby_and_must_have_the_adapter() -> None:
    adapted = msgspec.structs.replace(D1, adapters=("tuned",), state=WorkerState.STANDBY)
    desk = Desk(P1, D2, adapted)

    assert desk.dispatcher.partner_of(P1, "tuned", frozenset()) == adapted


async def test_a_worker_of_both_roles_is_no_partner_of_its_own() -> None:
    both = make_worker("b1", Role.BOTH)
    desk = Desk(both)

    assert desk.dispatcher.partner_of(both, MODEL, frozenset()) is None


def test_ids_in_the_placement_are_unique() -> None:
    desk = Desk()

    assert len({desk.dispatcher.unique_id() for _ in range(1000)}) == 1000


async def test_a_dispatched_request_may_move_its_decode() -> None:
    desk = Desk(P1, D1, D2)
    first = desk.dispatched("a").decode
    other = D2 if first == D1 else D1
    moved = await desk.dispatcher.move_decode("a", frozenset({first.worker_id}))
    nowhere = await desk.dispatcher.move_decode("a", frozenset({D1.worker_id, D2.worker_id}))

    assert (moved, nowhere) == (other, None)
    desk.dispatcher.finished("a", None)
    assert desk.counts() == (0, 0)


async def test_the_membership_may_be_stale() -> None:
    desk = Desk()
    before = desk.dispatcher.is_stale
    desk.dispatcher.stale_if(lambda: True)

    assert (before, desk.dispatcher.is_stale) == (False, True)


async def test_one_who_leaves_in_the_moment_of_its_decision_holds_nothing() -> None:
    desk = Desk(P1, D1, max_unprefilled_tokens=1)

    async def wait(request_id: str) -> None:
        with Ticket(desk.dispatcher, desk.request(request_id)) as ticket:
            await ticket.place()
            await asyncio.Event().wait()

    first = asyncio.create_task(wait("a"))
    second = asyncio.create_task(wait("b"))
    third = asyncio.create_task(wait("c"))
    await asyncio.sleep(0)
    queued = desk.counts()
    desk.dispatcher.prefilled("a", None)  # decides about the second,
    second.cancel()  # which has not run since
    await asyncio.sleep(0)
    await asyncio.sleep(0)

    assert queued == (2, 1)
    assert desk.counts() == (0, 2), "the third has the place of the second"
    for task in (first, third):
        task.cancel()
    await asyncio.wait([first, second, third])
    assert desk.counts() == (0, 0)
