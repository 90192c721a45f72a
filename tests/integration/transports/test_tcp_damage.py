"""The TCP transport: damage on the way, and what is counted."""

import numpy as np
import pytest
from tests.integration.transports.ends import finish, kind_of, wait_until
from tests.integration.transports.factories import rewired
from tests.integration.transports.tcp_ends import LARGE, two

from twofold_kvtransfer.blocks import Move
from twofold_kvtransfer.transports import TransferState
from twofold_kvtransfer.transports.sockets.wire import (
    ANSWER_BYTES,
    HELLO_BYTES,
    REQUEST_BYTES,
)
from twofold_kvtransfer.transports.tcp import Failure, TcpSettings
from twofold_kvtransfer.transports.tcp.wire import CHECKSUM_BYTES


@pytest.mark.parametrize("offset", [0, 3, CHECKSUM_BYTES, CHECKSUM_BYTES + 39_999])
def test_damage_to_what_is_read_is_found(offset: int) -> None:
    with two() as ends, rewired(ends.there.describe()) as (wire, description):
        pair = ends.here.open(description, ends.remote.map)
        wire.flip_towards_client(2 * ANSWER_BYTES + offset)

        assert kind_of(pair.read(Move((0,), (1,)))) == Failure.CHECKSUM
        assert ends.here.snapshot().damaged_count == 1


@pytest.mark.parametrize("offset", range(0, REQUEST_BYTES + 4, 5))
def test_damage_to_a_request_is_found(offset: int) -> None:
    with two() as ends, rewired(ends.there.describe()) as (wire, description):
        pair = ends.here.open(description, ends.remote.map)
        wire.flip_towards_server(HELLO_BYTES + offset)

        assert kind_of(pair.read(Move((0,), (1,)))) == Failure.CHECKSUM
        assert ends.there.snapshot().damaged_count == 1


@pytest.mark.parametrize("offset", [0, CHECKSUM_BYTES, CHECKSUM_BYTES + 39_999])
def test_damage_to_what_is_written_is_found_by_the_peer_and_told(offset: int) -> None:
    with two() as ends, rewired(ends.there.describe()) as (wire, description):
        pair = ends.here.open(description, ends.remote.map)
        wire.flip_towards_server(HELLO_BYTES + REQUEST_BYTES + 4 + offset)

        assert kind_of(pair.write(Move((0,), (1,)))) == Failure.CHECKSUM
        assert ends.there.snapshot().damaged_count == 1
        assert finish(pair.write(Move((2,), (3,)))) is TransferState.DONE


def test_without_checksums_damage_arrives() -> None:
    with two(TcpSettings(checksum=False)) as ends:
        assert not ends.here.checks_integrity
        with rewired(ends.there.describe()) as (wire, description):
            pair = ends.here.open(description, ends.remote.map)
            wire.flip_towards_client(2 * ANSWER_BYTES + CHECKSUM_BYTES + 5)

            assert finish(pair.read(Move((0,), (1,)))) is TransferState.DONE
            assert np.count_nonzero(ends.local.memory[:, 0] != ends.remote.memory[:, 1]) == 1


def test_a_snapshot_counts_both_sides() -> None:
    with two() as ends:
        pair = ends.here.open(ends.there.describe(), ends.remote.map)
        assert finish(pair.read(Move((0, 1), (1, 2)))) is TransferState.DONE
        assert finish(pair.write(Move((0,), (1,)))) is TransferState.DONE
        # A server counts when it has sent, and by then a peer may have read it.
        wait_until(lambda: ends.there.snapshot().bytes_sent == 80_000)
        here, there = ends.here.snapshot(), ends.there.snapshot()

        assert (here.bytes_received, here.bytes_sent) == (80_000, 40_000)
        assert (there.bytes_received, there.bytes_sent) == (40_000, 80_000)
        assert (here.done_count, there.done_count) == (2, 0)
        assert (here.open_pairs, there.accepted_streams) == (1, TcpSettings().streams_per_pair)
        pair.close("the end")
        assert finish(pair.read(Move((0,), (1,)))) is TransferState.FAILED
        assert ends.here.snapshot().failed_counts == {Failure.CLOSED: 1}
        assert ends.here.snapshot().open_pairs == 0


def test_a_limited_sender_keeps_to_its_rate() -> None:
    rate = 4e6
    with two(there=TcpSettings(bytes_per_second=rate), geometry=LARGE) as ends:
        pair = ends.here.open(ends.there.describe(), ends.remote.map)
        transfer = pair.read(Move((0,), (0,)))

        assert finish(transfer) is TransferState.DONE
        # A lower bound, which a slow machine does not break.
        assert transfer.seconds >= transfer.size_bytes / rate - 0.01
