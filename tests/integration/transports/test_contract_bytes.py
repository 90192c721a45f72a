"""Every transport: what arrives where."""

from dataclasses import dataclass

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.integration.transports.ends import finish, joined
from tests.integration.transports.factories import Kind

from twofold_kvtransfer.blocks import Move
from twofold_kvtransfer.transports import TransferState
from twofold_kvtransfer.transports.testing import host_blocks


@dataclass(frozen=True)
class Case:
    regions: int
    part_bytes: int
    part_count: int
    part_index: int
    local_gap: int
    remote_gap: int
    local_blocks: int
    remote_blocks: int
    written: tuple[int, ...]
    """No block twice: which of the two would be there afterwards is not said."""
    named: tuple[int, ...]


@st.composite
def cases(draw: st.DrawFn, written_is_local: bool) -> Case:
    part_count = draw(st.integers(1, 3))
    counts = [draw(st.integers(1, 12)), draw(st.integers(1, 12))]
    target, source = counts if written_is_local else reversed(counts)
    written = draw(st.lists(st.integers(0, target - 1), unique=True, max_size=target))
    named = st.lists(st.integers(0, source - 1), min_size=len(written), max_size=len(written))
    return Case(
        regions=draw(st.integers(1, 4)),
        part_bytes=draw(st.integers(1, 40) | st.integers(1, 5000)),
        part_count=part_count,
        part_index=draw(st.integers(0, part_count - 1)),
        local_gap=draw(st.integers(0, 9)),
        remote_gap=draw(st.integers(0, 9)),
        local_blocks=counts[0],
        remote_blocks=counts[1],
        written=tuple(written),
        named=tuple(draw(named)),
    )


def _check(kind: Kind, case: Case, *, reading: bool) -> None:
    whole_bytes = case.part_bytes * case.part_count
    local = host_blocks(
        case.regions,
        case.local_blocks,
        case.part_bytes,
        stride_bytes=case.part_bytes + case.local_gap,
        seed=1,
    )
    remote = host_blocks(
        case.regions,
        case.remote_blocks,
        whole_bytes,
        stride_bytes=whole_bytes + case.remote_gap,
        seed=2,
    )
    offset = case.part_index * case.part_bytes
    part = (offset, case.part_bytes)
    wanted_here, wanted_there = local.memory.copy(), remote.memory.copy()
    if reading:
        move = Move(local=case.written, remote=case.named)
        wanted_here[:, list(move.local), : case.part_bytes] = remote.cells(move.remote, part)
    else:
        move = Move(local=case.named, remote=case.written)
        wanted_there[:, list(move.remote), offset : offset + case.part_bytes] = local.cells(
            move.local
        )

    taken = remote.map.part(case.part_index, case.part_count)
    with joined(kind.new_make(), local, remote, taken) as ends:
        transfer = ends.pair.read(move) if reading else ends.pair.write(move)
        assert finish(transfer) is TransferState.DONE, transfer.reason

        np.testing.assert_array_equal(local.memory, wanted_here)
        np.testing.assert_array_equal(remote.memory, wanted_there)
        assert transfer.size_bytes == len(move.local) * case.regions * case.part_bytes


def test_a_read_brings_the_named_blocks_and_touches_no_other_byte(kind: Kind) -> None:
    @settings(max_examples=kind.example_count, suppress_health_check=[HealthCheck.too_slow])
    @given(cases(written_is_local=True))
    def check(case: Case) -> None:
        _check(kind, case, reading=True)

    check()


def test_a_write_puts_the_named_blocks_and_touches_no_other_byte(kind: Kind) -> None:
    @settings(max_examples=kind.example_count, suppress_health_check=[HealthCheck.too_slow])
    @given(cases(written_is_local=False))
    def check(case: Case) -> None:
        _check(kind, case, reading=False)

    check()


