"""Pulling prefixes out of other engines' caches, where that is quicker than computing them."""

import asyncio
import logging
import time
from collections.abc import Callable

from twofold_cluster.legs import FOLLOW_LIMIT_SECONDS
from twofold_kvtransfer.avoiding import SilentSources
from twofold_kvtransfer.blocks import InvalidBlocksError, Move
from twofold_kvtransfer.digesting import Digester
from twofold_kvtransfer.links import Link, LinkError, Links, Seen
from twofold_kvtransfer.prefixes import Outcome, PrefixSource, Pull, Pulled
from twofold_kvtransfer.receiving import Failure, failure_of
from twofold_kvtransfer.transports import Transfer, TransferState
from twofold_kvtransfer.waiting import LETTING_GO_SECONDS, ended, stop

LEAST_SECONDS = 0.5
"""A pull is waited for at least as long: short prompts are computed in less than a busy process
takes to answer."""

FOLLOW_POLL_SECONDS = 0.01
"""How often a source is asked for more that is between two steps."""

FOLLOW_BLOCKS = 64
"""That are read at a time: what is read when leg 1 ends is thrown away."""

_SILENCE = (Outcome.FAILED, Outcome.LATE)
"""What came of it says that the source is better not asked for a while."""

_log = logging.getLogger(__name__)


