"""A request that is refused, and a line that ends in disorder."""

import logging
import socket
import threading
from types import SimpleNamespace
from typing import Any

import pytest
from tests.unit.kvtransfer.transports.two_sided.fake_lines import BOUND_SECONDS, FakeLine

from twofold_kvtransfer.transports.sockets.failing import TransferError
from twofold_kvtransfer.transports.sockets.wire import (
    Direction,
    Request,
    Verdict,
    decode_answer,
    encode_request,
)
from twofold_kvtransfer.transports.testing import host_blocks
from twofold_kvtransfer.transports.two_sided import TwoSidedSettings
from twofold_kvtransfer.transports.two_sided.serving import Service, listen


class Connection:
    """Says what it is given, and keeps what it is told."""

    def __init__(self, says: bytes) -> None:
        self._says = says
        self.heard: list[bytes] = []

    def wait_until_readable(self) -> bool:
        return bool(self._says)

    def receive_bytes(self, size: int) -> bytes:
        said, self._says = self._says[:size], self._says[size:]
        return said

    def send_bytes(self, *buffers: bytes, more: bool) -> None:
        self.heard.append(b"".join(buffers))


def test_a_request_for_coded_cells_is_refused() -> None:
    request = Request(Direction.READ, False, 1, 1, 0, 8, 0, 1, codec="lossless")
    head, ids, _ = encode_request(request, (0,))
    connection = Connection(head + ids)
    line: Any = SimpleNamespace(
        control=SimpleNamespace(connection=connection),
        blocks=host_blocks(1, 1, 8).map,
        buffer_bytes=8,
        library=SimpleNamespace(name="nccl", checks_integrity=False),
    )
    with pytest.raises(TransferError, match="refused: the codec lossless"):
        Service(b"k" * 16).serve(line)

    (answer,) = map(decode_answer, connection.heard)
    assert answer.verdict is Verdict.REFUSED


class FailingService:
    """Fails at the greeting."""

    def __init__(self) -> None:
        self.is_called = threading.Event()

    def greet(self, line: Any, seconds: float) -> None:
        self.is_called.set()
        raise RuntimeError("CUDA error: unknown")


@pytest.mark.parametrize("at_the_close", [False, True])
def test_a_line_gives_its_place_back_whatever_goes_wrong(
    at_the_close: bool, caplog: pytest.LogCaptureFixture
) -> None:
    service: Any = FailingService()
    lines: list[FakeLine] = []

    def fail() -> None:
        raise RuntimeError("NCCL error: unhandled")

    def make_line(sock: socket.socket) -> Any:
        lines.append(FakeLine(sock))
        if at_the_close:
            lines[0].when_closed = fail
        return lines[0]

    with caplog.at_level(logging.ERROR):
        acceptor = listen(service, make_line, TwoSidedSettings())
        with socket.create_connection(("127.0.0.1", acceptor.port)):
            assert service.is_called.wait(BOUND_SECONDS)
        acceptor.close()

    assert acceptor.accepted_count == 0
    assert lines[0].is_closed
    assert "a peer's line failed" in caplog.text
