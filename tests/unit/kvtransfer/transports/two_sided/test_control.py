"""What the two sides of a line say to each other."""

import contextlib
import socket
from collections.abc import Iterator

import pytest

from twofold_kvtransfer.transports.sockets.failing import TransferError
from twofold_kvtransfer.transports.two_sided.control import MAX_MESSAGE_BYTES, Control, Step

Both = tuple[Control, socket.socket]


@pytest.fixture
def both() -> Iterator[Both]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        far = socket.create_connection(listener.getsockname())
        near, _ = listener.accept()
    control = Control(near, idle_seconds=30)
    with contextlib.closing(far):
        yield control, far
    control.connection.close()


def test_a_message_arrives_whole(both: Both) -> None:
    control, far = both
    control.put(b"x" * MAX_MESSAGE_BYTES)
    sent = far.recv(MAX_MESSAGE_BYTES + 4, socket.MSG_WAITALL)
    far.sendall(sent)

    assert control.take() == b"x" * MAX_MESSAGE_BYTES


def test_a_message_beyond_the_limit_is_not_waited_for(both: Both) -> None:
    control, far = both
    far.sendall((MAX_MESSAGE_BYTES + 1).to_bytes(4, "little"))

    with pytest.raises(TransferError, match="protocol"):
        control.take()


def test_a_step_arrives_with_its_checksum(both: Both) -> None:
    control, far = both
    control.tell(Step.GO, 2**64 - 1)
    far.sendall(far.recv(9, socket.MSG_WAITALL))

    assert control.hear() == (Step.GO, 2**64 - 1)


def test_a_step_of_no_kind_is_no_step(both: Both) -> None:
    control, far = both
    far.sendall(b"\x07" + bytes(8))

    with pytest.raises(TransferError, match="protocol"):
        control.hear()


def test_the_end_of_a_peer_is_seen_past_what_nobody_has_read(both: Both) -> None:
    control, far = both
    far.sendall(b"unread")
    assert not control.has_ended()
    far.close()

    assert control.has_ended()


def test_a_closed_connection_has_ended(both: Both) -> None:
    control, _ = both
    control.connection.close()

    assert control.has_ended()
