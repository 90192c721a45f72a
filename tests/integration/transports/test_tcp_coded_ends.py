"""The TCP transport: how coded reads end that do not arrive, and what is left of them."""

import socket
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager

import numpy as np
import pytest
from tests.integration.transports.coded_ends import (
    LARGE_SHAPE,
    SHAPE,
    CodedEnds,
    bits,
    coded_ends,
    coding,
    numbers,
)
from tests.integration.transports.ends import finish, kind_of, wait_until
from tests.integration.transports.factories import rewired

from twofold_kvtransfer.blocks import Move
from twofold_kvtransfer.codecs.cell_coding import CellCoder
from twofold_kvtransfer.transports import TransferState
from twofold_kvtransfer.transports.tcp import Failure, TcpSettings

COUNT = 40
ALL = Move(tuple(range(COUNT)), tuple(range(COUNT)))
SLOW = TcpSettings(bytes_per_second=2e6)


def slowly() -> AbstractContextManager[CodedEnds]:
    """20 MiB, of which payloads come at 2 MB/s."""
    return coded_ends("int4", LARGE_SHAPE, COUNT + 2, there=SLOW)


def threads_left() -> list[str]:
    names = [thread.name for thread in threading.enumerate()]
    return [name for name in names if name.startswith(("kv-codec", "kv-tcp"))]


def test_a_read_cancelled_while_it_is_coded_ends_and_writes_no_more() -> None:
    with slowly() as ends:
        transfer = ends.pair.read(ALL)
        wait_until(lambda: ends.local.tensor.any().item())
        transfer.cancel()
        assert kind_of(transfer) == Failure.CANCELLED
        at_end = bits(ends.local.tensor).copy()
        later = ends.pair.read(Move((COUNT,), (COUNT,)))

        assert finish(later) is TransferState.DONE, later.reason
        np.testing.assert_array_equal(bits(ends.local.tensor)[:, :COUNT], at_end[:, :COUNT])


def test_a_read_cut_off_while_it_is_coded_fails_and_the_next_does_not() -> None:
    with slowly() as ends, rewired(ends.there.describe()) as (wire, description):
        pair = ends.here.open(description, ends.remote.map)
        transfer = pair.read(ALL)
        wait_until(lambda: ends.here.snapshot().bytes_received > 0)
        wire.cut()

        assert kind_of(transfer) == Failure.PEER_LOST
        assert finish(pair.read(Move((COUNT,), (COUNT,)))) is TransferState.DONE


@pytest.mark.parametrize("side", ["here", "there", "neither"])
def test_a_transport_closed_while_it_codes_leaves_no_thread(side: str) -> None:
    closing: dict[str, Callable[[CodedEnds], None]] = {
        "here": lambda ends: ends.here.close(),
        "there": lambda ends: ends.there.close(),
        "neither": lambda _: None,
    }
    with slowly() as ends:
        transfer = ends.pair.read(ALL)
        wait_until(lambda: ends.here.snapshot().bytes_received > 0)
        closing[side](ends)

    assert transfer.poll() is TransferState.FAILED
    assert not threads_left()


def test_a_transport_that_cannot_listen_ends_the_threads_of_its_coder() -> None:
    blocks = numbers(SHAPE, 2)
    coder = CellCoder(blocks.map, SHAPE)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = TcpSettings(port=taken.getsockname()[1])
        with pytest.raises(OSError, match="in use"):
            coding(blocks, "int4", settings, coder=lambda *_: coder)

    assert not threads_left()


class Failing(CellCoder):
    """Has an error of its own."""

    def encode(self, *_: object) -> int:
        raise ZeroDivisionError


def test_an_error_while_a_peer_is_served_is_logged_and_counted_and_ends_its_stream(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with coded_ends("int4", there_coder=Failing) as ends:
        transfer = ends.pair.read(Move((0,), (1,)))

        assert kind_of(transfer) == Failure.PEER_LOST
        wait_until(lambda: ends.there.snapshot().accepted_streams == 1)
        assert ends.there.snapshot().refused_count == 1
    assert [record.message for record in caplog.records] == ["a peer could not be served"]
