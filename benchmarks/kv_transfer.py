"""``python -m benchmarks.kv_transfer``: blocks of a KV cache from one process to another.

Bare NIXL, NIXL as vLLM's connector calls it, and our transports read the same blocks of the same
peer, one after the other in each round, in an order that turns. ``scattered`` blocks lie anywhere,
``in a row`` one behind the other. Speed is from the call to the end of the last transfer, without
anything of an engine around it.
"""

import argparse
import multiprocessing
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median

import msgspec
import numpy as np

from benchmarks.figures import Spread, ratios, spread
from benchmarks.kv_contenders import BARE, CONTENDERS, OURS, Side
from benchmarks.machine import describe_machine
from benchmarks.report import Goal, publish, say, table
from twofold_kvtransfer.blocks import BlockMap, Move
from twofold_kvtransfer.transports.testing import HostBlocks, host_blocks

GIGA = 1e9
RATIO_GOAL = 1 / 0.9
"""Of our seconds and bare NIXL's: nine tenths of its bandwidth."""
SAMPLE_BYTES = 128 << 20
"""A sample repeats small transfers until it has moved so much."""
JOIN_SECONDS = 30.0


class Geometry(msgspec.Struct, frozen=True):
    name: str
    layers: int
    block_bytes: int
    """K and V of one layer."""


GEOMETRIES = (
    Geometry("SmolLM2-135M, float32, 128 tokens", 30, 2 * 3 * 64 * 4 * 128),
    Geometry("8B, bf16, 16 tokens", 32, 2 * 8 * 128 * 2 * 16),
    Geometry("70B TP 4, bf16, 16 tokens", 80, 2 * 2 * 128 * 2 * 16),
)
BLOCK_COUNTS = (1, 16, 256, 1024, 4096)


class Case(msgspec.Struct, frozen=True):
    geometry: str
    order: str
    blocks: int
    """Of each transfer."""
    at_once: int

    def __str__(self) -> str:
        return f"{self.geometry}: {self.at_once} x {self.blocks} {self.order}"


class Sample(msgspec.Struct, frozen=True):
    contender: str
    case: Case
    round: int
    transfer_bytes: int
    """Of all that are at once."""
    seconds: float


def main() -> int:
    parsed = _parser().parse_args()
    machine = describe_machine(("nixl", "numpy"))
    memory_bytes = (512 if parsed.quick else 2048) << 20
    samples: list[Sample] = []
    for geometry in GEOMETRIES:
        count = memory_bytes // (geometry.layers * geometry.block_bytes)
        with contenders_joined(geometry, count) as (local, sides):
            for number in range(parsed.rounds or (3 if parsed.quick else 7)):
                samples += run_round(geometry, local, sides, number)
        say(f"{geometry.name}: done")
    say(render(samples))
    results = {"machine": machine, "figures": figures(samples), "samples": samples}
    return publish("kv_transfer", results, goals(samples), parsed.json)


def run_round(
    geometry: Geometry, local: HostBlocks, sides: dict[str, Side], number: int
) -> list[Sample]:
    names = list(sides)
    turn = number % len(names)
    return [
        _measure(sides[name], name, case, local, number)
        for case in cases(geometry, local.map.block_count)
        for name in names[turn:] + names[:turn]
    ]


def cases(geometry: Geometry, block_count: int) -> list[Case]:
    """Return what fits into *block_count* blocks a process."""
    return [
        Case(geometry.name, order, blocks, at_once)
        for order, at_once in (("scattered", 1), ("scattered", 8), ("in a row", 1))
        for blocks in BLOCK_COUNTS
        if blocks * at_once <= block_count
    ]