def test_a_move_of_many_small_blocks_arrives(kind: Kind) -> None:
    local, remote = host_blocks(80, 600, 24), host_blocks(80, 600, 24, stride_bytes=31, seed=3)
    ids = np.random.default_rng(4).permutation(600)
    with joined(kind.new_make(), local, remote) as ends:
        transfer = ends.pair.read(Move(local=tuple(range(600)), remote=tuple(ids.tolist())))

        assert finish(transfer) is TransferState.DONE, transfer.reason
        np.testing.assert_array_equal(local.memory, remote.cells(ids.tolist()))


def test_a_move_of_many_bytes_arrives(kind: Kind) -> None:
    local, remote = host_blocks(4, 64, 200_000), host_blocks(4, 64, 200_000, seed=3)
    ids = tuple(np.random.default_rng(4).permutation(64).tolist())
    with joined(kind.new_make(), local, remote) as ends:
        transfer = ends.pair.read(Move(local=ids, remote=ids))

        assert finish(transfer) is TransferState.DONE, transfer.reason
        np.testing.assert_array_equal(local.memory, remote.memory)


def test_many_transfers_at_once_all_arrive(kind: Kind) -> None:
    local, remote = host_blocks(3, 64, 3000), host_blocks(3, 64, 3000, seed=5)
    with joined(kind.new_make(), local, remote) as ends:
        transfers = [ends.pair.read(Move((i,), (63 - i,))) for i in range(64)]
        # In any order, as a caller may look at them.
        states = [finish(transfer) for transfer in reversed(transfers)]

        assert set(states) == {TransferState.DONE}
        np.testing.assert_array_equal(local.memory, remote.memory[:, ::-1])


def test_both_sides_read_at_the_same_time(kind: Kind) -> None:
    local, remote = host_blocks(2, 40, 5000, seed=6), host_blocks(2, 40, 5000, seed=7)
    old_local, old_remote = local.memory.copy(), remote.memory.copy()
    upper, lower = tuple(range(20)), tuple(range(20, 40))
    with joined(kind.new_make(), local, remote) as ends:
        back = ends.there.open(ends.here.describe(), local.map)
        transfers = [ends.pair.read(Move(upper, upper)), back.read(Move(lower, lower))]

        assert [finish(transfer) for transfer in transfers] == [TransferState.DONE] * 2
        np.testing.assert_array_equal(local.memory[:, :20], old_remote[:, :20])
        np.testing.assert_array_equal(remote.memory[:, 20:], old_local[:, 20:])


def test_a_read_brings_what_a_write_before_it_put(kind: Kind) -> None:
    local, remote = host_blocks(2, 4, 100, seed=8), host_blocks(2, 4, 100)
    with joined(kind.new_make(), local, remote) as ends:
        for source, target in ((0, 1), (1, 2), (2, 3)):
            assert finish(ends.pair.write(Move((source,), (target,)))) is TransferState.DONE
            assert finish(ends.pair.read(Move((target,), (target,)))) is TransferState.DONE

        np.testing.assert_array_equal(local.memory[:, 3], local.memory[:, 0])


def test_a_read_sees_what_the_peer_has_written_since_the_pair_was_opened(kind: Kind) -> None:
    local, remote = host_blocks(2, 3, 64), host_blocks(2, 3, 64)
    with joined(kind.new_make(), local, remote) as ends:
        remote.memory[...] = 7

        assert finish(ends.pair.read(Move((1,), (2,)))) is TransferState.DONE
        assert np.all(local.memory[:, 1] == 7)


def test_an_empty_move_is_done_at_once(kind: Kind) -> None:
    with joined(kind.new_make(), host_blocks(2, 3, 64), host_blocks(2, 3, 64)) as ends:
        for transfer in (ends.pair.read(Move((), ())), ends.pair.write(Move((), ()))):
            assert transfer.poll() is TransferState.DONE
            assert transfer.size_bytes == 0
            assert transfer.reason is None
