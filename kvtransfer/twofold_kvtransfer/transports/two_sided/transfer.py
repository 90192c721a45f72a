"""One move of blocks over a line."""

from collections.abc import Callable

from twofold_kvtransfer.transports.sockets.transfer import PolledTransfer


class TwoSidedTransfer(PolledTransfer):
    """Fails the moment it is told to, unless its blocks are *held*: then as soon as they are let
    go. Who moves it holds them for as long as it copies a buffer to or from them, no longer."""

    def __init__(
        self,
        size_bytes: int,
        clock: Callable[[], float],
        when_ended: Callable[["TwoSidedTransfer"], None],
    ) -> None:
        """*when_ended* is called once, with the transfer's lock held."""
        super().__init__(size_bytes, clock)
        self._when_ended = when_ended
        self._held = False

    @property
    def is_wanted(self) -> bool:
        with self._lock:
            return self._is_wanted()

    def hold(self) -> bool:
        """Take hold of the blocks; return False if the transfer is not wanted any more."""
        with self._lock:
            self._held = self._is_wanted()
            return self._held

    def let_go(self) -> None:
        with self._lock:
            self._held = False
            if self._failure is not None:
                self._end()

    def finish(self) -> None:
        """Make it done, unless it has failed."""
        with self._lock:
            if self._is_wanted():
                self._end()

    def _stop(self) -> None:
        if not self._held:
            self._end()

    def _end(self) -> None:
        self._ended_at = self._clock()
        self._when_ended(self)