def _measure(side: Side, name: str, case: Case, local: HostBlocks, number: int) -> Sample:
    moves = _moves(case, local.map.block_count, seed=number)
    size_bytes = case.at_once * case.blocks * local.map.bytes_per_block
    local.memory[:, :, 0] = 0
    side.read(moves)
    _check(moves, local)
    times = max(1, SAMPLE_BYTES // size_bytes)
    begin = time.perf_counter()
    for _ in range(times):
        side.read(moves)
    return Sample(name, case, number, size_bytes, (time.perf_counter() - begin) / times)


def _moves(case: Case, block_count: int, seed: int) -> list[Move]:
    wanted = case.blocks * case.at_once
    if case.order == "scattered":
        random = np.random.default_rng(seed)
        here, there = (random.permutation(block_count)[:wanted].tolist() for _ in range(2))
    else:
        here, there = list(range(wanted)), list(range(block_count - wanted, block_count))
    parts = range(0, wanted, case.blocks)
    return [
        Move(tuple(here[at : at + case.blocks]), tuple(there[at : at + case.blocks]))
        for at in parts
    ]


def _check(moves: Sequence[Move], local: HostBlocks) -> None:
    for move in moves:
        arrived = local.memory[:, list(move.local), 0]
        assert (arrived == _marks(np.array(move.remote))).all(), "other bytes arrived"


def _marks(ids: np.ndarray) -> np.ndarray:
    """Return what a block of the peer is full of."""
    return (ids % 251 + 1).astype(np.uint8)


@contextmanager
def contenders_joined(
    geometry: Geometry, block_count: int
) -> Iterator[tuple[HostBlocks, dict[str, Side]]]:
    """Yield blocks here, and each contender's side with its pair to the peer's blocks."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    peer = context.Process(target=serve, args=(theirs, geometry, block_count))
    peer.start()
    local = host_blocks(geometry.layers, block_count, geometry.block_bytes)
    local.memory[...] = 1
    sides = {name: make(local.map) for name, make in CONTENDERS.items()}
    try:
        remote, descriptions = ours.recv()
        for name, side in sides.items():
            side.connect(descriptions[name], remote)
        yield local, sides
    finally:
        for side in sides.values():
            side.close()
        ours.close()
        peer.join(JOIN_SECONDS)
        if peer.is_alive():
            peer.kill()


def serve(pipe: Connection, geometry: Geometry, block_count: int) -> None:
    """Be the peer until the other end of *pipe* is closed."""
    blocks = host_blocks(geometry.layers, block_count, geometry.block_bytes)
    blocks.memory[...] = _marks(np.arange(block_count))[None, :, None]
    sides = {name: make(blocks.map) for name, make in CONTENDERS.items()}
    remote: BlockMap = blocks.map
    pipe.send((remote, {name: side.describe() for name, side in sides.items()}))
    try:
        pipe.recv()
    except EOFError:
        for side in sides.values():
            side.close()


def render(samples: Sequence[Sample]) -> str:
    """Render a table for each geometry: GB/s of each, and ours by bare NIXL's."""
    parts = []
    for geometry in dict.fromkeys(each.case.geometry for each in samples):
        chosen = [case for case in _cases_of(samples) if case.geometry == geometry]
        rows = [
            (
                f"{case.at_once} x {case.blocks} {case.order}",
                f"{_of(samples, BARE, case)[0].transfer_bytes / (1 << 20):,.0f}",
                *(speed(samples, name, case).median for name in CONTENDERS),
                1 / slowness(samples, OURS, case),
            )
            for case in chosen
        ]
        headers = (f"{geometry}: blocks", "MiB", *CONTENDERS, f"{OURS} : {BARE}")
        parts.append(table(headers, rows))
    return "\n\n".join(parts) + "\n\nGB/s, medians over the rounds\n"


def figures(samples: Sequence[Sample]) -> dict[str, dict[str, Spread]]:
    return {
        str(case): {name: speed(samples, name, case) for name in CONTENDERS}
        for case in _cases_of(samples)
    }


def goals(samples: Sequence[Sample]) -> list[Goal]:
    return [
        Goal(f"seconds, {OURS} : {BARE}, {case}", slowness(samples, OURS, case), RATIO_GOAL)
        for case in _cases_of(samples)
    ]


def speed(samples: Sequence[Sample], name: str, case: Case) -> Spread:
    """Return GB/s over the rounds."""
    chosen = _of(samples, name, case)
    return spread([each.transfer_bytes / each.seconds / GIGA for each in chosen])


def slowness(samples: Sequence[Sample], name: str, case: Case) -> float:
    """Return the median over the rounds of *name*'s seconds by bare NIXL's."""
    pairs = [[each.seconds for each in _of(samples, who, case)] for who in (name, BARE)]
    return median(ratios(*pairs))


def _of(samples: Sequence[Sample], name: str, case: Case) -> list[Sample]:
    return [each for each in samples if (each.contender, each.case) == (name, case)]


def _cases_of(samples: Sequence[Sample]) -> list[Case]:
    return list(dict.fromkeys(each.case for each in samples))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="three rounds with less memory")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--json", type=Path)
    return parser


if __name__ == "__main__":
    sys.exit(main())
