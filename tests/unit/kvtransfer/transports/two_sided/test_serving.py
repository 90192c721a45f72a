"""Requests that the peer of a line is refused."""

from types import SimpleNamespace
from typing import Any

import pytest

from twofold_kvtransfer.transports.tcp.failing import TransferError
from twofold_kvtransfer.transports.tcp.wire import (
    Direction,
    Request,
    Verdict,
    decode_answer,
    encode_request,
)
from twofold_kvtransfer.transports.testing import host_blocks
from twofold_kvtransfer.transports.two_sided.serving import Service


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

    def send_bytes(self, *buffers: bytes) -> None:
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
