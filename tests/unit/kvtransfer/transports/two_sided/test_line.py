"""A line whose library fails on this side."""

import contextlib
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from twofold_kvtransfer.transports.sockets.failing import Failure, TransferError
from twofold_kvtransfer.transports.testing import host_blocks
from twofold_kvtransfer.transports.two_sided import TwoSidedSettings
from twofold_kvtransfer.transports.two_sided.line import Line


class FailingLibrary:
    """Is its own communicator, and fails where it is told to."""

    name = "failing"
    memory = "dram"
    checks_integrity = False
    chunk_bytes = 8

    def __init__(self, at: str, error: Exception) -> None:
        self._at = at
        self._error = error

    def join(self, *_: Any) -> "FailingLibrary":
        return self._step("join")

    def send(self, slot: int, size_bytes: int) -> "FailingLibrary":
        return self._step("send")

    def receive(self, slot: int, size_bytes: int) -> "FailingLibrary":
        return self._step("receive")

    def wait(self) -> None:
        self._step("wait")

    def cut(self) -> None: ...

    def close(self) -> None:
        self._step("close")

    def _step(self, name: str) -> "FailingLibrary":
        if name == self._at:
            raise self._error
        return self


@contextlib.contextmanager
def line_over(library: Any) -> Iterator[tuple[Line, socket.socket]]:
    """Give a line and the peer's end of its connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        far = socket.create_connection(listener.getsockname(), timeout=30)
        near, _ = listener.accept()
    with near, far:
        yield Line(near, library, host_blocks(1, 1, 8).map, TwoSidedSettings()), far


@pytest.mark.parametrize("at", ["join", "send", "wait"])
@pytest.mark.parametrize("error", [RuntimeError("CUDA out of memory"), MemoryError(), OSError()])
def test_what_a_library_lacks_here_is_a_failure_of_the_line(at: str, error: Exception) -> None:
    with line_over(FailingLibrary(at, error)) as (line, _):
        with pytest.raises(TransferError, match=f"failing cannot be used: {error}") as raised:
            line.join(1)

        assert raised.value.failure is Failure.PROTOCOL


def test_a_library_that_fails_at_the_close_leaves_no_connection() -> None:
    with line_over(FailingLibrary("close", RuntimeError("NCCL error"))) as (line, far):
        line.join(1)
        with pytest.raises(RuntimeError):
            line.close()

        assert far.recv(1) == b""
        assert line.control._socket.fileno() == -1
