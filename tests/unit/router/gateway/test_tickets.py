"""A ticket takes and gives back exactly once, whatever happens to the one who waits."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import pytest

from twofold_cluster.errors import Fault, RequestError
from twofold_cluster.identity import Role, WorkerId
from twofold_cluster.worker import Worker
from twofold_router.gateway.tickets import Ticket
from twofold_router.placement import (
    Decision,
    Dispatch,
    Mode,
    Outcome,
    PlacementRequest,
    PromptUsage,
    Reason,
    Refuse,
)
from twofold_router.placement.testing import make_request
from twofold_router.testing.workers import make_worker

D1, D2 = make_worker("d1", Role.DECODE), make_worker("d2", Role.DECODE)
OUTCOME = Outcome(3)


class FakeDesk:
    """Writes down what it is told, and decides when the test says so."""

    def __init__(self) -> None:
        self.deciders: dict[str, Callable[[Decision], None]] = {}
        self.requests: list[PlacementRequest] = []
        self.told: list[tuple[str, object]] = []
        self.at_once: Decision | None = None

    workers: Sequence[Worker] = ()
    models: Mapping[str, str] = MappingProxyType({})
    is_stale = False

    def now(self) -> float:
        return 0.0

    def unique_id(self) -> str:
        return f"u{len(self.requests)}"

    def submit(self, request: PlacementRequest, decide: Callable[[Decision], None]) -> None:
        self.requests.append(request)
        if self.at_once is not None:
            decide(self.at_once)
        else:
            self.deciders[request.request_id] = decide

    def decide(self, decision: Decision) -> None:
        self.deciders.pop(decision.request_id)(decision)

    def cancel(self, request_id: str) -> None:
        del self.deciders[request_id]
        self.told.append(("cancel", request_id))

    def prefilled(self, request_id: str, usage: PromptUsage | None) -> None:
        self.told.append(("prefilled", request_id))

    async def move_decode(self, request_id: str, avoid: frozenset[WorkerId]) -> Worker | None:
        self.told.append(("move", avoid))
        return D2

    def finished(self, request_id: str, outcome: Outcome | None) -> None:
        self.told.append((f"finished {request_id}", outcome))

    def suspect(self, worker: Worker) -> None: ...

    def is_suspect(self, worker: Worker) -> bool:
        return False

    def partner_of(
        self, prefill: Worker, name: str, avoid: frozenset[WorkerId]
    ) -> Worker | None: ...


def dispatch(request_id: str = "r") -> Dispatch:
    return Dispatch(request_id=request_id, prefill=None, decode=D1, mode=Mode.AGGREGATED)


async def until_it_waits(task: "asyncio.Task[object]") -> None:
    await asyncio.sleep(0)
    assert not task.done()


async def test_a_decision_at_once_needs_no_waiting() -> None:
    desk = FakeDesk()
    desk.at_once = dispatch()
    with Ticket(desk, make_request()) as ticket:
        placed = await ticket.place()
        ticket.outcome = OUTCOME

    assert placed == dispatch()
    assert desk.told == [("finished r", OUTCOME)]


async def test_a_later_decision_wakes_the_one_who_waits() -> None:
    desk = FakeDesk()
    with Ticket(desk, make_request()) as ticket:
        placing = asyncio.create_task(ticket.place())
        await until_it_waits(placing)
        desk.decide(dispatch())

        assert await placing == dispatch()
    assert desk.told == [("finished r", None)]


async def test_a_refusal_is_raised_and_nothing_is_given_back() -> None:
    desk = FakeDesk()
    desk.at_once = Refuse("r", Fault.QUEUE_FULL, "too many", 9)
    with Ticket(desk, make_request()) as ticket, pytest.raises(RequestError) as caught:
        await ticket.place()

    assert (caught.value.fault, caught.value.message) == (Fault.QUEUE_FULL, "too many")
    assert caught.value.retry_after_seconds == 9
    assert desk.told == []


async def leave(desk: FakeDesk, *, decide_first: bool, decide_after: bool) -> None:
    """Cancel one who waits, with a decision just before or just after that."""

    async def wait() -> None:
        with Ticket(desk, make_request()) as ticket:
            await ticket.place()

    waiting = asyncio.create_task(wait())
    await until_it_waits(waiting)
    if decide_first:
        desk.decide(dispatch())
    waiting.cancel()
    if decide_after:
        desk.decide(dispatch())
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_one_who_leaves_the_queue_is_cancelled() -> None:
    desk = FakeDesk()
    await leave(desk, decide_first=False, decide_after=False)

    assert desk.told == [("cancel", "r")]


@pytest.mark.parametrize("decide_first", [True, False])
async def test_a_decision_for_one_who_has_just_left_is_given_back(decide_first: bool) -> None:
    desk = FakeDesk()
    await leave(desk, decide_first=decide_first, decide_after=not decide_first)

    assert desk.told == [("finished r", None)]


async def test_a_ticket_that_never_asked_gives_nothing_back() -> None:
    desk = FakeDesk()
    with Ticket(desk, make_request()):
        pass

    assert desk.told == []


async def test_a_place_is_held_until_the_last_task_lets_go() -> None:
    desk = FakeDesk()
    desk.at_once = dispatch()
    end = asyncio.Event()
    task: asyncio.Task[object] = asyncio.create_task(end.wait())
    with Ticket(desk, make_request()) as ticket:
        await ticket.place()
        ticket.hold_for(task)
    held = list(desk.told)
    end.set()
    await task
    await asyncio.sleep(0)

    assert held == []
    assert desk.told == [("finished r", None)]


async def test_another_place_is_asked_for_under_a_new_id_when_the_first_is_given_back() -> None:
    desk = FakeDesk()
    desk.at_once = dispatch()
    avoid = frozenset({D1.worker_id})
    with Ticket(desk, make_request(separable=True)) as ticket:
        await ticket.place()
        desk.at_once = dispatch("u1")
        again = await ticket.place_again(Reason.PREFILL_FAILED, avoid, separable=False)
        between = list(desk.told)

    first, second = desk.requests
    assert again.request_id == second.request_id == "u1" != first.request_id
    assert (second.cause, second.avoid, second.separable) == (Reason.PREFILL_FAILED, avoid, False)
    assert (second.key, second.arrived_at) == (first.key, first.arrived_at)
    assert between == [("finished r", None)]
    assert desk.told == [*between, ("finished u1", None)]


async def test_one_who_leaves_while_waiting_again_is_cancelled_once() -> None:
    desk = FakeDesk()
    desk.at_once = dispatch()

    async def wait() -> None:
        with Ticket(desk, make_request()) as ticket:
            await ticket.place()
            desk.at_once = None
            await ticket.place_again(Reason.PREFILL_FAILED, frozenset(), separable=True)

    waiting = asyncio.create_task(wait())
    await until_it_waits(waiting)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting

    assert desk.told == [("finished r", None), ("cancel", "u1")]


async def test_what_is_told_of_a_request_has_the_id_of_its_last_place() -> None:
    desk = FakeDesk()
    desk.at_once = dispatch()
    with Ticket(desk, make_request()) as ticket:
        await ticket.place()
        ticket.prefilled(None)
        moved = await ticket.move_decode(frozenset({D1.worker_id}))
        await ticket.place_again(Reason.TRANSFER_FAILED, frozenset(), separable=False)
        ticket.prefilled(PromptUsage(1))

    assert moved == D2
    prefilled = [value for what, value in desk.told if what == "prefilled"]
    assert prefilled == ["r", "u1"]
