"""A line that ends in disorder."""

import logging
import socket
import threading
from typing import Any

import pytest
from tests.unit.kvtransfer.transports.two_sided.fake_lines import BOUND_SECONDS, FakeLine

from twofold_kvtransfer.transports.two_sided import TwoSidedSettings
from twofold_kvtransfer.transports.two_sided.server import Server


class Service:
    """Fails at the greeting."""

    def __init__(self) -> None:
        self.is_called = threading.Event()

    def greet(self, line: Any) -> None:
        self.is_called.set()
        raise RuntimeError("CUDA error: unknown")


@pytest.mark.parametrize("at_the_close", [False, True])
def test_a_line_gives_its_place_back_whatever_goes_wrong(
    at_the_close: bool, caplog: pytest.LogCaptureFixture
) -> None:
    service: Any = Service()
    lines: list[FakeLine] = []

    def fail() -> None:
        raise RuntimeError("NCCL error: unhandled")

    def make_line(sock: socket.socket) -> Any:
        lines.append(FakeLine(sock))
        if at_the_close:
            lines[0].when_closed = fail
        return lines[0]

    with caplog.at_level(logging.ERROR):
        server = Server(service, make_line, TwoSidedSettings())
        with socket.create_connection(("127.0.0.1", server.port)):
            assert service.is_called.wait(BOUND_SECONDS)
        server.close()

    assert server.line_count == 0
    assert lines[0].is_closed
    assert "a peer's line failed" in caplog.text
