import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import cast

import pytest
from tests.unit.kvtransfer.fakes import FakeDigester, FakeTransfer

from twofold_kvtransfer import pulling
from twofold_kvtransfer.avoiding import FIRST_WAIT_SECONDS
from twofold_kvtransfer.blocks import InvalidBlocksError, Move
from twofold_kvtransfer.digesting import Digester
from twofold_kvtransfer.links import Link, LinkError, Links, Seen
from twofold_kvtransfer.prefixes import Outcome, PrefixSource, Pull, Pulled
from twofold_kvtransfer.pulling import Puller
from twofold_kvtransfer.sources import Peer
from twofold_kvtransfer.transports import Transfer, TransferState, tcp

BLOCK_TOKENS = 4
BLOCK_BYTES = 100
NAMES = (b"a", b"b", b"c")
LOCAL = (1, 2, 3)
REMOTE = (7, 5, 6)
NEVER = 3600.0
"""Seconds for a token: computing takes so long that nothing is late."""


class FakePeer:
    """The links, and the one link."""

    def __init__(self) -> None:
        self.transfer = FakeTransfer(TransferState.DONE)
        self.held: tuple[int, ...] = REMOTE
        """The blocks of the first of ``NAMES``."""
        self.predicted_seconds = 0.0
        self.told: list[int] | None = [9]
        self.errors: dict[str, Exception] = {}
        """What each of the methods raises."""
        self.may: dict[str, asyncio.Event] = {}
        """What each of the methods waits for."""
        self.reached: list[str] = []
        """The methods, in the order in which they were called."""
        self.asked: list[tuple[bytes, ...]] = []
        self.moves: list[Move] = []
        self.predicted: list[tuple[int, float]] = []
        self.rechecked: list[tuple[Seen, bool]] = []
        self.noted: list[TransferState] = []
        self.closed_for: str | None = None

    async def to(self, peer: Peer) -> Link:
        await self._pass("to")
        return cast("Link", self)

    async def look(self, names: Sequence[bytes]) -> Seen:
        self.asked.append(tuple(names))
        await self._pass("look")
        held = dict(zip(NAMES, self.held, strict=False))
        seen = tuple(name for name in names if name in held)
        return Seen(seen, tuple(held[name] for name in seen), (1,) * len(seen))

    def predict_seconds(self, size_bytes: int, unmeasured_bytes_per_second: float) -> float:
        self.predicted.append((size_bytes, unmeasured_bytes_per_second))
        return self.predicted_seconds

    def read(self, move: Move) -> FakeTransfer:
        self.reached.append("read")
        if "read" in self.errors:
            raise self.errors["read"]
        self.moves.append(move)
        return self.transfer

    async def recheck(self, seen: Seen, *, digest: bool) -> list[int] | None:
        self.rechecked.append((seen, digest))
        await self._pass("recheck")
        return self.told

    def note(self, transfer: FakeTransfer) -> None:
        self.noted.append(transfer.poll())

    def close(self, reason: str) -> None:
        self.closed_for = reason

    async def _pass(self, what: str) -> None:
        self.reached.append(what)
        if what in self.may:
            await self.may[what].wait()
        if what in self.errors:
            raise self.errors[what]


class Rig:
    def __init__(self, tasks: asyncio.TaskGroup, verifies: bool, limit_seconds: float) -> None:
        self.peer = FakePeer()
        self.digester = FakeDigester(9)
        self.pulled: list[Pulled] = []
        self.arrived: list[Transfer] = []
        self.now = 1000.0
        self.puller = Puller(
            cast("Links", self.peer),
            tasks,
            block_bytes=BLOCK_BYTES,
            unmeasured_bytes_per_second=1e9,
            limit_seconds=limit_seconds,
            pulled=self.pulled.append,
            arrived=self.arrived.append,
            digester=cast("Digester", self.digester) if verifies else None,
            letting_go_seconds=0.0,
            clock=lambda: self.now,
        )

    async def pull(
        self, seconds_per_token: float = NEVER, request_id: str = "r", *, follow: bool = False
    ) -> None:
        source = PrefixSource(
            engine_id="p:1",
            host="host",
            port=5600,
            tokens=len(NAMES) * BLOCK_TOKENS,
            seconds_per_token=seconds_per_token,
            follow=follow,
        )
        self.puller.pull(Pull(request_id, source, NAMES, LOCAL, BLOCK_TOKENS))
        await turns()


