"""Every transport: what it counts, finds out and gives back."""

import threading
import time
from collections.abc import Callable

import numpy as np
import psutil
import pytest
from tests.integration.transports.ends import END_SECONDS, finish, joined, stuck
from tests.integration.transports.factories import Kind
from tests.integration.transports.peers import Geometry

from twofold_kvtransfer.blocks import Move
from twofold_kvtransfer.transports import TransferState
from twofold_kvtransfer.transports.testing import host_blocks


def test_bytes_and_seconds_are_told(kind: Kind) -> None:
    with joined(kind.new_make(), host_blocks(3, 4, 50), host_blocks(3, 4, 50)) as ends:
        transfer = ends.pair.read(Move((0, 1), (2, 3)))
        assert finish(transfer) is TransferState.DONE
        seconds = transfer.seconds
        time.sleep(0.001)

        assert transfer.size_bytes == 2 * 3 * 50
        assert seconds > 0
        assert transfer.seconds == seconds


def test_a_transfer_that_moves_has_seconds_and_no_reason(kind_name: str, kind: Kind) -> None:
    with stuck(kind_name, kind, Geometry(2, 64, 131_072, seed=1)) as ends:
        transfer = ends.pair.read(Move((0,), (0,)))
        before = transfer.seconds

        assert transfer.reason is None
        if transfer.poll() is TransferState.MOVING:
            time.sleep(0.001)
            assert transfer.seconds > before


def test_a_flipped_bit_fails_its_transfer_and_no_other(kind: Kind) -> None:
    if kind.flipping is None:
        pytest.skip("does not check integrity")
    make = kind.new_make()
    local, remote = host_blocks(2, 8, 20_000), host_blocks(2, 8, 20_000, seed=2)
    here, there = make(local), make(remote)
    try:
        assert here.checks_integrity
        with kind.flipping(here, there.describe()) as description:
            pair = here.open(description, remote.map)
            damaged = pair.read(Move((0, 1), (0, 1)))
            assert finish(damaged) is TransferState.FAILED
            sound = pair.read(Move((4, 5), (4, 5)))

            assert finish(sound) is TransferState.DONE, sound.reason
            assert (damaged.reason or "").startswith("checksum")
            np.testing.assert_array_equal(local.memory[:, 4:6], remote.memory[:, 4:6])
            pair.close("the end")
    finally:
        here.close()
        there.close()


def test_a_closed_transport_gives_back_threads_files_and_ports(kind: Kind) -> None:
    def use() -> None:
        with joined(kind.new_make(), host_blocks(2, 8, 5000), host_blocks(2, 8, 5000)) as ends:
            assert finish(ends.pair.read(Move((0,), (1,)))) is TransferState.DONE

    use()  # loads what a library keeps for the life of the process
    before = _held()
    for _ in range(3):
        use()

    # At most, for a thread that was joined may still be in the kernel's list, now as then.
    _wait_for(lambda: _at_most(_held(), before))
    assert _at_most(_held(), before), (before, _held())


def test_to_close_twice_is_to_close_once(kind: Kind) -> None:
    transport = kind.new_make()(host_blocks(1, 2, 64))
    transport.close()

    transport.close()


def _held() -> tuple[int, int, int, int]:
    """Return how many Python threads, threads, files and listening ports this process has."""
    process = psutil.Process()
    listening = [c for c in process.net_connections() if c.status == psutil.CONN_LISTEN]
    return threading.active_count(), process.num_threads(), process.num_fds(), len(listening)


def _at_most(now: tuple[int, ...], then: tuple[int, ...]) -> bool:
    return all(count <= limit for count, limit in zip(now, then, strict=True))


def _wait_for(holds: Callable[[], bool]) -> None:
    give_up_at = time.monotonic() + END_SECONDS / 10
    while not holds() and time.monotonic() < give_up_at:
        time.sleep(0.001)
