"""What the placement process does for all, over links without a network."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from twofold_cluster.identity import Role
from twofold_cluster.worker import WorkerState
from twofold_router.access import Limits, LocalLimiter
from twofold_router.gateway import Dispatcher
from twofold_router.gateway.background import Background, open_background
from twofold_router.http.testing import MemoryTransport
from twofold_router.placement import PlacementSettings, make_placement
from twofold_router.placement.testing import make_request
from twofold_router.processes.gathering import Gathering
from twofold_router.processes.link import Link
from twofold_router.processes.messages import (
    Admit,
    Admitted,
    AskMetrics,
    AskReport,
    Denied,
    Message,
    MetricsText,
    Placed,
    Report,
    Stale,
    Submit,
    Suspect,
    Welcome,
    WorkersChanged,
)
from twofold_router.processes.office import Office, Session, Sessions
from twofold_router.tallies import Tallies
from twofold_router.testing import make_worker

WORKER = make_worker("w", Role.BOTH)
KINDS = (
    *(Admitted, AskReport, Denied, MetricsText, Placed, Stale, Suspect, Welcome),
    WorkersChanged,
)


@dataclass
class Process:
    """The other side of a session, as what it got."""

    session: Session
    transport: MemoryTransport
    received: list[Message]

    async def send(self, *messages: Message) -> None:
        """Have *messages* arrive at the session, and its answers here."""
        link = Link()
        transport = MemoryTransport(link)
        for message in messages:
            link.send(message)
        await asyncio.sleep(0)
        self.session.link.data_received(transport.take())
        await self.hear()

    async def hear(self) -> list[Message]:
        for _ in range(5):  # a task, its end, and the link's flush
            await asyncio.sleep(0)
        link = Link()
        link.receive(dict.fromkeys(KINDS, self.received.append), lambda: None)
        link.data_received(self.transport.take())
        return self.received


class House:
    """An office with a worker, and processes that come."""

    def __init__(self, background: Background) -> None:
        self.is_stale = False
        sessions = Sessions()
        self.dispatcher = Dispatcher(
            make_placement("twofold", PlacementSettings()), clock=lambda: 0.0
        )
        self.dispatcher.follow([WORKER], [])
        self.dispatcher.stale_if(lambda: self.is_stale)
        gathering = Gathering(Tallies(), answer_seconds=60.0)
        limiter = LocalLimiter(clock=lambda: 0.0)
        self.office = Office(sessions, self.dispatcher, limiter, gathering, background)

    def come(self, number: int) -> Process:
        session = Session(self.office, number)
        transport = MemoryTransport(session.link)
        session.begin()
        return Process(session, transport, [])


@asynccontextmanager
async def open_house() -> AsyncIterator[House]:
    async with open_background(60.0) as background:
        yield House(background)


async def test_who_comes_is_welcomed_and_told_of_changes() -> None:
    async with open_house() as house:
        process = house.come(1)
        other = make_worker("x", Role.BOTH)

        house.office.sessions.follow([other], [WORKER])

        assert await process.hear() == [
            Welcome([WORKER], is_stale=False),
            WorkersChanged([other], [WORKER.worker_id]),
        ]


async def test_a_suspicion_is_told_to_all_others_and_to_the_placement() -> None:
    async with open_house() as house:
        one, other = house.come(1), house.come(2)
        suspicion = Suspect(WORKER.worker_id, WORKER.incarnation)

        await one.send(suspicion)

        assert (await other.hear())[1:] == [suspicion]
        assert (await one.hear())[1:] == []
        (marked,) = house.dispatcher._suspects.mark([WORKER], 0.0)
        assert marked.state is WorkerState.DRAINING


async def test_the_limits_of_a_key_are_counted_for_all_together() -> None:
    limits = Limits(requests_per_minute=1)
    async with open_house() as house:
        one, other = house.come(1), house.come(2)

        await one.send(Admit(5, "key", limits, 10))
        await other.send(Admit(5, "key", limits, 10))

        (admitted,), (denied,) = one.received[1:], other.received[1:]
        assert isinstance(admitted, Admitted)
        assert isinstance(denied, Denied)
        assert (admitted.question, denied.question) == (5, 5)
        assert (b"x-ratelimit-limit-requests", b"1") in denied.headers


async def test_metrics_are_of_all_processes() -> None:
    tallies = Tallies({"output_tokens": {(): 3.0}})
    async with open_house() as house:
        one, other = house.come(1), house.come(2)
        await one.send(Report(tallies, 2))
        await other.send(Report(tallies, 5))

        await one.send(AskMetrics(9))
        await other.send(Report(tallies, 6))
        await one.send(Report(tallies, 2))

        assert AskReport() in other.received
        text = one.received[-1]
        assert isinstance(text, MetricsText)
        assert text.question == 9
        assert b"\ntwofold_router_output_tokens_total 6.0\n" in text.text
        assert b"\ntwofold_router_connections 8.0\n" in text.text
        assert b'\ntwofold_router_processes{state="answering"} 2.0\n' in text.text


async def test_who_goes_holds_nothing_and_is_told_nothing_more() -> None:
    async with open_house() as house:
        process = house.come(1)
        await process.send(Submit(make_request("r")))
        before = house.dispatcher.snapshot().placement.in_flight

        process.transport.lose(ConnectionResetError())
        await process.hear()

        assert isinstance(process.received[-1], Placed)
        assert (before, house.dispatcher.snapshot().placement.in_flight) == (1, 0)
        assert not house.office.sessions
        assert (await house.office.gathering.gather()).ended == 1


async def test_a_report_is_a_sign_of_life() -> None:
    async with open_house() as house:
        process = house.come(1)

        await process.send(Suspect(WORKER.worker_id, WORKER.incarnation))
        early = process.session.has_reported()
        await process.send(Report(Tallies(), 0))

        assert not early
        assert process.session.has_reported()
        assert not process.session.has_reported()


async def test_all_are_told_when_the_membership_becomes_stale_and_when_it_no_longer_is() -> None:
    async with open_house() as house:
        process = house.come(1)
        told = [process.received]

        for is_stale in (True, True, False):
            house.is_stale = is_stale
            house.office.tell_if_stale()
            told.append(list((await process.hear())[1:]))

        assert told[1:] == [[Stale(True)], [Stale(True)], [Stale(True), Stale(False)]]
