"""The TCP transport: who gets in, and what a peer reaches."""

import contextlib
import os
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest
from tests.integration.transports.ends import END_SECONDS, finish, kind_of, wait_until
from tests.integration.transports.outside import OUTSIDE, sound
from tests.integration.transports.tcp_ends import dialled, two

from twofold_kvtransfer.blocks import BlockMap, InvalidBlocksError, Move
from twofold_kvtransfer.transports import PeerError, TransferState
from twofold_kvtransfer.transports.sockets.wire import (
    ANSWER_BYTES,
    HELLO_BYTES,
    REQUEST_BYTES,
    Answer,
    Direction,
    Hello,
    Verdict,
    decode_answer,
    encode_request,
)
from twofold_kvtransfer.transports.tcp import Failure, TcpSettings, TcpTransport
from twofold_kvtransfer.transports.tcp.description import (
    decode_description,
    encode_description,
)
from twofold_kvtransfer.transports.tcp.wire import CHECKSUM_BYTES
from twofold_kvtransfer.transports.testing import host_blocks


@pytest.mark.parametrize("said", [b"", b"GET / HTTP/1.1\r\n", os.urandom(100_000)])
def test_a_stranger_is_cut_off_and_keeps_no_thread(said: bytes) -> None:
    with two(there=TcpSettings(connect_seconds=0.3, idle_seconds=3600)) as ends:
        sock, _ = dialled(ends.there)
        with sock, contextlib.suppress(ConnectionError):
            sock.sendall(said)
            assert sock.recv(1) == b""

        wait_until(lambda: ends.there.snapshot().accepted_streams == 0)


def test_a_greeting_that_comes_byte_by_byte_has_no_longer_than_another() -> None:
    with two(there=TcpSettings(connect_seconds=0.3, idle_seconds=3600)) as ends:
        greeting = Hello(decode_description(ends.there.describe()).key).encode()
        sock, _ = dialled(ends.there)
        answer = None
        with sock, contextlib.suppress(ConnectionError):
            sock.settimeout(0.1)
            for byte in greeting:
                sock.sendall(bytes([byte]))
                with contextlib.suppress(TimeoutError):
                    answer = sock.recv(1)
                    break

        assert not answer
        wait_until(lambda: ends.there.snapshot().accepted_streams == 0)


def test_a_stranger_does_not_stop_a_peer() -> None:
    with two() as ends:
        sock, _ = dialled(ends.there)
        with sock:
            pair = ends.here.open(ends.there.describe(), ends.remote.map)

            assert finish(pair.read(Move((0,), (1,)))) is TransferState.DONE


def test_one_connection_too_many_is_turned_away() -> None:
    with two(there=TcpSettings(max_accepted_streams=2)) as ends:
        pair = ends.here.open(ends.there.describe(), ends.remote.map)
        with pytest.raises(PeerError):
            ends.here.open(ends.there.describe(), ends.remote.map)

        assert finish(pair.read(Move((0,), (1,)))) is TransferState.DONE
        assert ends.there.snapshot().refused_count == 1
        assert ends.here.snapshot().open_pairs == 1


def test_a_key_of_another_incarnation_is_refused_with_that_reason() -> None:
    with two() as ends:
        described = decode_description(ends.there.describe())
        old = encode_description(msgspec.structs.replace(described, key=b"k" * 16))

        with pytest.raises(PeerError, match="refused: this is another incarnation"):
            ends.here.open(old, ends.remote.map)
        wait_until(lambda: ends.there.snapshot().refused_count == 1)


def test_a_pair_does_not_reach_the_next_incarnation_on_the_same_port() -> None:
    with two() as ends:
        pair = ends.here.open(ends.there.describe(), ends.remote.map)
        port = decode_description(ends.there.describe()).port
        ends.there.close()
        blocks = host_blocks(2, 8, 20_000)
        with contextlib.closing(TcpTransport(blocks.map, TcpSettings(port=port))):
            assert kind_of(pair.read(Move((0,), (1,)))) == Failure.REFUSED


