"""Digests are of what blocks hold, wherever they lie, and of nothing else."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twofold_kvtransfer.blocks import BlockMap, InvalidBlocksError
from twofold_kvtransfer.digesting import BLOCKS_PER_DIGEST, Digester
from twofold_kvtransfer.transports.testing import HostBlocks, host_blocks

MANY = tuple(range(3, 3 + 2 * BLOCKS_PER_DIGEST + 1))
"""Blocks that make three digests."""


@contextmanager
def digesting(blocks: BlockMap, thread_count: int = 2) -> Iterator[Digester]:
    digester = Digester(blocks, thread_count=thread_count)
    try:
        yield digester
    finally:
        digester.close()


def digests_of(
    blocks: HostBlocks, ids: tuple[int, ...], part: tuple[int, int] = (0, 1)
) -> list[int]:
    with digesting(blocks.map) as digester:
        return asyncio.run(digester.digest(ids, part))


places = st.permutations(range(40)).map(lambda ids: tuple(ids[:20]))


@given(there=places, here=places, gap=st.sampled_from([0, 5]))
def test_the_same_bytes_have_the_same_digests_wherever_they_lie(
    there: tuple[int, ...], here: tuple[int, ...], gap: int
) -> None:
    one = host_blocks(3, 40, 32, seed=1)
    other = host_blocks(3, 40, 32, stride_bytes=32 + gap, seed=2)
    other.memory[:, list(here), :32] = one.cells(there)

    assert digests_of(one, there) == digests_of(other, here)


@given(
    region=st.integers(0, 2), index=st.integers(0, len(MANY) - 1), bit=st.integers(0, 8 * 32 - 1)
)
def test_a_flipped_bit_changes_the_digest_of_its_blocks_and_no_other(
    region: int, index: int, bit: int
) -> None:
    blocks = host_blocks(3, 40, 32, seed=1)
    before = digests_of(blocks, MANY)
    blocks.memory[region, MANY[index], bit // 8] ^= 1 << bit % 8
    after = digests_of(blocks, MANY)

    changed = [number for number in range(len(before)) if before[number] != after[number]]
    assert changed == [index // BLOCKS_PER_DIGEST]


def test_bytes_of_other_blocks_and_between_them_do_not_count() -> None:
    blocks = host_blocks(3, 40, 32, stride_bytes=40, seed=1)
    before = digests_of(blocks, MANY)
    blocks.memory[:, :, 32:] ^= 0xFF
    blocks.memory[:, 0] ^= 0xFF

    assert digests_of(blocks, MANY) == before


def test_blocks_in_another_order_are_other_blocks() -> None:
    blocks = host_blocks(3, 40, 32, seed=1)

    assert digests_of(blocks, (1, 2)) != digests_of(blocks, (2, 1))


@pytest.mark.parametrize("index", [0, 1])
def test_a_part_of_each_block_has_the_digests_of_blocks_that_hold_no_more(index: int) -> None:
    whole, half = host_blocks(3, 40, 32, seed=1), host_blocks(3, 40, 16)
    half.memory[:] = whole.memory[:, :, 16 * index : 16 * (index + 1)]

    assert digests_of(whole, MANY, (index, 2)) == digests_of(half, MANY)


def test_no_blocks_have_no_digests() -> None:
    assert digests_of(host_blocks(3, 8, 32), ()) == []


@pytest.mark.parametrize(("ids", "part"), [((8,), (0, 1)), ((-1,), (0, 1)), ((0,), (0, 3))])
def test_memory_that_is_no_block_is_not_read(ids: tuple[int, ...], part: tuple[int, int]) -> None:
    with pytest.raises(InvalidBlocksError):
        digests_of(host_blocks(3, 8, 32), ids, part)


async def test_who_waits_no_more_leaves_what_others_wait_for_alone() -> None:
    blocks = host_blocks(3, 40, 32, seed=1)
    with digesting(blocks.map, thread_count=1) as digester:
        expected = await digester.digest(MANY)
        gives_up = asyncio.create_task(digester.digest(MANY))
        waits = asyncio.create_task(digester.digest(MANY))
        await asyncio.sleep(0)
        gives_up.cancel()

        assert await waits == expected


async def test_what_is_unhurried_has_the_same_digests_and_gives_way() -> None:
    blocks = host_blocks(3, 40, 32, seed=1)
    many, may_begin = MANY * 40, threading.Event()
    with digesting(blocks.map, thread_count=1) as digester:
        digester._pool.submit(may_begin.wait)
        waits = asyncio.create_task(digester.digest_unhurried(many))
        for _ in range(5):  # until they are in the thread's queue
            await asyncio.sleep(0)
        hurries = asyncio.create_task(digester.digest(MANY))
        await asyncio.sleep(0)
        may_begin.set()
        await hurries
        for _ in range(5):  # what it takes to notice that all are made
            await asyncio.sleep(0)
        was_before = not waits.done()

        assert await waits == await digester.digest(many)
        assert was_before


async def test_what_was_given_up_unhurried_leaves_room_for_others() -> None:
    blocks = host_blocks(3, 40, 32, seed=1)
    with digesting(blocks.map, thread_count=1) as digester:
        expected = await digester.digest(MANY)
        for turns in range(6):
            gives_up = asyncio.create_task(digester.digest_unhurried(MANY * 2))
            for _ in range(turns):
                await asyncio.sleep(0)
            gives_up.cancel()

        assert await digester.digest_unhurried(MANY) == expected


async def test_a_closed_digester_has_no_threads() -> None:
    blocks = host_blocks(3, 40, 32)
    with digesting(blocks.map) as digester:
        await digester.digest(MANY)

    assert not [thread for thread in threading.enumerate() if thread.name.startswith("kv-digests")]
