from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twofold_kvtransfer.blocks import (
    BlockMap,
    InvalidBlocksError,
    Move,
    addresses_of,
    check_alike,
)

MAP = BlockMap(addresses=(1000, 9000), block_count=8, block_bytes=60, stride_bytes=100)


@pytest.mark.parametrize(
    "wrong",
    [
        {"addresses": ()},
        {"block_count": 0},
        {"block_bytes": 0},
        {"stride_bytes": 59},
    ],
)
def test_a_map_without_blocks_or_with_blocks_that_overlap_is_refused(wrong: dict[str, Any]) -> None:
    fields: dict[str, Any] = {
        "addresses": (1,),
        "block_count": 1,
        "block_bytes": 60,
        "stride_bytes": 60,
    }

    with pytest.raises(InvalidBlocksError):
        BlockMap(**fields | wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        {"addresses": (1000, -8)},
        {"addresses": (1000, 2**64 - 759)},
        {"stride_bytes": 2**62},
        {"block_count": 2**30},
        {"device": -1},
        {"device": 2**31},
    ],
    ids=str,
)
def test_a_map_that_no_memory_can_have_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidBlocksError, match="no memory"):
        BlockMap(**msgspec.structs.asdict(MAP) | wrong)


def test_a_map_may_end_where_memory_does() -> None:
    whole = msgspec.structs.asdict(MAP) | {"addresses": (0, 2**64 - 760)}

    assert BlockMap(**whole).region_bytes == 760


def test_a_block_has_its_bytes_in_every_region() -> None:
    assert (MAP.region_count, MAP.bytes_per_block) == (2, 120)


def test_a_region_ends_with_its_last_block_and_not_with_the_gap_after_it() -> None:
    assert MAP.region_bytes == 760


@pytest.mark.parametrize("changes", [{"addresses": (1,)}, {"block_bytes": 59}], ids=str)
def test_blocks_of_two_shapes_are_not_alike(changes: dict[str, object]) -> None:
    with pytest.raises(InvalidBlocksError, match="blocks of 60 bytes in 2 regions here"):
        check_alike(MAP, msgspec.structs.replace(MAP, **changes))


def test_blocks_alike_may_differ_in_place_number_and_stride() -> None:
    other = {"addresses": (1, 2), "block_count": 99, "stride_bytes": 61, "memory": "vram"}

    check_alike(MAP, msgspec.structs.replace(MAP, **other))


def test_addresses_are_by_region_then_block() -> None:
    expected = np.array([[1300, 1000], [9300, 9000]], dtype=np.uint64)

    np.testing.assert_array_equal(addresses_of(MAP, [3, 0]), expected)


@given(st.sampled_from([1, 2, 3, 4, 5, 6, 10, 12, 60]))
def test_the_parts_of_a_block_are_all_of_it_and_nothing_twice(count: int) -> None:
    parts = [MAP.part(index, count) for index in range(count)]
    covered = [
        byte
        for part in parts
        for byte in range(part.addresses[1], part.addresses[1] + part.block_bytes)
    ]

    assert covered == list(range(9000, 9060))
    assert {(part.stride_bytes, part.block_count) for part in parts} == {(100, 8)}


@pytest.mark.parametrize(("index", "count"), [(0, 7), (2, 2), (-1, 2)])
def test_a_part_that_is_not_there_is_refused(index: int, count: int) -> None:
    with pytest.raises(InvalidBlocksError, match=f"no part {index} of {count}"):
        MAP.part(index, count)


@pytest.mark.parametrize("blocks", [[8], [0, 10**30], [-1]])
def test_blocks_that_are_not_there_are_refused(blocks: list[int]) -> None:
    with pytest.raises(InvalidBlocksError):
        MAP.check(blocks)


def test_blocks_that_are_there_are_not_refused() -> None:
    MAP.check([])
    MAP.check([0, 7, 7])


def test_a_move_needs_as_many_blocks_here_as_there() -> None:
    with pytest.raises(InvalidBlocksError, match="1 blocks here, 2 there"):
        Move((1,), (1, 2))