@asynccontextmanager
async def rigged(*, verifies: bool = False, limit_seconds: float = 1000.0) -> AsyncIterator[Rig]:
    async with asyncio.TaskGroup() as tasks:
        yield Rig(tasks, verifies, limit_seconds)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> float:
    """Return the seconds for a token with which a pull is late as soon as it has to wait."""
    monkeypatch.setattr(pulling, "LEAST_SECONDS", 0.0)
    return 1e-12


async def turns(count: int = 20) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def until_pulled(rig: Rig) -> None:
    while not rig.pulled:
        await asyncio.sleep(0)


async def test_what_the_source_holds_is_read_into_the_blocks_that_are_for_it() -> None:
    async with rigged() as rig:
        rig.peer.transfer.state = TransferState.MOVING
        await rig.pull()
        assert rig.pulled == []
        rig.now += 0.25
        rig.peer.transfer.state = TransferState.DONE

    assert rig.peer.asked == [NAMES]
    assert rig.peer.moves == [Move(LOCAL, REMOTE)]
    assert rig.peer.rechecked == [(Seen(NAMES, REMOTE, (1, 1, 1)), False)]
    assert rig.peer.noted == [TransferState.DONE]
    assert rig.arrived == [rig.peer.transfer]
    assert rig.pulled == [Pulled("r", Outcome.PULLED, 3, 0.25)]


async def test_of_what_the_source_holds_in_part_the_first_blocks_are_read() -> None:
    async with rigged() as rig:
        rig.peer.held = REMOTE[:2]
        await rig.pull()

    assert rig.peer.moves == [Move(LOCAL[:2], REMOTE[:2])]
    assert rig.pulled == [Pulled("r", Outcome.PULLED, 2)]


async def test_nothing_is_read_from_a_source_that_holds_nothing() -> None:
    async with rigged() as rig:
        rig.peer.held = ()
        await rig.pull()

    assert rig.peer.reached == ["to", "look"]
    assert rig.pulled == [Pulled("r", Outcome.ABSENT)]


@pytest.mark.parametrize(
    ("held", "predicted_seconds", "outcome"),
    [(3, 11.99, Outcome.PULLED), (3, 12.0, Outcome.SLOWER), (2, 8.0, Outcome.SLOWER)],
)
async def test_what_computing_has_sooner_is_not_read(
    held: int, predicted_seconds: float, outcome: Outcome
) -> None:
    async with rigged() as rig:
        rig.peer.held = REMOTE[:held]
        rig.peer.predicted_seconds = predicted_seconds
        await rig.pull(seconds_per_token=1.0)

    assert rig.peer.predicted == [(held * BLOCK_BYTES, 1e9)]
    assert [one.outcome for one in rig.pulled] == [outcome]
    assert len(rig.peer.moves) == (outcome is Outcome.PULLED)


async def test_blocks_that_changed_meanwhile_are_none() -> None:
    async with rigged(verifies=True) as rig:
        rig.peer.told = None
        await rig.pull()

    assert rig.digester.asked == []
    assert len(rig.arrived) == 1  # it moved, in vain
    assert rig.pulled == [Pulled("r", Outcome.CHANGED)]


async def test_blocks_are_asked_for_again_only_when_they_have_arrived() -> None:
    async with rigged() as rig:
        rig.peer.transfer.state = TransferState.MOVING
        await rig.pull()
        assert rig.peer.rechecked == []
        rig.peer.transfer.state = TransferState.DONE


