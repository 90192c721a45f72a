"""The side of a worker: what it holds is kept in the directory."""

import asyncio
import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from twofold_cluster.identity import Incarnation, WorkerId
from twofold_cluster.kv_events import Batch, Fresh, Happening, Lost, Restarted
from twofold_cluster.membership import FencedError
from twofold_cluster.membership.entries import REDIS_IS_AWAY
from twofold_kvtransfer.directory.backlog import Backlog
from twofold_kvtransfer.directory.directory import Directory
from twofold_kvtransfer.directory.feed import Feed
from twofold_kvtransfer.directory.source import EventSource
from twofold_kvtransfer.directory.updates import (
    Answer,
    DirectoryUpdate,
    Rebuild,
    Tier,
    Verdict,
)

GATHER_SECONDS = 0.5
"""What happens meanwhile goes out together: an engine has tens of steps a second, and a thousand of
them share Redis' only thread with the membership."""

RETRY_SECONDS = 1.0

RENEWALS_PER_TTL = 3

REBUILD_PAUSE_SECONDS = 0.02
"""Between the parts of a rebuild, each some 2.5 ms of Redis' only thread
(``MAX_BLOCKS_PER_UPDATE``): even with all rebuilds that may be at once, others have more than half
of it."""

REPAIR_GAP_SECONDS = 30.0
"""So often it is seen whether a degraded entry can be made whole: there may be no room for it."""

SWEEP_PAUSE_SECONDS = 0.02
SWEEP_GAP_SECONDS = 10.0

_AT_ODDS = (Verdict.KNOWN, Verdict.BUSY, Verdict.SUPERSEDED)
"""Why a rebuild is not taken: another feeder is further, or at it."""

_TOLD = (Verdict.APPLIED, Verdict.KNOWN)
"""The directory has all that was told."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FeedSnapshot:
    """What a feeder has done since it began, and how it stands."""

    applied_batches: int
    """The directory has them, from this feeder or from another."""
    lost_batches: int
    """Missed for good; what is known began with nothing then."""
    rebuilds: int
    """Times that all was told anew."""
    refused_blocks: int
    """Told, and the directory had no room. A rebuild tells the same again."""
    errors: int
    """Times that Redis could not be told."""
    holdings: int
    """Blocks over all tiers."""
    degraded: bool
    """The directory's last word: the worker may hold more than is listed."""
    lag_seconds: float
    """Since the oldest batch was heard that the directory does not know; 0 without one."""


