"""Following the KV events of one worker: in order, without a gap that nobody knows of."""

import asyncio
import contextlib
import logging
from collections.abc import Callable

import zmq
import zmq.asyncio

from twofold_cluster.kv_events.decoding import EventBatch, InvalidKvEventsError, decode_batch
from twofold_cluster.kv_events.following.progress import Progress, Verdict
from twofold_cluster.kv_events.following.replaying import replayed
from twofold_cluster.kv_events.following.sockets import bound_memory
from twofold_cluster.kv_events.following.source import Source
from twofold_cluster.kv_events.happenings import Batch, Fresh, Happening, Lost, Restarted

REPLAY_SECONDS = 5.0
"""For all of a replay. Ten thousand batches, as many as vLLM keeps, come within a second."""

MAX_BUFFERED_MESSAGES = 1000
"""Some seconds of a busy engine. What is beyond them is dropped, and can be replayed."""

MAX_RECONNECT_MILLISECONDS = 2000

Hear = Callable[[Happening], None]

_log = logging.getLogger(__name__)


class Follower:
    """Tells *hear* of all batches of *source*, each once and in order. Used once.

    Where some are missing, it tells so and goes on with what comes next. *on_replay* is called
    whenever the publisher is asked for what it still has.
    """

    def __init__(
        self,
        context: zmq.asyncio.Context,
        source: Source,
        hear: Hear,
        on_replay: Callable[[], None] = lambda: None,
        replay_seconds: float = REPLAY_SECONDS,
    ) -> None:
        self._context = context
        self._source = source
        self._hear = hear
        self._on_replay = on_replay
        self._replay_seconds = replay_seconds
        self._progress = Progress()

    async def run(self) -> None:
        """Follow until cancelled. A publisher that is not there is waited for.

        Raises:
            zmq.ZMQError: an endpoint is no address.
        """
        with self._context.socket(zmq.SUB) as subscriber:
            bound_memory(subscriber, MAX_BUFFERED_MESSAGES)
            subscriber.reconnect_ivl_max = MAX_RECONNECT_MILLISECONDS
            subscriber.subscribe(b"")
            subscriber.connect(self._source.endpoint)
            is_whole = await self._replay()  # what was before us
            if is_whole and self._progress.next_number == 0:
                self._hear(Fresh.FRESH)
            while True:
                await self._receive(await subscriber.recv_multipart())
                await asyncio.sleep(0)  # a message that is there already is awaited without a pause

    async def _receive(self, frames: list[bytes]) -> None:
        if len(frames) != 3 or len(frames[1]) != 8:
            self._lose(None, "a message that is none of a publisher's")
            return
        _, number, payload = frames
        await self._follow(int.from_bytes(number, "big"), payload)

    async def _follow(self, number: int, payload: bytes) -> None:
        batch = self._decode(number, payload)
        if batch is None:
            return
        if self._progress.judge(number, batch.at) is Verdict.RESTARTED:
            self._restart()
        if self._progress.judge(number, batch.at) is Verdict.AFTER_A_GAP:
            await self._replay()
        if self._progress.judge(number, batch.at) is not Verdict.AGAIN:
            self._take(number, batch)

    async def _replay(self) -> bool:
        """Take in what the publisher has beyond our progress, as far as it comes in time. Return
        whether that was all of it."""
        if not self._source.replay_endpoint:
            return False
        self._on_replay()
        is_whole = False
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._replay_seconds):
                while not is_whole:
                    before = self._progress.next_number
                    is_whole = await self._replay_once()
                    if self._progress.next_number == before:
                        break
        return is_whole

    async def _replay_once(self) -> bool:
        """Take in one replay. Return False when some of it was dropped on the way, or when its
        publisher turned out to be new: then another one brings more."""
        # From the last that we know on, to see whether this is still the same publisher.
        first = max(0, self._progress.next_number - 1)
        is_first = True
        batches = replayed(self._context, self._source.replay_endpoint, first)
        try:
            async with contextlib.aclosing(batches):
                async for number, payload in batches:
                    if not self._take_replayed(number, payload, is_first):
                        return False
                    is_first = False
                    await asyncio.sleep(0)  # what is there already is awaited without a pause
        except TimeoutError:
            return False
        return True

    def _take_replayed(self, number: int, payload: bytes, is_first: bool) -> bool:
        """Take in a batch of a replay. Return False if the replay is of no more use."""
        batch = self._decode(number, payload)
        if batch is None:
            return True
        if number < self._progress.next_number:
            is_another = is_first and not self._progress.is_last(number, batch.at)
            if is_another:
                self._restart()
            return not is_another
        if number > self._progress.next_number and not is_first:
            return False
        self._take(number, batch)
        return True

    def _decode(self, number: int, payload: bytes) -> EventBatch | None:
        """Decode batch *number*; one that cannot be read is lost, and None."""
        try:
            return decode_batch(payload)
        except InvalidKvEventsError as error:
            if number >= self._progress.next_number:
                self._lose(number, str(error))
                self._progress.skip(number)
            return None

    def _take(self, number: int, batch: EventBatch) -> None:
        """Take in batch *number*. If it is not the next one, those before it are lost."""
        if number != self._progress.next_number:
            what = f"batches {self._progress.next_number} to {number - 1} are gone"
            self._lose(number - 1, what)
        self._progress.take(number, batch.at)
        self._hear(Batch(number, batch))

    def _lose(self, number: int | None, what: str) -> None:
        extra = {"worker": self._source.worker_id, "error": what}
        _log.warning("KV events were lost", extra=extra)
        self._hear(Lost(number))

    def _restart(self) -> None:
        self._progress.restart()
        _log.info("an engine has begun anew", extra={"worker": self._source.worker_id})
        self._hear(Restarted.RESTARTED)
