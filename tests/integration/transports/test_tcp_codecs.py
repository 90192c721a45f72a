"""The TCP transport: reads as payloads of a codec."""

import contextlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.integration.transports.coded_ends import (
    CODED,
    LARGE_SHAPE,
    SHAPE,
    bits,
    coded_ends,
    coding,
    numbers,
    through,
)
from tests.integration.transports.ends import finish, kind_of
from tests.integration.transports.factories import rewired

from twofold_kvtransfer.blocks import Move
from twofold_kvtransfer.codecs import CodecName, KvShape, Packing
from twofold_kvtransfer.transports import TransferState
from twofold_kvtransfer.transports.sockets.wire import (
    ANSWER_BYTES,
)
from twofold_kvtransfer.transports.tcp import Failure, TcpTransport
from twofold_kvtransfer.transports.tcp.payloads import PLACES
from twofold_kvtransfer.transports.tcp.wire import CHUNK_HEAD_BYTES


@pytest.mark.parametrize("codec", CODED)
def test_a_read_brings_what_its_codec_makes_of_the_blocks(codec: CodecName) -> None:
    ids = st.permutations(range(6)).flatmap(lambda p: st.integers(1, 6).map(lambda n: p[:n]))

    @settings(max_examples=10, suppress_health_check=[HealthCheck.too_slow])
    @given(ids, ids, st.sampled_from([(0, 1), (0, 2), (1, 2), (2, 3)]))
    def check(written: list[int], named: list[int], part: tuple[int, int]) -> None:
        count = min(len(written), len(named))
        move = Move(local=tuple(written[:count]), remote=tuple(named[:count]))
        heads = SHAPE.heads * part[1]
        with coded_ends(codec, heads_there=heads, part=part) as ends:
            first = part[0] * SHAPE.heads
            wanted = ends.local.tensor.clone()
            taken = ends.remote.tensor[:, list(move.remote), first : first + SHAPE.heads]
            wanted[:, list(move.local)] = through(codec, taken, SHAPE)
            transfer = ends.pair.read(move)

            assert finish(transfer) is TransferState.DONE, transfer.reason
            assert transfer.codec == codec
            np.testing.assert_array_equal(bits(ends.local.tensor), bits(wanted))

    check()


@pytest.mark.parametrize("codec", CODED)
@pytest.mark.parametrize("count", [1, 7, 33])
def test_a_large_read_in_many_chunks_arrives(codec: CodecName, count: int) -> None:
    with coded_ends(codec, LARGE_SHAPE, block_count=40) as ends:
        ids = torch.randperm(40, generator=torch.Generator().manual_seed(3)).tolist()[:count]
        transfer = ends.pair.read(Move(tuple(range(count)), tuple(ids)))

        assert finish(transfer) is TransferState.DONE, transfer.reason
        wanted = through(codec, ends.remote.tensor[:, ids], LARGE_SHAPE)
        np.testing.assert_array_equal(bits(ends.local.tensor[:, :count]), bits(wanted))
        assert not ends.local.tensor[:, count:].any()


def test_a_codec_and_what_it_took_are_counted() -> None:
    with coded_ends("int4", LARGE_SHAPE, block_count=16) as ends:
        transfer = ends.pair.read(Move(tuple(range(16)), tuple(range(16))))
        assert finish(transfer) is TransferState.DONE
        counted = ends.here.snapshot().codec_counts

        assert transfer.size_bytes == LARGE_SHAPE.size_bytes(16)
        assert 0.26 < transfer.payload_bytes / transfer.size_bytes < 0.3
        assert set(counted) == {"int4"}
        assert counted["int4"].done_count == 1
        assert counted["int4"].size_bytes == transfer.size_bytes
        assert counted["int4"].payload_bytes == transfer.payload_bytes
        assert ends.here.snapshot().bytes_received == transfer.payload_bytes
        stages = (counted["int4"].encode_seconds, counted["int4"].decode_seconds)
        assert all(0 < seconds < transfer.seconds for seconds in stages)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_cannot_be_quantised_arrives_as_it_is(bad: float) -> None:
    with coded_ends("int8", LARGE_SHAPE, block_count=8) as ends:
        ends.remote.tensor[0, 3, 0, 5, 7] = bad
        transfer = ends.pair.read(Move(tuple(range(8)), tuple(range(8))))

        assert finish(transfer) is TransferState.DONE, transfer.reason
        np.testing.assert_array_equal(bits(ends.local.tensor[0]), bits(ends.remote.tensor[0]))
        # Another chunk is coded all the same.
        wanted = through("int8", ends.remote.tensor[1:], replace(LARGE_SHAPE, regions=3))
        np.testing.assert_array_equal(bits(ends.local.tensor[1:]), bits(wanted))


