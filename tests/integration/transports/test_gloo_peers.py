"""The two-sided transport over gloo: peers that die, stand still or damage, and much at once."""

import contextlib
import gc
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import psutil
import pytest
from tests.integration.transports.ends import (
    END_SECONDS,
    finish,
    joined_to_process,
    kind_of,
    let_begin,
    wait_until,
)
from tests.integration.transports.factories import FACTORIES
from tests.integration.transports.gloo_ends import (
    ALL,
    LARGE,
    SteeredGloo,
    over_gloo,
    threads_of_pairs,
    two,
)

from twofold_kvtransfer.blocks import Move
from twofold_kvtransfer.transports import Pair, Transfer, TransferState
from twofold_kvtransfer.transports.tcp import Failure
from twofold_kvtransfer.transports.two_sided import TwoSidedSettings

IMPATIENT = TwoSidedSettings(connect_seconds=5, idle_seconds=0.5)
Start = Callable[[Pair, Move], Transfer]
EITHER = pytest.mark.parametrize(
    "start",
    [lambda pair, move: pair.read(move), lambda pair, move: pair.write(move)],
    ids=["read", "write"],
)


def test_a_peer_killed_in_the_middle_of_a_read_is_lost_and_nothing_is_written_after() -> None:
    with joined_to_process("gloo", FACTORIES["gloo"], LARGE) as ends:
        gloo = SteeredGloo.of(ends.here)
        gloo.stop_in_the_middle()
        transfer = ends.pair.read(Move(ALL, ALL))
        gloo.wait_until_stopped()
        ends.peer.kill()
        gloo.go_on()

        assert kind_of(transfer) == Failure.PEER_LOST
        arrived = ends.local.memory.copy()
        ends.pair.close("the end")
        np.testing.assert_array_equal(ends.local.memory, arrived)
        assert arrived[0].any()
        assert not arrived[-1].any()


@EITHER
def test_a_peer_killed_while_it_stands_still_is_lost(start: Start) -> None:
    with joined_to_process("gloo", FACTORIES["gloo"], LARGE) as ends:
        ends.peer.stand_still()
        transfers = [start(ends.pair, Move(ALL, ALL)) for _ in range(3)]
        let_begin(transfers[0])
        ends.peer.kill()

        assert [kind_of(transfer) for transfer in transfers] == [Failure.PEER_LOST] * 3


@EITHER
def test_a_pair_with_a_peer_that_stands_still_can_be_closed(start: Start) -> None:
    with joined_to_process("gloo", FACTORIES["gloo"], LARGE) as ends:
        ends.peer.stand_still()
        transfer = start(ends.pair, Move(ALL, ALL))
        let_begin(transfer)
        assert transfer.poll() is TransferState.MOVING
        ends.pair.close("a new incarnation")

        assert transfer.poll() is TransferState.FAILED
        assert transfer.reason == "a new incarnation"
        assert not threads_of_pairs()


def test_a_pair_whose_data_stopped_after_their_checksum_can_be_closed() -> None:
    """Then its thread waits for gloo, which has no call that ends that."""
    with two(geometry=LARGE) as ends:
        gloo = SteeredGloo.of(ends.there)
        gloo.stop_in_the_middle()
        pair = ends.here.open(ends.there.describe(), ends.remote.map)
        transfer = pair.write(Move(ALL, ALL))
        gloo.wait_until_stopped()
        let_begin(transfer)
        pair.close("not wanted")
        gloo.go_on()

        assert transfer.reason == "not wanted"
        assert not threads_of_pairs()


@EITHER
def test_a_peer_that_stands_still_is_a_timeout_and_may_go_on_later(start: Start) -> None:
    with (
        joined_to_process("gloo", FACTORIES["gloo"], LARGE) as ends,
        contextlib.closing(over_gloo(ends.local, IMPATIENT)) as here,
    ):
        pair = here.open(ends.peer.introduction.description, ends.peer.map)
        ends.peer.stand_still()
        assert kind_of(start(pair, Move(ALL, ALL))) == Failure.TIMEOUT
        # What the peer still says to that would else be taken for an answer to the next.
        wait_until(lambda: pair._carrier._line is None)
        ends.peer.go_on()

        assert finish(pair.read(Move((3,), (4,)))) is TransferState.DONE
        assert finish(pair.write(Move((3,), (4,)))) is TransferState.DONE


def test_data_that_do_not_move_for_too_long_are_a_timeout() -> None:
    with two(replace(IMPATIENT, connect_seconds=300), geometry=LARGE) as ends:
        gloo = SteeredGloo.of(ends.there)
        gloo.stop_in_the_middle()
        pair = ends.here.open(ends.there.describe(), ends.remote.map)
        reason = kind_of(pair.write(Move(ALL, ALL)))
        gloo.go_on()

        assert reason == Failure.TIMEOUT


