"""A communicator of NCCL's, made within a time limit."""

import threading
from collections.abc import Callable
from typing import Any

from twofold_kvtransfer.transports.tcp.failing import Failure, TransferError

LOOK_SECONDS = 0.01


class Making:
    """NCCL's calls that make a communicator come back when the peer has made its own, and cannot
    be ended. They run in a thread; who waits gives up in time. The thread then ends when NCCL finds
    the peer's connections closed, and aborts what it has made."""

    def __init__(self, make: Callable[[], Any], abort: Callable[[Any], None]) -> None:
        self._make = make
        self._abort = abort
        self._lock = threading.Lock()
        self._given_up = False
        self._made: Any = None
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="kv-nccl-making", daemon=True)
        self._thread.start()

    def wait(
        self, seconds: float, has_ended: Callable[[], bool], clock: Callable[[], float]
    ) -> Any:
        """Return what was made.

        Raises:
            TransferError: NCCL fails, the peer has gone, or it takes too long.
        """
        give_up_at = clock() + seconds
        while self._thread.is_alive():
            self._thread.join(LOOK_SECONDS)
            if has_ended():
                return self._take(Failure.PEER_LOST, "the peer has gone")
            if clock() > give_up_at:
                return self._take(Failure.TIMEOUT, f"no communicator of NCCL's in {seconds} s")
        return self._take(Failure.PROTOCOL, "NCCL made nothing")

    def _take(self, failure: Failure, text: str) -> Any:
        with self._lock:
            if self._made is not None:
                return self._made
            self._given_up = True
            if self._error is not None:
                raise TransferError(Failure.PEER_LOST, str(self._error)) from self._error
            raise TransferError(failure, text)

    def _run(self) -> None:
        try:
            made = self._make()
        except Exception as error:  # noqa: BLE001 - an edge: who waits is told
            self._error = error
            return
        with self._lock:
            self._made = None if self._given_up else made
        if self._made is None:
            self._abort(made)
