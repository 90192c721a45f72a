"""One move of blocks, spread over the streams of a pair."""

from collections.abc import Callable

from twofold_kvtransfer.codecs import CodecName
from twofold_kvtransfer.transports.sockets.failing import Failure, TransferError
from twofold_kvtransfer.transports.sockets.transfer import PolledTransfer
from twofold_kvtransfer.transports.tcp.accounts import Account

Cut = Callable[[], None]
"""Ends a stream's connection, and so what it is at; called with the transfer's lock held."""


class TcpTransfer(PolledTransfer):
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
        super().__init__(size_bytes, clock)
        self.codec = codec
        """What was chosen; ``none`` at the end if nothing was coded after all."""
        self.account = Account(clock)
        self._shares_left = share_count
        self._when_ended = when_ended
        self._running: set[Cut] = set()
        self._begun_at: float | None = None
        self._look()

    @property
    def payload_bytes(self) -> int:
        """Of the payloads that have arrived, and the cells that move as they lie."""
        return self.account.stages().payload_bytes

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

    def _stop(self) -> None:
        for cut in self._running:
            cut()
        self._look()

    def _look(self) -> None:
        over = self._shares_left == 0 if self._failure is None else not self._running
        if over and self._ended_at is None:
            self._ended_at = self._clock()
            begun_at = self._ended_at if self._begun_at is None else self._begun_at
            self._when_ended(self, self._failure, self._ended_at - begun_at)