def test_a_cancelled_read_ends_at_once_and_the_line_goes_on() -> None:
    with two(geometry=LARGE) as ends:
        pair = ends.here.open(ends.there.describe(), ends.remote.map)
        line = pair._carrier._line
        gloo = SteeredGloo.of(ends.here)
        gloo.stop_in_the_middle()
        transfer = pair.read(Move(ALL, ALL))
        gloo.wait_until_stopped()
        transfer.cancel()

        assert transfer.poll() is TransferState.FAILED
        arrived = ends.local.memory.copy()
        gloo.go_on()
        assert finish(pair.read(Move((63,), (0,)))) is TransferState.DONE
        arrived[:, 63] = ends.remote.memory[:, 0]
        np.testing.assert_array_equal(ends.local.memory, arrived)
        assert gloo.arrived_count <= 4
        assert pair._carrier._line is line


def test_a_cancelled_write_stops_and_the_line_goes_on() -> None:
    with two(geometry=LARGE) as ends:
        pair = ends.here.open(ends.there.describe(), ends.remote.map)
        line = pair._carrier._line
        gloo = SteeredGloo.of(ends.there)
        gloo.stop_in_the_middle()
        transfer = pair.write(Move(ALL, ALL))
        gloo.wait_until_stopped()
        before = ends.remote.memory[-1].copy()
        transfer.cancel()

        assert transfer.poll() is TransferState.FAILED
        ends.local.memory[...] = 0
        gloo.go_on()
        assert finish(pair.read(Move((63,), (0,)))) is TransferState.DONE
        np.testing.assert_array_equal(ends.remote.memory[-1], before)
        assert pair._carrier._line is line


def test_what_a_peer_finds_damaged_fails_its_write_as_that() -> None:
    with two(geometry=LARGE) as ends:
        pair = ends.here.open(ends.there.describe(), ends.remote.map)
        before = ends.remote.memory.copy()
        SteeredGloo.of(ends.there).flips_left = 1

        assert kind_of(pair.write(Move(ALL, ALL))) == Failure.CHECKSUM
        np.testing.assert_array_equal(ends.remote.memory, before)
        assert finish(pair.write(Move((3,), (4,)))) is TransferState.DONE


def test_a_read_that_finds_damage_asks_for_no_more() -> None:
    with two(geometry=LARGE) as ends:
        pair = ends.here.open(ends.there.describe(), ends.remote.map)
        gloo = SteeredGloo.of(ends.here)
        gloo.arrived_count, gloo.flips_left = 2, 1
        assert kind_of(pair.read(Move(ALL, ALL))) == Failure.CHECKSUM
        assert finish(pair.read(Move((3,), (4,)))) is TransferState.DONE

        assert gloo.arrived_count <= 2 + 2 + 1


def test_both_sides_move_blocks_of_each_other_at_once_again_and_again() -> None:
    lower, upper = ALL[:32], ALL[32:]
    with two(geometry=LARGE) as ends, ThreadPoolExecutor(2) as both:
        there = ends.there.open(ends.here.describe(), ends.local.map)
        here = ends.here.open(ends.there.describe(), ends.remote.map)

        def move(pair: Pair, ids: tuple[int, ...]) -> set[TransferState]:
            moves = [Move(ids[i : i + 4], ids[i : i + 4]) for i in range(0, 32, 4)]
            transfers = [start(each) for _ in range(3) for each in moves
                         for start in (pair.read, pair.write)]  # fmt: skip
            return {finish(transfer) for transfer in transfers}

        moved = [both.submit(move, here, lower), both.submit(move, there, upper)]

        assert [each.result(END_SECONDS) for each in moved] == [{TransferState.DONE}] * 2
        np.testing.assert_array_equal(ends.local.memory, ends.remote.memory)


def test_one_transfer_too_many_is_busy() -> None:
    with two(TwoSidedSettings(max_transfers_per_pair=2), geometry=LARGE) as ends:
        pair = ends.here.open(ends.there.describe(), ends.remote.map)
        gloo = SteeredGloo.of(ends.here)
        gloo.stop_in_the_middle()
        moving = [pair.read(Move(ALL, ALL)) for _ in range(2)]
        gloo.wait_until_stopped()
        assert kind_of(pair.read(Move((0,), (0,)))) == Failure.BUSY
        gloo.go_on()

        assert {finish(transfer) for transfer in moving} == {TransferState.DONE}
        assert finish(pair.read(Move((0,), (0,)))) is TransferState.DONE


def test_a_pair_that_was_cut_in_the_middle_leaves_no_thread_and_no_file() -> None:
    def use() -> None:
        with two(geometry=LARGE) as ends:
            pair = ends.here.open(ends.there.describe(), ends.remote.map)
            gloo = SteeredGloo.of(ends.here)
            gloo.stop_in_the_middle()
            transfer = pair.read(Move(ALL, ALL))
            gloo.wait_until_stopped()
            closing = threading.Thread(target=ends.there.close)
            closing.start()
            gloo.go_on()
            finish(transfer)
            closing.join(END_SECONDS)
            pair.close("the end")
            wait_until(lambda: ends.there.accepted_lines == 0)

    use()
    before = _held()
    use()

    wait_until(lambda: all(n <= b for n, b in zip(_held(), before, strict=True)))


def _held() -> tuple[int, int, int]:
    gc.collect()
    process = psutil.Process()
    return threading.active_count(), process.num_threads(), process.num_fds()