class Puller:
    """Pulls for one rank; runs in the node's loop.

    Every pull ends in one :class:`Pulled`: after the time that computing would take at most, or
    ``LEAST_SECONDS``, and what a cancelled transfer takes to end. Nothing is held at the source: it
    is asked afterwards whether its blocks were the same all the time. What fails costs nothing but
    that time, since the engine then computes the prompt. A source that failed, or was too late, is
    left alone for a while, but only until its link is open where that was what took too long; not
    by who follows it, which costs nobody time.
    """

    def __init__(
        self,
        links: Links,
        tasks: asyncio.TaskGroup,
        *,
        block_bytes: int,
        unmeasured_bytes_per_second: float,
        limit_seconds: float,
        pulled: Callable[[Pulled], None],
        arrived: Callable[[Transfer], None],
        digester: Digester | None = None,
        letting_go_seconds: float = LETTING_GO_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """*arrived* is told of each transfer that has ended well, whatever comes of its blocks.

        With *digester*, of the local blocks, what arrived is compared with what is there; without,
        the transport is trusted."""
        self._links = links
        self._tasks = tasks
        self._block_bytes = block_bytes
        self._unmeasured_bytes_per_second = unmeasured_bytes_per_second
        self._limit_seconds = limit_seconds
        self._pulled = pulled
        self._arrived = arrived
        self._digester = digester
        self._letting_go_seconds = letting_go_seconds
        self._clock = clock
        self._limits: dict[str, asyncio.Timeout | None] = {}
        """Of the pulls that have not ended, by request; None: it has not begun either."""
        self._dropped: set[str] = set()
        self._silent = SilentSources()

    def pull(self, pull: Pull) -> None:
        """Pull as many of its first blocks as the source holds, if that is quicker."""
        self._limits[pull.request_id] = None
        self._tasks.create_task(self._run(pull))

    def drop(self, request_id: str) -> None:
        """End the pull of a request that is over, unless it has ended."""
        if request_id not in self._limits:
            return
        self._dropped.add(request_id)
        limit = self._limits[request_id]
        if limit is not None and not limit.expired():
            limit.reschedule(asyncio.get_running_loop().time())

    async def _run(self, pull: Pull) -> None:
        progress = _Progress(pull, self._clock, self._pulled)
        work = self._work if pull.source.follow else self._try
        try:
            outcome = await work(pull, progress)
        finally:
            self._limits.pop(pull.request_id, None)
            self._dropped.discard(pull.request_id)
        progress.end(outcome)

    async def _try(self, pull: Pull, progress: "_Progress") -> Outcome:
        """Pull, unless the source did not answer of late."""
        source, began = pull.source.engine_id, self._clock()
        if not self._silent.may_ask(source, began):
            return Outcome.AVOIDED
        outcome = await self._work(pull, progress)
        if outcome in _SILENCE:
            self._silent.note_silence(source, began, self._clock())
            if outcome is Outcome.LATE and not progress.is_linked:
                self._tasks.create_task(self._note_when_open(pull.source))
        elif outcome is not Outcome.DROPPED:  # which tells nothing
            self._silent.note_answer(source)
        return outcome

    async def _note_when_open(self, source: PrefixSource) -> None:
        """Avoid *source* no longer than its link takes to open, which goes on for the next."""
        try:
            await self._links.to(source)
        except (LinkError, InvalidBlocksError):
            return
        self._silent.note_answer(source.engine_id)

    async def _work(self, pull: Pull, progress: "_Progress") -> Outcome:
        take = self._follow if pull.source.follow else self._pull
        try:
            async with asyncio.timeout(self._patience(pull)) as limit:
                self._limits[pull.request_id] = limit
                return await take(pull, progress)
        except TimeoutError:
            return Outcome.DROPPED if pull.request_id in self._dropped else Outcome.LATE
        except (LinkError, InvalidBlocksError) as error:
            _log.warning("prefix of %s not pulled: %s", pull.request_id, error)
            return Outcome.FAILED

    def _patience(self, pull: Pull) -> float:
        if pull.request_id in self._dropped:
            return 0.0
        if pull.source.follow:
            return FOLLOW_LIMIT_SECONDS
        compute_seconds = _compute_seconds(pull, len(pull.names))
        return min(self._limit_seconds, max(LEAST_SECONDS, compute_seconds))

    async def _pull(self, pull: Pull, progress: "_Progress") -> Outcome:
        """Raises:
        LinkError: the source cannot be reached.
        InvalidBlocksError: it has no such blocks as it says.
        TimeoutError: it took too long; local memory is written no more.
        """
        link = await self._links.to(pull.source)
        progress.is_linked = True
        seen = await link.look(pull.names)
        count = len(seen.blocks)
        if not count:
            return Outcome.ABSENT
        seconds = link.predict_seconds(count * self._block_bytes, self._unmeasured_bytes_per_second)
        if seconds >= _compute_seconds(pull, count):
            return Outcome.SLOWER
        return await self._advance(link, seen, pull, progress)

    async def _follow(self, pull: Pull, progress: "_Progress") -> Outcome:
        """Take what there is again and again, until there is all. Raises the same."""
        link = await self._links.to(pull.source)
        while progress.count < len(pull.names):
            seen = await link.look(pull.names[progress.count :][:FOLLOW_BLOCKS])
            if not seen.blocks:
                await asyncio.sleep(FOLLOW_POLL_SECONDS)
                continue
            outcome = await self._advance(link, seen, pull, progress)
            if outcome is not Outcome.PULLED:
                return outcome
        return Outcome.PULLED

    async def _advance(self, link: Link, seen: Seen, pull: Pull, progress: "_Progress") -> Outcome:
        """Read what was *seen* into the next local blocks."""
        count = len(seen.blocks)
        local = pull.local[progress.count : progress.count + count]
        outcome = await self._read(link, seen, local)
        if outcome is Outcome.PULLED:
            progress.add(count)
        return outcome

    async def _read(self, link: Link, seen: Seen, local: tuple[int, ...]) -> Outcome:
        transfer = link.read(Move(local=local, remote=seen.blocks))
        try:
            await ended(transfer)
        except asyncio.CancelledError:
            await stop(transfer, link, self._letting_go_seconds)
            raise
        finally:
            link.note(transfer)
        if transfer.poll() is TransferState.FAILED:
            _log.warning("a prefix did not arrive: %s", transfer.reason)
            is_damaged = failure_of(transfer) is Failure.INTEGRITY
            return Outcome.DAMAGED if is_damaged else Outcome.FAILED
        self._arrived(transfer)
        there = await link.recheck(seen, digest=self._digester is not None)
        if there is None:
            return Outcome.CHANGED
        if self._digester is not None and there != await self._digester.digest_unhurried(local):
            return Outcome.DAMAGED
        return Outcome.PULLED


class _Progress:
    """How many blocks of a pull are here; tells of each step, and of the end."""

    def __init__(
        self,
        pull: Pull,
        clock: Callable[[], float],
        tell: Callable[[Pulled], None],
    ) -> None:
        self._request_id = pull.request_id
        self._began = clock()
        self._clock = clock
        self._tell = tell
        self._is_told_of_steps = pull.source.follow
        self.count = 0
        self.is_linked = False
        """The source's link is open."""

    def add(self, count: int) -> None:
        self.count += count
        if self._is_told_of_steps:
            self._say(Outcome.PULLED, is_last=False)

    def end(self, outcome: Outcome) -> None:
        self._say(outcome, is_last=True)

    def _say(self, outcome: Outcome, *, is_last: bool) -> None:
        seconds = self._clock() - self._began
        self._tell(Pulled(self._request_id, outcome, self.count, seconds, is_last))


def _compute_seconds(pull: Pull, block_count: int) -> float:
    return block_count * pull.block_tokens * pull.source.seconds_per_token
