"""What the double does beyond the contract, which ``tests/integration/transports`` holds it to."""

import numpy as np
import pytest

from twofold_kvtransfer.blocks import Move
from twofold_kvtransfer.transports import PeerError, TransferState
from twofold_kvtransfer.transports.testing import (
    Fault,
    MemoryNetwork,
    MemoryPair,
    MemoryTransport,
    host_blocks,
)


class Two:
    def __init__(self, *, checks_integrity: bool = True) -> None:
        network = MemoryNetwork()
        self.local, self.remote = host_blocks(2, 4, 10), host_blocks(2, 4, 10, seed=1)
        self.here = network.join(self.local, checks_integrity=checks_integrity)
        self.there: MemoryTransport = network.join(self.remote)
        self.pair: MemoryPair = self.here.open(self.there.describe(), self.remote.map)


def test_blocks_of_the_same_seed_are_the_same() -> None:
    first, second = host_blocks(2, 3, 4, seed=5), host_blocks(2, 3, 4, seed=5)

    np.testing.assert_array_equal(first.memory, second.memory)
    assert first.map.addresses != second.map.addresses
    assert first.memory.any()


def test_a_transfer_ends_at_the_poll_that_a_test_wants() -> None:
    ends = Two()
    ends.here.polls_until_done = 3
    transfer = ends.pair.read(Move((0,), (1,)))

    states = [transfer.poll() for _ in range(4)]

    assert states == [TransferState.MOVING] * 2 + [TransferState.DONE] * 2


def test_nothing_moves_before_it_is_polled() -> None:
    ends = Two()
    transfer = ends.pair.read(Move((0,), (1,)))

    assert not ends.local.memory.any()
    transfer.poll()
    np.testing.assert_array_equal(ends.local.memory[:, 0], ends.remote.memory[:, 1])


@pytest.mark.parametrize(
    ("fault", "reason"),
    [(Fault.FAIL, "injected"), (Fault.FLIP, "checksum"), (Fault.LOSE, "peer-lost")],
)
def test_a_fault_fails_the_next_transfer_with_its_reason(fault: Fault, reason: str) -> None:
    ends = Two()
    ends.here.inject(fault)
    transfer = ends.pair.read(Move((0,), (1,)))

    assert transfer.poll() is TransferState.FAILED
    assert (transfer.reason or "").startswith(reason)
    assert not ends.local.memory.any()


@pytest.mark.parametrize("fault", [Fault.FAIL, Fault.FLIP, Fault.HANG])
def test_a_fault_is_of_one_transfer(fault: Fault) -> None:
    ends = Two()
    ends.here.inject(fault)
    ends.pair.read(Move((0,), (1,))).poll()

    assert ends.pair.read(Move((0,), (1,))).poll() is TransferState.DONE


def test_a_hanging_transfer_moves_until_it_is_cancelled() -> None:
    ends = Two()
    ends.here.inject(Fault.HANG)
    transfer = ends.pair.read(Move((0,), (1,)))

    assert {transfer.poll() for _ in range(100)} == {TransferState.MOVING}
    transfer.cancel()
    assert transfer.poll() is TransferState.FAILED


def test_a_lost_peer_stays_lost() -> None:
    ends = Two()
    ends.here.inject(Fault.LOSE)
    ends.pair.read(Move((0,), (1,))).poll()

    assert ends.pair.write(Move((0,), (1,))).poll() is TransferState.FAILED
    with pytest.raises(PeerError):
        ends.here.open(ends.there.describe(), ends.remote.map)


def test_without_integrity_a_flipped_bit_arrives() -> None:
    ends = Two(checks_integrity=False)
    ends.here.inject(Fault.FLIP)

    assert ends.pair.read(Move((0,), (1,))).poll() is TransferState.DONE
    assert np.count_nonzero(ends.local.memory[:, 0] != ends.remote.memory[:, 1]) == 1
