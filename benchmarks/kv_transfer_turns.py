"""One contender's turn: two processes of its own, of which one reads the other's blocks.

An agent of NIXL keeps a thread awake for as long as it lives, unless it is paced. So nobody who is
not measured is alive meanwhile.
"""

import multiprocessing
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

import msgspec
import numpy as np

from benchmarks.kv_contenders import BARE, CONTENDERS, Side
from benchmarks.kv_transfer_cases import Case, Geometry, cases, marks, moves_of
from benchmarks.kv_transfer_paced import PACED, PacedSide
from twofold_kvtransfer.blocks import BlockMap, Move
from twofold_kvtransfer.transports.testing import HostBlocks, host_blocks

SAMPLE_BYTES = 128 << 20
"""A sample repeats small transfers until it has moved so much."""
TURN_SECONDS = 600.0
END_SECONDS = 30.0

SIDES: Mapping[str, Callable[[BlockMap], Side]] = {
    BARE: CONTENDERS[BARE],
    PACED: PacedSide,
    **CONTENDERS,
}


class TurnError(Exception):
    """A turn did not end, or one of its processes did before."""


class Turn(msgspec.Struct, frozen=True):
    contender: str
    geometry: Geometry
    round: int
    block_count: int
    """Of each process."""
    most_bytes: int
    """Moved at once."""


class Sample(msgspec.Struct, frozen=True):
    contender: str
    case: Case
    round: int
    transfer_bytes: int
    """Of all that are at once."""
    seconds: float


def take_turn(turn: Turn) -> list[Sample]:
    """Measure all cases of *turn*'s geometry.

    Raises:
        TurnError: they took too long, or a process died.
    """
    context = multiprocessing.get_context("spawn")
    reading, lending = context.Pipe()
    answers, answering = context.Pipe(duplex=False)
    processes: list[BaseProcess] = [
        context.Process(target=lend, args=(lending, turn)),
        context.Process(target=read, args=(reading, answering, turn)),
    ]
    for process in processes:
        process.start()
    for end in (reading, lending, answering):
        end.close()  # theirs alone, so that each sees the other's end
    try:
        if not answers.poll(TURN_SECONDS):
            raise TurnError(f"{turn.contender}, {turn.geometry.name}: not in {TURN_SECONDS} s")
        samples: list[Sample] = answers.recv()
    except EOFError as error:
        raise TurnError(f"{turn.contender}, {turn.geometry.name}: the reader died") from error
    finally:
        answers.close()
        _end(processes)
    return samples


def lend(pipe: Connection, turn: Turn) -> None:
    """Be the peer until the other end of *pipe* is closed."""
    geometry = turn.geometry
    blocks = host_blocks(geometry.layers, turn.block_count, geometry.block_bytes)
    blocks.memory[...] = marks(np.arange(turn.block_count))[None, :, None]
    with closing(SIDES[turn.contender](blocks.map)) as side:
        pipe.send((side.describe(), blocks.map))
        try:
            pipe.recv()
        except EOFError:
            return


def read(pipe: Connection, answers: Connection, turn: Turn) -> None:
    """Read from the peer at the other end of *pipe*, and send the samples."""
    geometry = turn.geometry
    local = host_blocks(geometry.layers, turn.block_count, geometry.block_bytes)
    local.memory[...] = 0
    with closing(SIDES[turn.contender](local.map)) as side:
        side.connect(*pipe.recv())
        chosen = cases(geometry, turn.block_count, turn.most_bytes)
        answers.send([_measure(side, turn, case, local) for case in chosen])


def _measure(side: Side, turn: Turn, case: Case, local: HostBlocks) -> Sample:
    moves = moves_of(case, turn.block_count, seed=turn.round)
    size_bytes = case.at_once * case.blocks * local.map.bytes_per_block
    local.memory[:, :, 0] = 0
    side.read(moves)
    _check(moves, local)
    times = max(1, SAMPLE_BYTES // size_bytes)
    begin = time.perf_counter()
    for _ in range(times):
        side.read(moves)
    seconds = (time.perf_counter() - begin) / times
    return Sample(turn.contender, case, turn.round, size_bytes, seconds)


def _check(moves: Sequence[Move], local: HostBlocks) -> None:
    for move in moves:
        arrived = local.memory[:, list(move.local), 0]
        assert (arrived == marks(np.array(move.remote))).all(), "other bytes arrived"


def _end(processes: Sequence[BaseProcess]) -> None:
    for process in processes:
        process.join(END_SECONDS)
        if process.is_alive():
            process.kill()
            process.join(END_SECONDS)