@pytest.mark.parametrize(
    "offset", [0, 8, 16, 24, CHUNK_HEAD_BYTES, CHUNK_HEAD_BYTES + 64, CHUNK_HEAD_BYTES + 5000]
)
@pytest.mark.parametrize("codec", ["lossless", "int4"])
def test_damage_to_a_payload_is_found(codec: CodecName, offset: int) -> None:
    with coded_ends(codec) as ends, rewired(ends.there.describe()) as (wire, description):
        pair = ends.here.open(description, ends.remote.map)
        wire.flip_towards_client(2 * ANSWER_BYTES + offset)
        damaged = pair.read(Move((0, 1), (1, 2)))

        assert kind_of(damaged) == Failure.CHECKSUM
        assert ends.here.snapshot().damaged_count == 1
        assert finish(pair.read(Move((0,), (1,)))) is TransferState.DONE
        assert set(ends.here.snapshot().codec_counts) == {codec}


OTHERS: dict[str, dict[str, Any]] = {
    "packing": {"packing": Packing.TOKENS},
    "dtype": {"dtype": "float16"},
    "tokens": {"block_tokens": 16, "head_dim": 32},
}


@pytest.mark.parametrize("name", OTHERS)
def test_peers_of_different_shapes_code_nothing(name: str) -> None:
    local, remote = numbers(SHAPE, 4), numbers(SHAPE, 4, seed=1)
    fields = {
        field: getattr(SHAPE, field)
        for field in ("regions", "heads", "block_tokens", "head_dim", "dtype", "packing")
    }
    other = KvShape(**(fields | OTHERS[name]))
    with (
        contextlib.closing(coding(local, "int4")) as here,
        contextlib.closing(coding(remote, "int4", shape=other)) as there,
    ):
        transfer = here.open(there.describe(), remote.map).read(Move((0, 1), (2, 3)))

        assert finish(transfer) is TransferState.DONE
        assert transfer.codec == "none"
        assert transfer.payload_bytes == transfer.size_bytes
        np.testing.assert_array_equal(bits(local.tensor[:, :2]), bits(remote.tensor[:, 2:]))


@pytest.mark.parametrize("coder_is_here", [True, False])
def test_a_peer_that_does_not_code_is_read_as_it_lies(coder_is_here: bool) -> None:
    local, remote = numbers(SHAPE, 4), numbers(SHAPE, 4, seed=1)
    with (
        contextlib.closing(
            coding(local, "int4") if coder_is_here else TcpTransport(local.map)
        ) as here,
        contextlib.closing(
            TcpTransport(remote.map) if coder_is_here else coding(remote, "int4")
        ) as there,
    ):
        transfer = here.open(there.describe(), remote.map).read(Move((0, 1), (2, 3)))

        assert finish(transfer) is TransferState.DONE
        assert transfer.codec == "none"
        np.testing.assert_array_equal(bits(local.tensor[:, :2]), bits(remote.tensor[:, 2:]))


def test_a_write_is_not_coded() -> None:
    with coded_ends("int4") as ends:
        transfer = ends.pair.write(Move((0, 1), (2, 3)))

        assert finish(transfer) is TransferState.DONE
        assert transfer.codec == "none"
        assert not ends.remote.tensor[:, 2:4].any()


@pytest.mark.parametrize("side", ["here", "there"])
def test_who_codes_too_much_already_moves_the_blocks_as_they_lie(side: str) -> None:
    with coded_ends("int4") as ends, contextlib.ExitStack() as taken:
        payloads = getattr(ends, side)._payloads
        assert payloads is not None
        assert all(taken.enter_context(payloads.place()) for _ in range(PLACES))
        transfer = ends.pair.read(Move((0, 1), (2, 3)))

        assert finish(transfer) is TransferState.DONE
        assert transfer.payload_bytes == transfer.size_bytes
        assert transfer.codec == "none"
        assert set(ends.here.snapshot().codec_counts) == {"none"}
        np.testing.assert_array_equal(
            bits(ends.local.tensor[:, :2]), bits(ends.remote.tensor[:, 2:4])
        )
        taken.close()
        with payloads.place() as is_free:
            assert is_free
