"""One move of blocks, spread over the streams of a pair."""

import threading
from collections.abc import Callable

from twofold_kvtransfer.codecs import CodecName
from twofold_kvtransfer.transports.port import TransferState
from twofold_kvtransfer.transports.tcp.accounts import Account
from twofold_kvtransfer.transports.tcp.failing import Failure, TransferError

Cut = Callable[[], None]
"""Ends a stream's connection, and so what it is at; called with the transfer's lock held."""


class TcpTransfer:
    """Made of shares, each moved by one stream: ``begin``, then ``end``.

    It has ended when all shares are done; or when it has a reason to fail and no share is between
    its begin and its end, so that nobody writes to its blocks any more.
    """

    def __init__(
        self,
        size_bytes: int,
        share_count: int,
        clock: Callable[[], float],
        when_ended: Callable[["TcpTransfer", Failure | None, float], None],
        codec: CodecName = "none",
    ) -> None:
        """*when_ended* is called once, with the transfer's lock held; its seconds are those since
        the first share began, so that a wait for a stream is not in them."""
        self.size_bytes = size_bytes
        self.codec = codec
        """What was chosen; ``none`` at the end if nothing was coded after all."""
        self.account = Account(clock)
        self._shares_left = share_count
        self._clock = clock
        self._when_ended = when_ended
        self._lock = threading.Lock()
        self._running: set[Cut] = set()
        self._failure: Failure | None = None
        self._reason: str | None = None
        self._started_at = clock()
        self._begun_at: float | None = None
        self._ended_at: float | None = None
        self._look()

    def poll(self) -> TransferState:
        with self._lock:
            if self._ended_at is None:
                return TransferState.MOVING
            return TransferState.DONE if self._failure is None else TransferState.FAILED

    @property
    def reason(self) -> str | None:
        with self._lock:
            return self._reason if self._ended_at is not None else None

    @property
    def payload_bytes(self) -> int:
        """Of the payloads that have arrived, and the cells that move as they lie."""
        return self.account.stages().payload_bytes

    @property
    def seconds(self) -> float:
        with self._lock:
            return (self._clock() if self._ended_at is None else self._ended_at) - self._started_at

    def cancel(self) -> None:
        self.fail(Failure.CANCELLED, str(Failure.CANCELLED))

    def fail(self, failure: Failure, reason: str) -> None:
        """Make it fail, unless it has ended or has a reason already; cut what moves."""
        with self._lock:
            self._fail(failure, reason)

    def begin(self, cut: Cut) -> bool:
        """Start a share on the stream that *cut* cuts; return False if it is not wanted."""
        with self._lock:
            if self._failure is not None:
                return False
            if self._begun_at is None:
                self._begun_at = self._clock()
            self._running.add(cut)
            return True

    def end(self, cut: Cut, error: TransferError | None) -> None:
        """End the share that was begun with *cut*, well or with *error*."""
        with self._lock:
            self._running.remove(cut)
            self._shares_left -= 1
            if error is not None:
                self._fail(error.failure, str(error))
            self._look()

    def _fail(self, failure: Failure, reason: str) -> None:
        if self._ended_at is not None or self._failure is not None:
            return
        self._failure = failure
        self._reason = reason
        for cut in self._running:
            cut()
        self._look()

    def _look(self) -> None:
        over = self._shares_left == 0 if self._failure is None else not self._running
        if over and self._ended_at is None:
            self._ended_at = self._clock()
            begun_at = self._ended_at if self._begun_at is None else self._begun_at
            self._when_ended(self, self._failure, self._ended_at - begun_at)