class Feeder:
    """Keeps the directory's entry of one incarnation of a worker, and takes its turn in sweeping.

    Several may feed the same worker. When a feeder ends, the entry stays until its time limit:
    only who knows that the worker is gone says ``Directory.forget``.
    """

    def __init__(
        self,
        directory: Directory,
        worker_id: WorkerId,
        incarnation: Incarnation,
        source: EventSource,
        *,
        max_blocks: Callable[[Tier], int] | None = None,
        clock: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
    ) -> None:
        """*max_blocks*: the worker's capacity in each tier; None: the directory's settings."""
        self._directory = directory
        self._worker_id = worker_id
        self._incarnation = incarnation
        self._source = source
        self._clock = clock
        self._rng = rng or random.Random()  # noqa: S311 no secret
        limit = directory.settings.max_blocks_per_worker
        capacity = max_blocks or (lambda tier: limit)
        self._feed = Feed(worker_id, incarnation, lambda tier: min(limit, capacity(tier)))
        self._changed = asyncio.Event()
        self._backlog = Backlog(clock)
        self._is_linked = False
        self._is_away = False
        self._is_degraded = True  # until the directory says something else
        self._rebuild_count = 0
        self._refused_count = 0
        self._error_count = 0
        self._repair_at = 0.0

    def snapshot(self) -> FeedSnapshot:
        return FeedSnapshot(
            applied_batches=self._backlog.arrived_count,
            lost_batches=self._feed.lost_count,
            rebuilds=self._rebuild_count,
            refused_blocks=self._refused_count,
            errors=self._error_count,
            holdings=self._feed.block_count,
            degraded=self._is_degraded,
            lag_seconds=self._backlog.lag_seconds(),
        )

    async def run(self) -> None:
        """Feed until cancelled, through any number of losses of Redis.

        Raises:
            FencedError: the directory knows a newer incarnation.
        """
        await self._try()  # before the first event, to see where another feeder has come
        async with asyncio.TaskGroup() as group:
            following = self._source.follow(self.hear)
            others = [group.create_task(following), group.create_task(self._sweep())]
            await self._tell()
            for task in others:
                task.cancel()
        raise FencedError(f"{self._worker_id}: {self._incarnation} is not the newest")

    def hear(self, happening: Happening) -> None:
        """Take in what the source says next; the directory is told soon."""
        match happening:
            case Batch(number, batch):
                self._feed.take(number, batch)
                self._backlog.add()
            case Lost(None):
                return
            case Lost(int(number)):
                self._feed.lose(number)
            case Restarted.RESTARTED:
                self._feed.restart()
            case Fresh.FRESH:
                self._feed.begin()
        self._changed.set()

    async def _tell(self) -> None:
        """Tell the directory what changes, and renew; return when fenced."""
        renew_seconds = self._directory.settings.ttl_seconds / RENEWALS_PER_TTL
        while True:
            self._changed.clear()
            verdict = await self._try()
            if verdict is Verdict.FENCED:
                return
            if verdict in _TOLD:
                await self._wait_for_change(renew_seconds)
                await asyncio.sleep(GATHER_SECONDS)
            elif verdict is not Verdict.UNKNOWN:
                await asyncio.sleep(RETRY_SECONDS * self._rng.uniform(0.5, 1.0))

    async def _wait_for_change(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            pass

    async def _try(self) -> Verdict | None:
        """Return what the directory says; None while Redis is away."""
        verdict: Verdict | None = None
        self._backlog.leave()
        try:
            verdict = await self._exchange()
        except REDIS_IS_AWAY as error:
            self._error_count += 1
            if not self._is_away:
                _log.warning("cannot tell the block directory", extra={"error": repr(error)})
            self._is_away = True
            return None
        finally:
            self._backlog.settle(has_arrived=verdict in _TOLD)
        if self._is_away:
            _log.info("telling the block directory again")
        self._is_away = False
        return verdict

    async def _exchange(self) -> Verdict:
        if not self._is_linked:
            await self._link()
            self._is_linked = True
        if self._feed.needs_rebuild:
            return await self._rebuild()
        return await self._update()

    async def _link(self) -> None:
        self._feed.link(await self._directory.position(self._worker_id, self._incarnation))

    async def _update(self) -> Verdict:
        answer: Answer | None = None
        is_told = False
        try:
            for part in self._feed.updates():
                answer = await self._apply(part)
                if answer.verdict is not Verdict.APPLIED:
                    break
            is_told = answer is not None and answer.verdict in _TOLD
        finally:
            if is_told:
                self._feed.sent()
            else:
                self._feed.unsent()
        if answer is None:
            return Verdict.KNOWN  # it waits until it has come as far as the directory
        if answer.verdict is Verdict.UNKNOWN or (is_told and await self._can_repair(answer)):
            self._feed.lose_link()
            return Verdict.UNKNOWN
        return answer.verdict

    async def _can_repair(self, answer: Answer) -> bool:
        """Tell whether a rebuild would make a degraded entry whole. What it replaces takes up room
        until it is swept, so without room for both there would be less in it than before."""
        now = self._clock()
        if not (answer.degraded and self._feed.is_whole and now >= self._repair_at):
            return False
        self._repair_at = now + REPAIR_GAP_SECONDS
        needed = await self._directory.holding_count() + self._feed.block_count
        return needed <= self._directory.settings.max_holdings

    async def _rebuild(self) -> Verdict:
        token = f"{self._rng.getrandbits(64):016x}"
        verdict: Verdict | None = None
        is_told = False
        try:
            for part in self._feed.rebuild(token):
                verdict = (await self._apply(part)).verdict
                if verdict is not Verdict.APPLIED:
                    break
                if not part.is_last_part:
                    await asyncio.sleep(REBUILD_PAUSE_SECONDS)
            is_told = verdict is Verdict.APPLIED
        finally:
            if not is_told:
                self._feed.lose_link()
        assert verdict is not None
        self._rebuild_count += is_told
        if verdict in _AT_ODDS:
            await self._link()
        return verdict

    async def _apply(self, part: DirectoryUpdate | Rebuild) -> Answer:
        answer = await self._directory.apply(part)
        self._refused_count += answer.refused
        if answer.verdict in _TOLD:
            self._is_degraded = answer.degraded
        return answer

    async def _sweep(self) -> None:
        token = f"{self._rng.getrandbits(64):016x}"
        while True:
            try:
                state = await self._directory.sweep(token)
            except REDIS_IS_AWAY:
                state = "busy"  # _tell says so
            if state == "more":
                await asyncio.sleep(SWEEP_PAUSE_SECONDS)
            else:
                await asyncio.sleep(SWEEP_GAP_SECONDS * self._rng.uniform(0.5, 1.0))
