"""The two-sided transport over gloo: who gets in, and what a peer reaches."""

import contextlib
import os
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest
from tests.integration.transports.ends import END_SECONDS, Two, finish, kind_of, wait_until
from tests.integration.transports.gloo_ends import SteeredGloo, over_gloo, two
from tests.integration.transports.outside import OUTSIDE, sound

from twofold_kvtransfer.blocks import BlockMap, InvalidBlocksError, Move
from twofold_kvtransfer.communicators.gloo import GlooLibrary
from twofold_kvtransfer.transports import PeerError, TransferState
from twofold_kvtransfer.transports.sockets.conversation import expect
from twofold_kvtransfer.transports.sockets.failing import TransferError
from twofold_kvtransfer.transports.sockets.wire import (
    ANSWER_BYTES,
    HELLO_BYTES,
    KEY_BYTES,
    Answer,
    Direction,
    Hello,
    Verdict,
    decode_answer,
    encode_request,
)
from twofold_kvtransfer.transports.tcp import Failure, TcpTransport
from twofold_kvtransfer.transports.testing import host_blocks
from twofold_kvtransfer.transports.two_sided import TwoSidedSettings, TwoSidedTransport
from twofold_kvtransfer.transports.two_sided.carrier import Carrier, Ends
from twofold_kvtransfer.transports.two_sided.description import (
    Description,
    decode_description,
    encode_description,
)

QUICK = TwoSidedSettings(connect_seconds=0.3)


def described(transport: TwoSidedTransport) -> Description:
    return decode_description(transport.describe(), "gloo")


@contextlib.contextmanager
def dialled(transport: TwoSidedTransport) -> Iterator[socket.socket]:
    peer = described(transport)
    with socket.create_connection((peer.host, peer.port)) as sock:
        sock.settimeout(END_SECONDS)
        yield sock


def test_nobody_writes_where_it_was_not_asked_for() -> None:
    with (
        two() as ends,
        contextlib.closing(TwoSidedTransport(ends.remote.map, SteeredGloo())) as there,
    ):
        before = ends.remote.memory.copy()
        pair = ends.here.open(there.describe(), ends.remote.map)

        transfer = pair.write(Move((0,), (1,)))
        assert finish(transfer) is TransferState.FAILED
        assert transfer.reason == "refused: blocks are only read from here"
        np.testing.assert_array_equal(ends.remote.memory, before)


@pytest.mark.parametrize("said", [b"", b"GET / HTTP/1.1\r\n", os.urandom(100_000)])
def test_a_stranger_is_cut_off_and_keeps_no_thread(said: bytes) -> None:
    with two(there=QUICK) as ends:
        with dialled(ends.there) as sock, contextlib.suppress(ConnectionError):
            sock.sendall(said)
            assert sock.recv(1) == b""

        wait_until(lambda: ends.there.accepted_lines == 0)


def test_who_knows_the_key_and_then_says_nothing_is_cut_off() -> None:
    with two(there=QUICK) as ends, dialled(ends.there) as sock:
        sock.sendall(Hello(described(ends.there).key).encode())
        answer = sock.recv(ANSWER_BYTES, socket.MSG_WAITALL)

        assert decode_answer(answer) == Answer(Verdict.OK)
        wait_until(lambda: ends.there.accepted_lines == 0)


def test_to_open_a_pair_with_who_says_nothing_fails_in_time() -> None:
    with (
        two(QUICK) as ends,
        socket.create_server(("127.0.0.1", 0)) as listener,
        ThreadPoolExecutor(1) as opener,
    ):
        peer = msgspec.structs.replace(described(ends.there), port=listener.getsockname()[1])
        opening = opener.submit(ends.here.open, encode_description(peer), ends.remote.map)
        sock, _ = listener.accept()
        with sock:
            assert len(sock.recv(HELLO_BYTES, socket.MSG_WAITALL)) == HELLO_BYTES
            sock.sendall(Answer(Verdict.OK).encode())

            with pytest.raises(PeerError, match="timeout"):
                opening.result(END_SECONDS)


def test_one_line_too_many_is_turned_away() -> None:
    with two(there=TwoSidedSettings(max_accepted_lines=1)) as ends:
        pair = ends.here.open(ends.there.describe(), ends.remote.map)
        with pytest.raises(PeerError):
            ends.here.open(ends.there.describe(), ends.remote.map)

        assert finish(pair.read(Move((0,), (1,)))) is TransferState.DONE


def test_a_key_of_another_incarnation_is_refused_with_that_reason() -> None:
    with two() as ends:
        old = msgspec.structs.replace(described(ends.there), key=b"k" * KEY_BYTES)

        with pytest.raises(PeerError, match="refused: this is another incarnation"):
            ends.here.open(encode_description(old), ends.remote.map)


def test_a_pair_does_not_reach_the_next_incarnation_on_the_same_port() -> None:
    with two() as ends:
        pair = ends.here.open(ends.there.describe(), ends.remote.map)
        port = described(ends.there).port
        ends.there.close()
        blocks = host_blocks(2, 8, 20_000)
        with contextlib.closing(over_gloo(blocks, TwoSidedSettings(port=port))):
            assert kind_of(pair.read(Move((0,), (1,)))) == Failure.REFUSED


def test_a_transport_of_another_kind_is_refused() -> None:
    blocks = host_blocks(2, 8, 20_000)
    with two() as ends, contextlib.closing(TcpTransport(blocks.map)) as tcp:
        with pytest.raises(PeerError, match="gloo"):
            ends.here.open(tcp.describe(), blocks.map)
        with pytest.raises(PeerError):
            tcp.open(ends.there.describe(), ends.remote.map)


@pytest.mark.parametrize(("changes", "blocks"), [*OUTSIDE, ({"run_cells": 1000}, (0,))])
@pytest.mark.parametrize("direction", list(Direction))
def test_a_peer_reaches_nothing_but_blocks(
    direction: Direction, changes: dict[str, Any], blocks: tuple[int, ...]
) -> None:
    with two() as ends, _line_to(ends) as carrier:
        control = carrier.connect().control
        head, ids, _ = encode_request(replace(sound(direction), **changes), blocks)
        control.connection.send_bytes(head, ids)

        with pytest.raises(TransferError, match="refused"):
            expect(control.connection, Verdict.OK)
        wait_until(lambda: ends.there.accepted_lines == 0)


@contextlib.contextmanager
def _line_to(ends: Two[TwoSidedTransport]) -> Iterator[Carrier]:
    peer = described(ends.there)
    address = (socket.AF_INET, (peer.host, peer.port))
    way = Ends(address, peer.key, ends.here._make_line, TwoSidedSettings())
    carrier = Carrier(way, lambda: None)
    try:
        yield carrier
    finally:
        carrier.disconnect()


def test_blocks_of_an_accelerator_are_refused_by_naming_nixl() -> None:
    blocks = BlockMap(
        addresses=(4096,), block_count=1, block_bytes=1, stride_bytes=1, memory="vram"
    )

    with pytest.raises(InvalidBlocksError, match="nixl"):
        TwoSidedTransport(blocks, GlooLibrary("127.0.0.1"))