@pytest.mark.parametrize(("changes", "blocks"), OUTSIDE)
@pytest.mark.parametrize("direction", list(Direction))
def test_a_peer_reaches_nothing_but_blocks(
    direction: Direction, changes: dict[str, Any], blocks: tuple[int, ...]
) -> None:
    with two() as ends:
        sock, described = dialled(ends.there)
        head, ids, _ = encode_request(replace(sound(direction), **changes), blocks)
        with sock:
            sock.sendall(Hello(described.key).encode() + head + ids)
            answers = sock.recv(2 * ANSWER_BYTES, socket.MSG_WAITALL)

        assert decode_answer(answers[:ANSWER_BYTES]) == Answer(Verdict.OK)
        assert decode_answer(answers[ANSWER_BYTES:]).verdict is Verdict.REFUSED
        wait_until(lambda: ends.there.snapshot().refused_count == 1)
        wait_until(lambda: ends.there.snapshot().accepted_streams == 0)


@contextlib.contextmanager
def answering(described: bytes, *verdicts: Verdict) -> Iterator[bytes]:
    """Yield the description of a peer that says *verdicts* to its first connection: to a greeting,
    to a write of block 0 and at its end."""
    asked = (HELLO_BYTES, REQUEST_BYTES + 4, CHECKSUM_BYTES + 40_000)

    def answer() -> None:
        sock, _ = listener.accept()
        with sock:
            for size, verdict in zip(asked, verdicts, strict=False):
                sock.recv(size, socket.MSG_WAITALL)
                sock.sendall(Answer(verdict).encode())
            sock.recv(1)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=answer)
        thread.start()
        port = listener.getsockname()[1]
        yield encode_description(msgspec.structs.replace(decode_description(described), port=port))
        thread.join(END_SECONDS)


def test_a_greeting_that_is_answered_with_a_payload_opens_nothing() -> None:
    with (
        two(TcpSettings(streams_per_pair=1)) as ends,
        answering(ends.there.describe(), Verdict.CODED) as description,
        pytest.raises(PeerError, match="protocol"),
    ):
        ends.here.open(description, ends.remote.map)


@pytest.mark.parametrize("said", [(Verdict.CODED,), (Verdict.OK, Verdict.CODED)])
def test_a_write_that_is_answered_with_a_payload_fails(said: tuple[Verdict, ...]) -> None:
    with (
        two(TcpSettings(streams_per_pair=1)) as ends,
        answering(ends.there.describe(), Verdict.OK, *said) as description,
    ):
        pair = ends.here.open(description, ends.remote.map)

        assert kind_of(pair.write(Move((0,), (0,)))) == Failure.PROTOCOL


def test_nobody_writes_where_it_was_not_asked_for() -> None:
    with two() as ends, contextlib.closing(TcpTransport(ends.remote.map)) as there:
        before = ends.remote.memory.copy()
        pair = ends.here.open(there.describe(), ends.remote.map)

        transfer = pair.write(Move((0,), (1,)))
        assert finish(transfer) is TransferState.FAILED
        assert transfer.reason == "refused: blocks are only read from here"
        np.testing.assert_array_equal(ends.remote.memory, before)
        assert finish(pair.read(Move((0,), (1,)))) is TransferState.DONE


def test_a_map_that_the_peer_did_not_describe_is_refused() -> None:
    with two() as ends:
        elsewhere = host_blocks(2, 8, 20_000)

        with pytest.raises(InvalidBlocksError):
            ends.here.open(ends.there.describe(), elsewhere.map)


def test_blocks_of_an_accelerator_are_refused_by_naming_nixl() -> None:
    blocks = BlockMap(
        addresses=(4096,), block_count=1, block_bytes=1, stride_bytes=1, memory="vram"
    )

    with pytest.raises(InvalidBlocksError, match="nixl"):
        TcpTransport(blocks)
