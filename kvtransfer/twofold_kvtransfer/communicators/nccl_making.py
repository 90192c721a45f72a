"""A communicator of NCCL's, made within a time limit."""

import threading
from collections.abc import Callable

from twofold_kvtransfer.communicators.nccl_link import Link
from twofold_kvtransfer.transports.sockets.failing import Failure, TransferError

LOOK_SECONDS = 0.01
MOST_GIVEN_UP = 8


class GivenUp:
    """How many makings were given up and have not ended. Those that go well are not counted: at
    a start many peers come at once, and to let them wait for each other might stop them all."""

    def __init__(self, most: int = MOST_GIVEN_UP) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._count = 0

    def check(self) -> None:
        """Raises:
        TransferError: there are so many that another may not begin.
        """
        with self._lock:
            if self._count >= self._most:
                text = f"{self._count} communicators of NCCL's are being made and do not end"
                raise TransferError(Failure.BUSY, text)

    def add(self, change: int) -> None:
        with self._lock:
            self._count += change


class Making:
    """NCCL's calls that make a communicator come back when the peer has made its own, and cannot
    be ended. They run in a thread; who waits gives up in time. The thread closes what it makes too
    late. It may also never end, and then keeps its link: a stream and two bytes of the GPU's, and
    what NCCL holds. That is why so few may be given up at once."""

    def __init__(self, make: Callable[[], Link], given_up: GivenUp) -> None:
        """Raises:
        TransferError: too many were given up.
        """
        given_up.check()
        self._make = make
        self._all_given_up = given_up
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._given_up = False
        self._made: Link | None = None
        self._error: Exception | None = None
        threading.Thread(target=self._run, name="kv-nccl-making", daemon=True).start()

    def wait(
        self, seconds: float, has_ended: Callable[[], bool], clock: Callable[[], float]
    ) -> Link:
        """Return what was made.

        Raises:
            TransferError: NCCL fails, the peer has gone, or it takes too long.
        """
        give_up_at = clock() + seconds
        while not self._ended.wait(LOOK_SECONDS):
            if has_ended():
                self._give_up(Failure.PEER_LOST, "the peer has gone")
            elif clock() > give_up_at:
                self._give_up(Failure.TIMEOUT, f"no communicator of NCCL's in {seconds} s")
        if self._made is None:
            raise TransferError(Failure.PROTOCOL, str(self._error)) from self._error
        return self._made

    def _give_up(self, failure: Failure, text: str) -> None:
        """Raise that, unless it has ended this moment."""
        with self._lock:
            if self._ended.is_set():
                return
            self._given_up = True
            self._all_given_up.add(1)
        raise TransferError(failure, text)

    def _run(self) -> None:
        made: Link | None = None
        error: Exception | None = None
        try:
            made = self._make()
        except Exception as failed:  # noqa: BLE001 - an edge: who waits is told
            error = failed
        with self._lock:
            self._made, self._error = made, error
            self._ended.set()
        if self._given_up:
            self._all_given_up.add(-1)
            if made is not None:
                made.close()
