"""The answer of a worker: held, or passed on to a client as it comes."""

import asyncio
import sys
from collections import deque
from collections.abc import Callable
from typing import Protocol

from twofold_router.http.backpressure import Source
from twofold_router.http.errors import AnswerTooLargeError, BrokenError, StoppedError
from twofold_router.http.headers import HeaderPairs, Headers

_EVENTS = b"text/event-stream"

_NEVER_BYTES = sys.maxsize

_END_BYTES = 16 * 1024
"""Kept of the end of what is relayed, however long it is: the last events, with the usage."""

_EVENT = b"data: {"
_EVENT_END = b"\n\n"


class Entry(Protocol):
    """The connection as an answer sees it. To pause or resume twice does nothing."""

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def abort(self) -> None: ...


class Sink(Protocol):
    """What an answer is relayed to: a ``Responder``, or what stands before one."""

    @property
    def started(self) -> bool: ...

    def start(self, status: int, headers: HeaderPairs) -> None: ...

    def write(self, chunk: bytes, /) -> None: ...

    def finish(self) -> None: ...

    def follow(self, source: Source | None, /) -> None: ...


class Response:
    """An answer whose body is still to come: to be read, or relayed, once and by one task.

    ``close`` it in the end, whatever happened: what is not complete by then is aborted at the
    worker. So is it when a task that waits here is cancelled.

    Invariant: until ``_is_over`` the connection calls ``take_in`` with each piece of the body, and
    then ``end`` once; after that the connection may serve others.
    """

    __slots__ = (
        "_dropped_events",
        "_entry",
        "_error",
        "_held",
        "_held_bytes",
        "_is_over",
        "_is_whole",
        "_keep_bytes",
        "_kept",
        "_kept_bytes",
        "_pause_at_bytes",
        "_responder",
        "_stop_at",
        "_waiter",
        "_wake_at_bytes",
        "headers",
        "status",
        "take_in",
    )

    def __init__(self, entry: Entry, status: int, headers: Headers, read_ahead_bytes: int) -> None:
        self.status = status
        self.headers = headers
        self.take_in: Callable[[bytes], None] = self._hold
        self._entry = entry
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._pause_at_bytes = read_ahead_bytes
        self._wake_at_bytes = _NEVER_BYTES
        self._error: BrokenError | None = None
        self._is_over = False
        self._waiter: asyncio.Future[None] | None = None
        self._responder: Sink | None = None
        self._kept: deque[bytes] = deque()
        self._kept_bytes = 0
        self._is_whole = True
        self._dropped_events = 0
        self._keep_bytes = 0
        self._stop_at = b""

    @property
    def is_stream(self) -> bool:
        """True for server-sent events."""
        media_type = self.headers.get(b"content-type", b"").partition(b";")[0]
        return media_type.strip().lower() == _EVENTS

    async def first(self, after: tuple[bytes, ...] = ()) -> bytes:
        """Wait for the first piece of the body and return it, empty if there is none. It is still
        part of what is read or relayed.

        Events that begin with one of *after* are passed over, unless nothing else comes before the
        end, or before as much is held as may be.

        Raises:
            BrokenError: the answer ends before it.
        """
        while not (begun := self._without(after)) and not self._is_over:
            if self._held_bytes >= self._pause_at_bytes:
                break
            self._wake_at_bytes = self._held_bytes + 1
            await self._wait()
        if begun:
            return begun
        if self._error is not None:
            raise self._error
        return b"".join(self._held)

    async def read(self, limit_bytes: int) -> bytes:
        """Return the whole body.

        Raises:
            BrokenError: it ends too early.
            AnswerTooLargeError: it is larger than *limit_bytes*; the rest is aborted.
        """
        self._wake_at_bytes = limit_bytes + 1
        self._pause_at_bytes = _NEVER_BYTES
        if not self._is_over and self._held_bytes <= limit_bytes:
            self._entry.resume_reading()
            await self._wait()
        if self._held_bytes > limit_bytes:
            self.close()
            raise AnswerTooLargeError(f"the answer is larger than {limit_bytes} bytes")
        if self._error is not None:
            raise self._error
        return b"".join(self._held)

    async def relay(
        self,
        responder: Sink,
        status: int,
        headers: HeaderPairs,
        *,
        finish: bool = False,
        keep_bytes: int = 0,
        stop_at: bytes = b"",
    ) -> None:
        """Answer with *status* and *headers*, unless *responder* has started, and pass the body on
        as it comes. In the end the answer is left open, unless it is to *finish* a whole one.

        A piece is framed anew for the client, which is about a hundredth of what it costs. With the
        worker's own framing passed on, a break within a chunk could not be told to the client.

        Up to *keep_bytes* are kept whole; of more, 16 KiB and a piece.

        A piece with *stop_at* in it is the end: what is before that is passed on, and the rest is
        aborted. Of pieces that came together all are looked at; one mark in two of them is missed.

        Raises:
            BrokenError: the body ends too early; what came of it was passed on.
            StoppedError: it came to *stop_at*.
            ClientGoneError: the client has left.
        """
        if self._error is not None and not self._held:
            raise self._error
        self._keep_bytes = keep_bytes
        self._stop_at = stop_at
        self._responder = responder
        try:
            if not responder.started:
                responder.start(status, headers)
            if self._held:
                self._pass_on(b"".join(self._held))
                self._held.clear()
            if not self._is_over:
                await self._pass_on_the_rest(responder)
            if self._error is not None:
                raise self._error
            if finish:
                responder.finish()
        finally:
            self._responder = None
            self.close()

    def kept(self) -> bytes | None:
        """Return what was relayed so far, None if that is more than was to be kept."""
        return b"".join(self._kept) if self._is_whole else None

    def ending(self) -> tuple[bytes, int]:
        """Return the end of what was relayed so far, all of it if that was kept, and how many
        events with data came before."""
        return b"".join(self._kept), self._dropped_events

    def close(self, why: str = "the answer was not wanted any more") -> None:
        """Abort the request at the worker, unless the answer is complete."""
        if not self._is_over:
            self.end(BrokenError(why))
            self._entry.abort()

    def end(self, error: BrokenError | None) -> None:
        """Take the end of the answer from its connection."""
        if self._is_over:
            return
        self._is_over = True
        self._error = error
        # Else this object would hold itself, and wait for the garbage collector.
        self.take_in = _ignore
        self._wake()

    async def _pass_on_the_rest(self, responder: Sink) -> None:
        self.take_in = self._pass_on
        self._entry.resume_reading()
        responder.follow(self._entry)
        try:
            await self._wait()
        finally:
            responder.follow(None)

    def _pass_on(self, piece: bytes) -> None:
        assert self._responder is not None
        if self._stop_at in piece and self._stop_at:
            piece = self._stop(piece)
        self._responder.write(piece)
        self._kept.append(piece)
        self._kept_bytes = kept_bytes = self._kept_bytes + len(piece)
        if kept_bytes > self._keep_bytes:
            self._keep_the_end()

    def _keep_the_end(self) -> None:
        self._is_whole = False
        self._keep_bytes = _END_BYTES
        kept = self._kept
        while kept and self._kept_bytes - len(kept[0]) >= _END_BYTES:
            dropped = kept.popleft()
            self._kept_bytes -= len(dropped)
            self._dropped_events += dropped.count(_EVENT)

    def _stop(self, piece: bytes) -> bytes:
        """End the relay. Returns what of *piece* is still to be passed on."""
        before, mark, after = piece.partition(self._stop_at)
        self.close()
        # Also where the end had come already.
        self._error = StoppedError(mark + after)
        return before

    def _hold(self, piece: bytes) -> None:
        self._held.append(piece)
        self._held_bytes += len(piece)
        if self._held_bytes >= self._wake_at_bytes:
            self._wake()
        if self._held_bytes >= self._pause_at_bytes:
            self._entry.pause_reading()

    def _without(self, prefaces: tuple[bytes, ...]) -> bytes:
        """Return what is held, from the first event that begins with none of *prefaces*."""
        if not self._held or not prefaces:
            return self._held[0] if self._held else b""
        held = b"".join(self._held)
        while held.startswith(prefaces):
            held = held.partition(_EVENT_END)[2]
        return held

    async def _wait(self) -> None:
        """Wait for the end, or until so much is held that there is something to do."""
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        except asyncio.CancelledError:
            self.close()
            raise
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


def _ignore(_piece: bytes) -> None:
    pass
