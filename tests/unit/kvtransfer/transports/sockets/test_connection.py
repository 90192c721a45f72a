import socket
import struct
from collections.abc import Sequence
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twofold_kvtransfer.transports import PeerError
from twofold_kvtransfer.transports.sockets.connection import Connection, address_of
from twofold_kvtransfer.transports.sockets.failing import Failure, TransferError


class ShortSocket:
    """Takes and gives a few bytes a call, as the kernel may when a wait was too long."""

    def __init__(self, steps: Sequence[int], coming: bytes = b"") -> None:
        self.sent = b""
        self.limits: list[float] = []
        """Of a wait for bytes, in seconds."""
        self._steps = list(steps)
        self._coming = coming

    def setblocking(self, _: bool) -> None:
        pass

    def setsockopt(self, _: int, name: int, value: Any) -> None:
        if name == socket.SO_RCVTIMEO:
            seconds, microseconds = struct.unpack("@ll", value)
            self.limits.append(seconds + microseconds / 1_000_000)

    def sendmsg(self, buffers: Sequence[memoryview], _: Any, __: int) -> int:
        taken = b"".join(buffers)[: self._step()]
        self.sent += taken
        return len(taken)

    def recvmsg_into(self, buffers: Sequence[memoryview], _: int, __: int) -> tuple[int]:
        given, left = 0, self._coming[: self._step()]
        self._coming = self._coming[len(left) :]
        for buffer in buffers:
            buffer[: len(left)] = left[: len(buffer)]
            given += len(left[: len(buffer)])
            left = left[len(buffer) :]
            if not left:
                break
        return (given,)

    def _step(self) -> int:
        step = self._steps.pop(0) if self._steps else 1 << 30
        if step < 0:
            raise BlockingIOError
        return step


PIECES = st.lists(st.binary(min_size=1, max_size=9), min_size=1, max_size=9)
STEPS = st.lists(st.integers(1, 12), max_size=40)


def over(sock: ShortSocket) -> Connection:
    return Connection(cast("socket.socket", sock), idle_seconds=1.0)


@given(PIECES, STEPS)
def test_what_the_socket_takes_in_pieces_is_sent_whole(
    pieces: list[bytes], steps: list[int]
) -> None:
    sock = ShortSocket(steps)
    over(sock).send([memoryview(piece) for piece in pieces])

    assert sock.sent == b"".join(pieces)


@given(PIECES, STEPS)
def test_what_comes_in_pieces_fills_the_buffers(pieces: list[bytes], steps: list[int]) -> None:
    buffers = [bytearray(len(piece)) for piece in pieces]
    over(ShortSocket(steps, b"".join(pieces))).receive([memoryview(b) for b in buffers])

    assert [bytes(buffer) for buffer in buffers] == pieces


def test_a_wait_too_long_is_a_timeout() -> None:
    with pytest.raises(TransferError) as raised:
        over(ShortSocket([2, -1])).send_bytes(b"ab", b"cd")
    assert raised.value.failure is Failure.TIMEOUT

    with pytest.raises(TransferError) as raised:
        over(ShortSocket([2, -1], b"abcd")).receive_bytes(4)
    assert raised.value.failure is Failure.TIMEOUT


def test_an_end_in_the_middle_is_a_lost_peer() -> None:
    with pytest.raises(TransferError) as raised:
        over(ShortSocket([], b"abc")).receive_bytes(4)
    assert raised.value.failure is Failure.PEER_LOST


@pytest.mark.parametrize("host", ["a" * 70, "a..b", "a\0b"], ids=repr)
def test_a_host_that_is_no_name_is_a_peer_that_is_not_there(host: str) -> None:
    with pytest.raises(PeerError, match="is not known"):
        address_of(host, 1)


def test_all_that_is_within_a_time_has_it_together() -> None:
    sock, now = ShortSocket([1] * 4, b"abcd"), iter([0.0, 1.0, 2.0, 2.9999, 3.0])
    connection = Connection(cast("socket.socket", sock), 9.0, lambda: next(now))

    with pytest.raises(TransferError) as raised, connection.within(3.0):
        connection.receive_bytes(4)

    assert raised.value.failure is Failure.TIMEOUT
    assert sock.limits == [9.0, 2.0, 1.0, 0.001]
    assert connection.receive_bytes(1) == b"d"


def test_what_follows_may_wait_as_long_each_time() -> None:
    sock = ShortSocket([1] * 3, b"ab")
    connection = Connection(cast("socket.socket", sock), 9.0, lambda: 5.0)
    with connection.within(3.0):
        connection.receive_bytes(1)
        connection.send_bytes(b"x")

    assert connection.receive_bytes(1) == b"b"
    assert sock.limits == [9.0, 3.0, 3.0, 3.0]


def test_a_pause_ends_when_the_connection_is_cut() -> None:
    connection = over(ShortSocket([]))
    connection._cut.set()

    with pytest.raises(TransferError):
        connection.pause(3600)
