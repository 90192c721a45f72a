"""The TCP transport: peers that die, stand still or are cut off, and too much at once."""

import contextlib
import socket
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
from tests.integration.transports.ends import (
    END_SECONDS,
    finish,
    joined_to_process,
    kind_of,
    wait_until,
)
from tests.integration.transports.factories import FACTORIES, rewired
from tests.integration.transports.tcp_ends import HALF, LARGE, QUICK, SLOW, two

from twofold_kvtransfer.blocks import Move
from twofold_kvtransfer.transports import TransferState
from twofold_kvtransfer.transports.sockets.wire import (
    HELLO_BYTES,
    KEY_BYTES,
    REQUEST_BYTES,
    Answer,
    Verdict,
)
from twofold_kvtransfer.transports.tcp import Failure, TcpSettings, TcpTransport
from twofold_kvtransfer.transports.tcp.description import (
    Description,
    encode_description,
)
from twofold_kvtransfer.transports.testing import host_blocks


def test_a_killed_peer_is_lost() -> None:
    with joined_to_process("tcp", FACTORIES["tcp"], LARGE) as ends:
        ends.peer.stand_still()
        transfers = [ends.pair.read(Move(HALF, HALF)), ends.pair.write(Move(HALF, HALF))]
        ends.peer.kill()

        assert [kind_of(transfer) for transfer in transfers] == [Failure.PEER_LOST] * 2


def test_a_peer_that_stands_still_is_a_timeout_and_may_go_on_later() -> None:
    with joined_to_process("tcp", FACTORIES["tcp"], LARGE) as ends:
        here = TcpTransport(ends.local.map, QUICK)
        with contextlib.closing(here):
            pair = here.open(ends.peer.introduction.description, ends.peer.map)
            ends.peer.stand_still()
            for start in (pair.read, pair.write):
                assert kind_of(start(Move(HALF, HALF))) == Failure.TIMEOUT
            ends.peer.go_on()

            assert finish(pair.read(Move(HALF, HALF))) is TransferState.DONE
            np.testing.assert_array_equal(ends.local.memory[:, :32], ends.remote.memory[:, :32])


def test_a_pair_whose_connections_were_cut_while_idle_connects_again() -> None:
    with two() as ends, rewired(ends.there.describe()) as (wire, description):
        pair = ends.here.open(description, ends.remote.map)
        wire.cut()
        wait_until(lambda: ends.there.snapshot().accepted_streams == 0)

        assert finish(pair.read(Move((0,), (1,)))) is TransferState.DONE


def test_a_transfer_cut_off_in_the_middle_fails_and_the_next_does_not() -> None:
    with (
        two(there=SLOW, geometry=LARGE) as ends,
        rewired(ends.there.describe()) as (wire, description),
    ):
        pair = ends.here.open(description, ends.remote.map)
        transfer = pair.read(Move(HALF, HALF))
        wait_until(lambda: ends.here.snapshot().bytes_received > 0)
        wire.cut()

        assert kind_of(transfer) == Failure.PEER_LOST
        assert finish(pair.read(Move((40,), (40,)))) is TransferState.DONE


def test_a_transfer_cancelled_in_the_middle_leaves_local_memory_alone() -> None:
    with two(there=SLOW, geometry=LARGE) as ends:
        pair = ends.here.open(ends.there.describe(), ends.remote.map)
        transfer = pair.read(Move(HALF, HALF))
        wait_until(lambda: ends.here.snapshot().bytes_received > 0)
        transfer.cancel()
        assert kind_of(transfer) == Failure.CANCELLED
        assert ends.here.snapshot().bytes_received < transfer.size_bytes
        ends.local.memory[...] = 9

        assert finish(pair.read(Move((40,), (40,)))) is TransferState.DONE
        np.testing.assert_array_equal(ends.local.memory[:, 40], ends.remote.memory[:, 40])
        ends.local.memory[:, 40] = 9
        assert (ends.local.memory == 9).all()


def test_one_transfer_too_many_is_busy() -> None:
    with two(TcpSettings(max_transfers_per_pair=2), SLOW, LARGE) as ends:
        pair = ends.here.open(ends.there.describe(), ends.remote.map)
        moving = [pair.read(Move(HALF, HALF)) for _ in range(2)]

        assert kind_of(pair.read(Move((40,), (40,)))) == Failure.BUSY
        for transfer in moving:
            transfer.cancel()
            assert kind_of(transfer) == Failure.CANCELLED
        assert finish(pair.read(Move((40,), (40,)))) is TransferState.DONE


def test_a_failed_transfer_leaves_nothing_in_the_queue() -> None:
    with two(there=SLOW, geometry=LARGE) as ends:
        pair = ends.here.open(ends.there.describe(), ends.remote.map)
        moving = pair.read(Move(HALF, HALF))
        wait_until(lambda: ends.here.snapshot().bytes_received > 0)
        waiting = [pair.read(Move((40,), (40,))) for _ in range(5)]
        for transfer in waiting:
            transfer.cancel()

        assert not pair._queue._waiting
        assert {transfer.poll() for transfer in waiting} == {TransferState.FAILED}
        assert moving.poll() is TransferState.MOVING


def test_a_connection_on_which_something_failed_is_not_used_again() -> None:
    """A late answer to one request would else be taken for the answer to the next."""
    local, remote = host_blocks(1, 2, 64), host_blocks(1, 2, 64)
    with (
        contextlib.closing(
            TcpTransport(local.map, replace(QUICK, streams_per_pair=1, connect_seconds=30))
        ) as here,
        socket.create_server(("127.0.0.1", 0)) as listener,
        ThreadPoolExecutor(1) as opener,
    ):
        silent = Description(
            host="127.0.0.1",
            port=listener.getsockname()[1],
            key=b"k" * KEY_BYTES,
            blocks=remote.map,
        )
        opening = opener.submit(here.open, encode_description(silent), remote.map)
        sock, _ = listener.accept()
        with sock:
            assert len(sock.recv(HELLO_BYTES, socket.MSG_WAITALL)) == HELLO_BYTES
            sock.sendall(Answer(Verdict.OK).encode())
            transfer = opening.result(END_SECONDS).read(Move((0,), (1,)))
            assert len(sock.recv(REQUEST_BYTES + 4, socket.MSG_WAITALL)) == REQUEST_BYTES + 4

            assert kind_of(transfer) == Failure.TIMEOUT
            sock.settimeout(END_SECONDS)
            assert sock.recv(1) == b""
