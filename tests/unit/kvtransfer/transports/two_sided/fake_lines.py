"""A line to a peer that says nothing, as far as a pair's thread needs one."""

import contextlib
import socket
import threading
from collections.abc import Callable
from typing import Any

from twofold_kvtransfer.transports.sockets.failing import Failure, TransferError
from twofold_kvtransfer.transports.sockets.wire import Answer, Verdict
from twofold_kvtransfer.transports.two_sided import TwoSidedSettings
from twofold_kvtransfer.transports.two_sided.carrier import Ends

BOUND_SECONDS = 30.0


class FakeLine:
    """Is its own control and connection. The answer to a request comes once it is cut: an error."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self.control = self.connection = self
        self.join_error: TransferError | None = None
        self.is_asked = threading.Event()
        self.is_closed = False
        self.when_closed: Callable[[], None] = lambda: None
        self._is_greeted = False
        self._is_cut = threading.Event()

    def connect(self, address: Any, seconds: float) -> None: ...

    def limit_waits(self, seconds: float) -> None: ...

    def within(self, seconds: float) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def send_bytes(self, *buffers: bytes) -> None: ...

    def is_usable(self) -> bool:
        return not self._is_cut.is_set()

    def receive_bytes(self, size: int) -> bytes:
        if not self._is_greeted:
            self._is_greeted = True
            return Answer(Verdict.OK).encode()
        self.is_asked.set()
        assert self._is_cut.wait(BOUND_SECONDS)
        raise TransferError(Failure.PEER_LOST, "it was cut")

    def join(self, rank: int) -> None:
        if self.join_error is not None:
            raise self.join_error

    def cut(self) -> None:
        self._is_cut.set()

    def close(self) -> None:
        self.is_closed = True
        self.cut()
        self._socket.close()
        self.when_closed()


def ends_with(make_line: Callable[[socket.socket], Any]) -> Ends:
    return Ends((socket.AF_INET, ("127.0.0.1", 0)), b"k" * 16, make_line, TwoSidedSettings())
