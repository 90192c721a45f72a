"""Which blocks :mod:`benchmarks.kv_transfer` moves: of which models, how many, in which order."""

import msgspec
import numpy as np

from twofold_kvtransfer.blocks import Move

MOST_BLOCKS = 4096
BLOCK_COUNTS = (1, 16, 256, 1024, MOST_BLOCKS)
MARKS = 251
"""Of as many kinds are the peer's blocks; a prime, so that no stride of blocks repeats one."""


class Geometry(msgspec.Struct, frozen=True):
    name: str
    layers: int
    block_bytes: int
    """K and V of one layer."""

    def block_count(self, memory_bytes: int) -> int:
        """Return how many blocks a process has: what fits, and no more than a case asks for."""
        return min(MOST_BLOCKS, memory_bytes // (self.layers * self.block_bytes))


GEOMETRIES = (
    Geometry("SmolLM2-135M, float32, 128 tokens", 30, 2 * 3 * 64 * 4 * 128),
    Geometry("SmolLM2-135M, bf16, 16 tokens", 30, 2 * 3 * 64 * 2 * 16),
    Geometry("8B, bf16, 16 tokens", 32, 2 * 8 * 128 * 2 * 16),
    Geometry("70B TP 4, bf16, 16 tokens", 80, 2 * 2 * 128 * 2 * 16),
)


class Case(msgspec.Struct, frozen=True):
    geometry: str
    order: str
    blocks: int
    """Of each transfer."""
    at_once: int

    def __str__(self) -> str:
        return f"{self.geometry}: {self.at_once} x {self.blocks} {self.order}"


def cases(geometry: Geometry, block_count: int, most_bytes: int) -> list[Case]:
    """Return those whose reads are of at most *block_count* blocks each, and all together of at
    most *most_bytes*."""
    most_blocks = most_bytes // (geometry.layers * geometry.block_bytes)
    return [
        Case(geometry.name, order, blocks, at_once)
        for order, at_once in (("scattered", 1), ("scattered", 8), ("in a row", 1))
        for blocks in BLOCK_COUNTS
        if blocks <= block_count and blocks * at_once <= most_blocks
    ]


def moves_of(case: Case, block_count: int, seed: int) -> list[Move]:
    """Return what is read at once. Each block of the peer has one place here, so that reads may
    share blocks where there are too few for all of them."""
    if case.order == "scattered":
        random = np.random.default_rng(seed)
        here, there = (random.permutation(block_count) for _ in range(2))
    else:
        here = np.arange(block_count)
        there = np.roll(here, case.blocks)
    step = min(case.blocks, block_count // case.at_once)
    return [
        Move(tuple(np.roll(here, -start)[: case.blocks].tolist()), tuple(there_part))
        for start in range(0, step * case.at_once, step)
        for there_part in [np.roll(there, -start)[: case.blocks].tolist()]
    ]


def marks(ids: np.ndarray) -> np.ndarray:
    """Return what blocks *ids* of the peer are full of; no zero."""
    return (ids % MARKS + 1).astype(np.uint8)
