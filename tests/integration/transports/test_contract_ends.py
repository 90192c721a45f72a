"""Every transport: how transfers end that do not arrive."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from tests.integration.transports.ends import (
    END_SECONDS,
    finish,
    joined,
    joined_to_process,
    let_begin,
    stuck,
)
from tests.integration.transports.factories import Kind
from tests.integration.transports.peers import Geometry

from twofold_kvtransfer.blocks import Move
from twofold_kvtransfer.transports import TransferState
from twofold_kvtransfer.transports.testing import host_blocks

LARGE = Geometry(regions=8, blocks=64, block_bytes=131_072, seed=1)
"""64 MiB, and so nothing that is over before a test can look."""
LOWER, UPPER = tuple(range(32)), tuple(range(32, 64))


def test_a_cancelled_transfer_fails_as_cancelled_and_writes_no_more(
    kind_name: str, kind: Kind
) -> None:
    with stuck(kind_name, kind, LARGE) as ends:
        transfer = ends.pair.read(Move(LOWER, LOWER))
        let_begin(transfer)
        transfer.cancel()
        state = finish(transfer)
        if state is TransferState.FAILED:
            assert transfer.reason == "cancelled"
            at_end = ends.local.memory[:, :32].copy()
        else:
            assert kind.is_one_sided
            at_end = ends.remote.memory[:, :32]
        ends.go_on()
        later = ends.pair.read(Move(UPPER, UPPER))

        assert finish(later) is TransferState.DONE, later.reason
        np.testing.assert_array_equal(ends.local.memory[:, 32:], ends.remote.memory[:, 32:])
        np.testing.assert_array_equal(ends.local.memory[:, :32], at_end)
        assert transfer.poll() is state


def test_a_transfer_that_waits_behind_others_can_be_cancelled(kind_name: str, kind: Kind) -> None:
    with stuck(kind_name, kind, LARGE) as ends:
        first = ends.pair.read(Move(LOWER, LOWER))
        second = ends.pair.read(Move(UPPER, UPPER))
        let_begin(first)
        second.cancel()
        if finish(second) is TransferState.FAILED:
            assert second.reason == "cancelled"
        first.cancel()

        finish(first)


def test_to_cancel_what_has_ended_changes_nothing(kind: Kind) -> None:
    with joined(kind.new_make(), host_blocks(1, 2, 64), host_blocks(1, 2, 64)) as ends:
        transfer = ends.pair.read(Move((0,), (1,)))
        assert finish(transfer) is TransferState.DONE
        transfer.cancel()

        assert transfer.poll() is TransferState.DONE
        assert transfer.reason is None


def test_a_closed_pair_fails_what_moves_and_what_comes_with_its_reason(
    kind_name: str, kind: Kind
) -> None:
    with stuck(kind_name, kind, LARGE) as ends:
        moving = ends.pair.read(Move(LOWER, LOWER))
        let_begin(moving)
        if kind.is_one_sided:
            finish(moving)
        ends.pair.close("a new incarnation")
        after = ends.pair.read(Move(UPPER, UPPER))

        if not kind.is_one_sided:
            assert moving.poll() is TransferState.FAILED
            assert moving.reason == "a new incarnation"
        assert after.poll() is TransferState.FAILED
        assert after.reason == "a new incarnation"
        assert not ends.local.memory[:, 32:].any()


def test_the_first_reason_to_close_a_pair_stays(kind: Kind) -> None:
    with joined(kind.new_make(), host_blocks(1, 2, 64), host_blocks(1, 2, 64)) as ends:
        ends.pair.close("first")
        ends.pair.close("second")

        transfer = ends.pair.write(Move((0,), (1,)))

        assert transfer.poll() is TransferState.FAILED
        assert transfer.reason == "first"


def test_one_closed_pair_leaves_another_of_the_same_peer_alone(kind: Kind) -> None:
    local, remote = host_blocks(1, 2, 64), host_blocks(1, 2, 64, seed=2)
    with joined(kind.new_make(), local, remote) as ends:
        other = ends.there.open(ends.here.describe(), local.map)
        ends.pair.close("not wanted")

        assert finish(other.write(Move((0,), (1,)))) is TransferState.DONE
        np.testing.assert_array_equal(local.memory[:, 1], remote.memory[:, 0])


def test_pairs_that_are_opened_at_once_all_move_blocks(kind: Kind) -> None:
    local, remote = host_blocks(1, 4, 64), host_blocks(1, 4, 64, seed=2)
    with joined(kind.new_make(), local, remote) as ends, ThreadPoolExecutor(4) as threads:
        opening = [
            threads.submit(ends.there.open, ends.here.describe(), local.map) for _ in range(4)
        ]
        pairs = [each.result(END_SECONDS) for each in opening]
        moves = [pair.write(Move((n,), (n,))) for n, pair in enumerate(pairs)]

        assert [finish(each) for each in moves] == [TransferState.DONE] * 4
        np.testing.assert_array_equal(local.memory, remote.memory)


def test_a_closed_transport_fails_what_moves(kind_name: str, kind: Kind) -> None:
    with stuck(kind_name, kind, LARGE) as ends:
        transfer = ends.pair.read(Move(LOWER, LOWER))
        let_begin(transfer)
        if kind.is_one_sided:
            finish(transfer)
        ends.here.close()

        state = transfer.poll()
        assert state is TransferState.FAILED or kind.is_one_sided
        assert (transfer.reason is None) == (state is TransferState.DONE)


def test_a_read_from_a_peer_that_closed_fails_with_a_reason(kind: Kind) -> None:
    with joined(kind.new_make(), host_blocks(1, 2, 64), host_blocks(1, 2, 64)) as ends:
        ends.there.close()
        transfer = ends.pair.read(Move((0,), (1,)))

        assert finish(transfer) is TransferState.FAILED
        assert transfer.reason


@pytest.fixture
def reaching(kind: Kind) -> Kind:
    if not kind.reaches_processes:
        pytest.skip("reaches no other process")
    return kind


def test_a_process_reads_from_another(kind_name: str, reaching: Kind) -> None:
    with joined_to_process(kind_name, reaching, LARGE) as ends:
        transfer = ends.pair.read(Move(LOWER + UPPER, UPPER + LOWER))

        assert finish(transfer) is TransferState.DONE, transfer.reason
        np.testing.assert_array_equal(ends.local.memory[:, :32], ends.remote.memory[:, 32:])
        np.testing.assert_array_equal(ends.local.memory[:, 32:], ends.remote.memory[:, :32])


def test_a_process_reads_back_what_it_wrote_to_another(kind_name: str, reaching: Kind) -> None:
    with joined_to_process(kind_name, reaching, LARGE) as ends:
        ends.local.memory[:, :32] = 7
        assert finish(ends.pair.write(Move(LOWER, UPPER))) is TransferState.DONE
        ends.local.memory[:, :32] = 0
        assert finish(ends.pair.read(Move(UPPER + LOWER, UPPER + LOWER))) is TransferState.DONE

        assert (ends.local.memory[:, 32:] == 7).all()
        np.testing.assert_array_equal(ends.local.memory[:, :32], ends.remote.memory[:, :32])


def test_a_read_from_a_killed_process_fails_with_a_reason(kind_name: str, reaching: Kind) -> None:
    with joined_to_process(kind_name, reaching, LARGE) as ends:
        ends.peer.kill()
        transfer = ends.pair.read(Move(LOWER, LOWER))

        assert finish(transfer) is TransferState.FAILED
        assert transfer.reason


def test_a_read_that_moves_when_its_peer_is_killed_ends(kind_name: str, reaching: Kind) -> None:
    with joined_to_process(kind_name, reaching, LARGE) as ends:
        ends.peer.stand_still()
        transfer = ends.pair.read(Move(LOWER, LOWER))
        let_begin(transfer)
        assert transfer.poll() is TransferState.MOVING or reaching.is_one_sided
        ends.peer.kill()

        if finish(transfer) is TransferState.DONE:
            assert reaching.is_one_sided
            np.testing.assert_array_equal(ends.local.memory[:, :32], ends.remote.memory[:, :32])
        else:
            assert transfer.reason