@pytest.mark.parametrize(
    ("what", "error"),
    [
        ("to", LinkError("gone")),
        ("look", LinkError("gone")),
        ("read", InvalidBlocksError("no such blocks")),
        ("recheck", LinkError("gone")),
    ],
)
async def test_a_source_that_cannot_be_used_costs_no_more_than_the_pull(
    what: str, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    async with rigged() as rig:
        rig.peer.errors[what] = error
        await rig.pull()
        assert rig.pulled == [Pulled("r", Outcome.FAILED)]
        rig.peer.errors.clear()
        rig.now += FIRST_WAIT_SECONDS
        await rig.pull()

    assert rig.pulled[1:] == [Pulled("r", Outcome.PULLED, 3)]
    assert f"prefix of r not pulled: {error}" in caplog.text


@pytest.mark.parametrize(
    ("reason", "outcome"),
    [
        ("peer-lost: a checksum is not the matter", Outcome.FAILED),
        (f"{tcp.Failure.CHECKSUM}: of a run", Outcome.DAMAGED),
    ],
)
async def test_what_does_not_arrive_is_not_asked_for_again(reason: str, outcome: Outcome) -> None:
    async with rigged() as rig:
        rig.peer.transfer.state = TransferState.MOVING
        await rig.pull()
        rig.peer.transfer.fail(reason)

    assert rig.peer.noted == [TransferState.FAILED]
    assert rig.peer.rechecked == []
    assert rig.pulled == [Pulled("r", outcome)]


@pytest.mark.parametrize(("found", "outcome"), [(9, Outcome.PULLED), (8, Outcome.DAMAGED)])
async def test_what_arrived_is_compared_with_what_is_there(found: int, outcome: Outcome) -> None:
    async with rigged(verifies=True) as rig:
        rig.peer.held = REMOTE[:2]
        rig.digester.found = [found]
        await rig.pull()

    assert rig.peer.rechecked == [(Seen(NAMES[:2], REMOTE[:2], (1, 1)), True)]
    assert rig.digester.asked == [LOCAL[:2]]
    count = 2 if outcome is Outcome.PULLED else 0
    assert rig.pulled == [Pulled("r", outcome, count)]


@pytest.mark.parametrize("what", ["to", "look"])
async def test_a_source_that_does_not_answer_is_waited_for_no_longer_than_computing_takes(
    what: str, impatient: float
) -> None:
    async with rigged() as rig:
        rig.peer.may[what] = asyncio.Event()
        await rig.pull(seconds_per_token=impatient)
        await until_pulled(rig)
        rig.peer.may[what].set()

    assert rig.peer.moves == []
    assert rig.pulled == [Pulled("r", Outcome.LATE)]


async def test_blocks_that_are_too_slow_are_cancelled(impatient: float) -> None:
    async with rigged() as rig:
        rig.peer.transfer.state = TransferState.MOVING
        await rig.pull(seconds_per_token=impatient)

    assert rig.peer.transfer.was_cancelled
    assert rig.peer.closed_for is None
    assert rig.peer.noted == [TransferState.FAILED]
    assert rig.pulled == [Pulled("r", Outcome.LATE)]


async def test_a_late_pull_has_not_ended_while_its_blocks_may_be_written(impatient: float) -> None:
    async with rigged() as rig:
        rig.peer.transfer.state = TransferState.MOVING
        rig.peer.transfer.heeds_cancel = False
        await rig.pull(seconds_per_token=impatient)
        while rig.peer.closed_for is None:
            await asyncio.sleep(0)
        await turns()
        assert rig.pulled == []
        assert rig.peer.noted == []
        rig.peer.transfer.fail("closed")

    assert rig.peer.noted == [TransferState.FAILED]
    assert rig.pulled == [Pulled("r", Outcome.LATE)]


async def test_blocks_of_which_nobody_says_that_they_are_the_same_come_late(
    impatient: float,
) -> None:
    async with rigged() as rig:
        rig.peer.may["recheck"] = asyncio.Event()
        await rig.pull(seconds_per_token=impatient)
        await until_pulled(rig)

    assert not rig.peer.transfer.was_cancelled
    assert rig.peer.noted == [TransferState.DONE]
    assert rig.pulled == [Pulled("r", Outcome.LATE)]


@pytest.mark.parametrize(("least_seconds", "seconds_per_token"), [(0.0, NEVER), (1000.0, 1e-12)])
async def test_a_pull_is_waited_for_as_long_as_computing_takes_and_a_little_at_least(
    least_seconds: float, seconds_per_token: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pulling, "LEAST_SECONDS", least_seconds)
    async with rigged() as rig:
        rig.peer.predicted_seconds = -1.0
        rig.peer.may["look"] = asyncio.Event()
        await rig.pull(seconds_per_token)
        assert rig.pulled == []
        rig.peer.may["look"].set()

    assert rig.pulled == [Pulled("r", Outcome.PULLED, 3)]


@pytest.mark.parametrize("what", ["to", "look"])
async def test_a_source_that_hangs_is_waited_for_by_one_pull_and_then_asked_by_one_at_a_time(
    what: str, impatient: float
) -> None:
    async with rigged() as rig:
        rig.peer.may[what] = asyncio.Event()
        await rig.pull(impatient)
        await until_pulled(rig)
        for wait_seconds in (FIRST_WAIT_SECONDS, 2 * FIRST_WAIT_SECONDS):
            rig.peer.reached.clear()
            rig.now += 0.99 * wait_seconds
            await rig.pull(request_id="early")
            assert rig.pulled.pop() == Pulled("early", Outcome.AVOIDED)
            assert rig.peer.reached == []
            rig.now += 0.01 * wait_seconds
            rig.pulled.clear()
            await rig.pull(impatient, request_id="probe")
            await until_pulled(rig)
            assert rig.pulled.pop() == Pulled("probe", Outcome.LATE)
        rig.peer.may[what].set()


@pytest.mark.parametrize(("error", "outcome"), [(None, "pulled"), (LinkError("no"), "avoided")])
async def test_a_source_that_is_late_for_its_link_is_asked_again_as_soon_as_that_is_open(
    error: LinkError | None, outcome: str, impatient: float
) -> None:
    async with rigged() as rig:
        rig.peer.may["to"] = asyncio.Event()
        await rig.pull(impatient)
        await until_pulled(rig)
        await rig.pull(request_id="too early")
        if error is not None:
            rig.peer.errors["to"] = error
        rig.peer.may["to"].set()
        await turns()
        await rig.pull(request_id="later")

    assert [one.outcome for one in rig.pulled] == [Outcome.LATE, Outcome.AVOIDED, outcome]


async def test_a_source_that_is_late_for_its_answer_is_avoided_though_its_link_is_open(
    impatient: float,
) -> None:
    async with rigged() as rig:
        rig.peer.may["look"] = asyncio.Event()
        await rig.pull(impatient)
        await until_pulled(rig)
        rig.peer.may["look"].set()
        await turns()
        await rig.pull(request_id="later")

    assert [one.outcome for one in rig.pulled] == [Outcome.LATE, Outcome.AVOIDED]


async def test_a_source_that_failed_is_avoided_until_it_has_answered() -> None:
    async with rigged() as rig:
        rig.peer.errors["look"] = LinkError("gone")
        await rig.pull()
        rig.peer.errors.clear()
        await rig.pull()
        rig.now += FIRST_WAIT_SECONDS
        rig.peer.may["recheck"] = asyncio.Event()
        await rig.pull(request_id="probe")
        await rig.pull(request_id="beside")
        rig.peer.may["recheck"].set()
        await turns()
        await rig.pull(request_id="later")

    assert [(one.request_id, one.outcome) for one in rig.pulled] == [
        ("r", Outcome.FAILED),
        ("r", Outcome.AVOIDED),
        ("beside", Outcome.AVOIDED),
        ("probe", Outcome.PULLED),
        ("later", Outcome.PULLED),
    ]


@pytest.mark.parametrize("answer", ["absent", "slower", "changed", "damaged"])
async def test_a_source_that_says_no_has_answered(answer: str) -> None:
    async with rigged(verifies=answer == "damaged") as rig:
        rig.peer.errors["look"] = LinkError("gone")
        await rig.pull()
        rig.peer.errors.clear()
        rig.now += FIRST_WAIT_SECONDS
        rig.peer.held = () if answer == "absent" else REMOTE
        rig.peer.predicted_seconds = 2 * NEVER * 12 if answer == "slower" else 0.0
        rig.peer.told = None if answer == "changed" else [8]
        for _ in range(2):
            await rig.pull()

    assert [one.outcome for one in rig.pulled] == [Outcome.FAILED, answer, answer]


async def test_a_pull_that_was_dropped_says_nothing_of_its_source() -> None:
    async with rigged() as rig:
        rig.peer.may["look"] = asyncio.Event()
        await rig.pull()
        rig.puller.drop("r")
        await turns()
        rig.peer.may["look"].set()
        await rig.pull()

    assert [one.outcome for one in rig.pulled] == [Outcome.DROPPED, Outcome.PULLED]


async def test_a_source_that_failed_is_followed_all_the_same() -> None:
    async with rigged() as rig:
        rig.peer.errors["look"] = LinkError("gone")
        await rig.pull(follow=True)
        await rig.pull()
        rig.peer.errors.clear()
        await rig.pull(follow=True)

    assert [one.outcome for one in rig.pulled] == [
        Outcome.FAILED,
        Outcome.FAILED,
        Outcome.PULLED,
        Outcome.PULLED,
    ]


async def test_pulls_do_not_wait_for_each_other() -> None:
    async with rigged() as rig:
        first = rig.peer.may["look"] = asyncio.Event()
        await rig.pull(request_id="first")
        del rig.peer.may["look"]
        await rig.pull(request_id="second")
        assert [one.request_id for one in rig.pulled] == ["second"]
        first.set()

    assert [one.request_id for one in rig.pulled] == ["second", "first"]


async def test_a_pull_is_waited_for_no_longer_than_a_fetch() -> None:
    async with rigged(limit_seconds=0.0) as rig:
        rig.peer.may["look"] = asyncio.Event()
        await rig.pull(NEVER)
        await until_pulled(rig)

    assert rig.pulled == [Pulled("r", Outcome.LATE)]


@pytest.mark.parametrize("follow", [True, False])
async def test_a_pull_that_is_dropped_ends_when_its_blocks_are_written_no_more(
    follow: bool,
) -> None:
    async with rigged() as rig:
        rig.peer.transfer.state = TransferState.MOVING
        rig.peer.transfer.heeds_cancel = False
        await rig.pull(follow=follow)
        rig.puller.drop("other")
        await turns()
        was_cancelled = [rig.peer.transfer.was_cancelled]
        for _ in range(2):
            rig.puller.drop("r")
            await turns()
        was_cancelled.append(rig.peer.transfer.was_cancelled)
        assert was_cancelled == [False, True]
        assert rig.pulled == []
        rig.peer.transfer.fail("cancelled")
        await until_pulled(rig)
        rig.puller.drop("r")

    assert rig.pulled == [Pulled("r", Outcome.DROPPED)]


@pytest.mark.parametrize("follow", [True, False])
async def test_to_drop_a_pull_that_has_ended_does_nothing(follow: bool) -> None:
    async with rigged() as rig:
        await rig.pull(follow=follow)
        pulled = list(rig.pulled)
        rig.puller.drop("r")
        await turns()

    assert pulled[-1] == Pulled("r", Outcome.PULLED, 3)
    assert rig.pulled == pulled


async def test_a_pull_that_is_dropped_at_once_ends_too() -> None:
    async with rigged() as rig:
        may_look = rig.peer.may["look"] = asyncio.Event()
        pull = asyncio.create_task(rig.pull())
        await asyncio.sleep(0)  # it is wished for, and has not begun
        rig.puller.drop("r")
        await pull
        pulled = list(rig.pulled)
        may_look.set()

    assert pulled == [Pulled("r", Outcome.DROPPED)]


async def test_what_a_source_computes_is_taken_as_it_comes() -> None:
    async with rigged(verifies=True) as rig:
        rig.peer.held = ()
        await rig.pull(1e-12, follow=True)  # it is not for what computing would cost here
        assert (rig.pulled, rig.peer.moves) == ([], [])
        rig.peer.held = REMOTE[:2]
        await until_pulled(rig)
        rig.peer.held = REMOTE

    assert rig.peer.asked[0] == NAMES
    assert rig.peer.asked[-1] == NAMES[2:]
    assert rig.peer.moves == [Move(LOCAL[:2], REMOTE[:2]), Move(LOCAL[2:], REMOTE[2:])]
    assert rig.digester.asked == [LOCAL[:2], LOCAL[2:]]
    assert len(rig.arrived) == 2
    assert rig.pulled == [
        Pulled("r", Outcome.PULLED, 2, is_last=False),
        Pulled("r", Outcome.PULLED, 3, is_last=False),
        Pulled("r", Outcome.PULLED, 3),
    ]


async def test_what_came_before_a_failure_counts() -> None:
    async with rigged() as rig:
        rig.peer.held = REMOTE[:1]
        await rig.pull(follow=True)
        rig.peer.told = None
        rig.peer.held = REMOTE

    assert rig.pulled == [
        Pulled("r", Outcome.PULLED, 1, is_last=False),
        Pulled("r", Outcome.CHANGED, 1),
    ]
