"""What choosing costs and gains over many transfers, in a world of virtual time."""

import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import pytest

from twofold_kvtransfer.codecs import DEFAULT_COSTS, CodecName, Quality
from twofold_kvtransfer.transports.tcp.accounts import Stages
from twofold_kvtransfer.transports.tcp.choosing import Chooser
from twofold_kvtransfer.transports.tcp.compressing import CellCoder, Compression

GBIT = 1e9 / 8
COPIED = 40 * GBIT
"""Bytes per second that idle cores receive; those with more load receive less."""
CHUNK_BYTES = 1 << 20
NOISE = 0.15
"""Of the logarithm of each time."""
BEGIN_SECONDS = 2e-3
"""That any transfer takes beside its bytes."""

PROMPTS = ((88_000_000,), (35_000_000,), (6_000_000, 35_000_000, 88_000_000, 200_000_000))
LOADS = (1, 2, 4, 8)
UP = (1, 5, 25, 100)


@dataclass(frozen=True, slots=True)
class World:
    gbit: float
    load: float
    """How many times as long coding takes as on idle cores."""

    def transfer(self, codec: CodecName, size_bytes: int, seed: float) -> tuple[float, Stages]:
        """Return the seconds of a transfer, and those of its stages, as a transport sees them."""
        random_ = random.Random(seed)

        def noisy(seconds: float) -> float:
            return seconds * random_.lognormvariate(0, NOISE)

        cost = DEFAULT_COSTS[codec]
        payload_bytes = int(size_bytes * cost.payload_share)
        link = noisy(payload_bytes / min(self.gbit * GBIT, COPIED / self.load))
        if codec == "none":
            seconds = link + BEGIN_SECONDS
            return seconds, Stages(payload_bytes, move_seconds=seconds)
        encode, decode = (
            noisy(self.load * (cost.fixed_seconds + size_bytes * each))
            for each in (cost.encode_seconds_per_byte, cost.decode_seconds_per_byte)
        )
        longest = max(encode, link, decode)
        others = (encode + link + decode - longest) * min(1.0, CHUNK_BYTES / size_bytes)
        # The hand-overs between stages take a tenth: what was measured with engines.
        seconds = 1.1 * longest + others + BEGIN_SECONDS
        moving, held_up = link, 0.0
        if longest == encode:  # what is in the socket's buffers at once seems to take no time
            moving = link * random_.uniform(0.3, 1.0)
        elif longest == decode:
            moving = link * random_.uniform(0.1, 0.4)
            held_up = seconds * random_.uniform(0.5, 0.9)
        return seconds, Stages(payload_bytes, encode, moving, decode, held_up, is_coded=True)


@dataclass(frozen=True, slots=True)
class Took:
    world: World
    codec: CodecName
    seconds: float
    none_seconds: float
    """What the same transfer would have taken as it lies."""


def played(
    worlds: Sequence[World], count: int, quality: Quality, prompts: Sequence[int], seed: int
) -> list[Took]:
    """Let a new transport make *count* transfers in each of *worlds*, one after the other."""
    random_ = random.Random(seed)
    chooser = Chooser(Compression(coder=cast("CellCoder", None), quality=quality))
    took = []
    for world, _ in itertools.product(worlds, range(count)):
        size_bytes, seed_ = random_.choice(prompts), random_.random()
        choice = chooser.choose(size_bytes, "host")
        assert choice is not None
        seconds, stages = world.transfer(choice.codec, size_bytes, seed_)
        chooser.learn(choice, stages, seconds)
        none_seconds, _ = world.transfer("none", size_bytes, seed_)
        took.append(Took(world, choice.codec, seconds, none_seconds))
    return took


def against_none(took: Sequence[Took]) -> float:
    return sum(each.seconds for each in took) / sum(each.none_seconds for each in took)


def cases() -> Iterator[tuple[Quality, Sequence[int], int]]:
    qualities = (Quality.EXACT, Quality.CLOSE, Quality.ROUGH)
    return itertools.product(qualities, PROMPTS, range(2))


@pytest.mark.parametrize("load", LOADS)
@pytest.mark.parametrize("gbit", [1, 3, 5, 8, 25, 100])
def test_on_a_steady_link_compression_is_not_slower_than_none(gbit: float, load: float) -> None:
    for case in cases():
        took = played([World(gbit, load)], 128, *case)

        assert against_none(took) <= 1.03, case


@pytest.mark.parametrize("load", LOADS)
def test_over_a_link_that_becomes_faster_and_slower_it_is_not_slower_than_none(load: float) -> None:
    worlds = [World(gbit, load) for gbit in (*UP, *reversed(UP), *UP)]
    for case in cases():
        took = played(worlds, 32, *case)

        assert against_none(took) <= 1.03, case


@pytest.mark.parametrize("gbit", UP)
def test_while_other_work_comes_and_goes_it_is_not_slower_than_none(gbit: float) -> None:
    worlds = [World(gbit, load) for load in (1, 8, 2, 8, 1, 4)]
    for case in cases():
        took = played(worlds, 32, *case)

        assert against_none(took) <= 1.03, case


@pytest.mark.parametrize("load", LOADS)
@pytest.mark.parametrize("before", [1, 2, 5])
def test_a_link_that_became_faster_is_seen_within_four_transfers(
    before: float, load: float
) -> None:
    for quality, prompts, seed in cases():
        if len(prompts) > 1:
            continue  # small ones tell less of a link
        took = played([World(before, load), World(25, load)], 40, quality, prompts, seed)[40:]

        assert [each.codec for each in took[4:]] == 36 * ["none"], (quality, prompts, seed)


@pytest.mark.parametrize("load", LOADS)
@pytest.mark.parametrize("gbit", [8, 25, 100])
def test_the_first_transfers_over_a_fast_link_are_not_coded(gbit: float, load: float) -> None:
    for quality, prompts, seed in cases():
        if len(prompts) > 1 and load == 8:
            continue  # small ones first, on cores that receive no more than 5 Gbit/s
        took = played([World(gbit, load)], 20, quality, prompts, seed)

        assert {each.codec for each in took} == {"none"}, (quality, prompts, seed)


@pytest.mark.parametrize("load", [1, 2, 4])
@pytest.mark.parametrize(
    ("quality", "most"), [(Quality.EXACT, 0.9), (Quality.CLOSE, 0.85), (Quality.ROUGH, 0.8)]
)
def test_over_a_slow_link_it_is_faster_from_the_first_transfers_on(
    quality: Quality, most: float, load: float
) -> None:
    for prompts, seed in itertools.product(PROMPTS, range(2)):
        took = played([World(1, load)], 16, quality, prompts, seed)

        assert against_none(took) <= most, (prompts, seed)
