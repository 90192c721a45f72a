"""Blocks of a map as payloads: what cannot be coded, and what a payload may be."""

import contextlib
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.unit.kvtransfer.codecs.made_blocks import make_shape, random_blocks, same_bits

from twofold_kvtransfer.blocks import BlockMap
from twofold_kvtransfer.codecs import CodecName, PayloadError, ShapeError
from twofold_kvtransfer.codecs.cell_coding import CellCoder

SHAPE = make_shape(regions=3, heads=2)
WHOLE = (0, SHAPE.block_numbers * 2)
IDS = (3, 0, 2)


def map_of(blocks: torch.Tensor) -> BlockMap:
    size = blocks[0, 0].nbytes
    return BlockMap(
        addresses=tuple(region.data_ptr() for region in blocks),
        block_count=blocks.shape[1],
        block_bytes=size,
        stride_bytes=size,
    )


@contextlib.contextmanager
def coder_of(blocks: torch.Tensor) -> Iterator[CellCoder]:
    with contextlib.closing(CellCoder(map_of(blocks), SHAPE, thread_count=1)) as coder:
        yield coder


@pytest.mark.parametrize("cells", [range(3), range(1, 3), range(3, 9), range(9), range(8, 9)])
def test_cells_come_back_where_they_were(cells: range) -> None:
    blocks = random_blocks(SHAPE, 4)
    before = blocks.clone()
    room = np.empty(1 << 20, np.uint8).data
    with coder_of(blocks) as coder:
        size = coder.encode("lossless", IDS, WHOLE, cells, room)
        assert size <= coder.bound("lossless", WHOLE, len(cells))
        blocks.zero_()
        coder.decode("lossless", IDS, WHOLE, cells, room[:size])

    wanted = torch.zeros_like(blocks)
    for cell in cells:
        place = (cell // len(IDS), IDS[cell % len(IDS)])
        wanted[place] = before[place]
    assert same_bits(blocks, wanted)


@pytest.mark.parametrize(("sent", "asked"), [("int4", "lossless"), ("int8", "int4")])
def test_a_payload_of_another_codec_than_asked_for_is_refused(
    sent: CodecName, asked: CodecName
) -> None:
    blocks = random_blocks(SHAPE, 4)
    room = np.empty(1 << 20, np.uint8).data
    with coder_of(blocks) as coder:
        size = coder.encode(sent, IDS, WHOLE, range(9), room)
        with pytest.raises(PayloadError, match=sent):
            coder.decode(asked, IDS, WHOLE, range(9), room[:size])


def test_what_cannot_be_quantised_is_a_payload_of_none() -> None:
    blocks = random_blocks(SHAPE, 4)
    blocks[1, 0, 0, 0, 0] = float("nan")
    before = blocks.clone()
    room = np.empty(1 << 20, np.uint8).data
    with coder_of(blocks) as coder:
        size = coder.encode("int4", (0,), WHOLE, range(3), room)
        assert size <= coder.bound("int4", WHOLE, 3)
        blocks.zero_()
        coder.decode("int4", (0,), WHOLE, range(3), room[:size])

    assert same_bits(blocks[:, 0], before[:, 0])


def test_blocks_of_another_shape_or_place_are_refused() -> None:
    blocks = map_of(random_blocks(SHAPE, 4))

    with pytest.raises(ShapeError, match="regions"):
        CellCoder(blocks, replace(SHAPE, heads=1))
    with pytest.raises(ShapeError, match="regions"):
        CellCoder(blocks, replace(SHAPE, regions=2))
    odd = BlockMap(
        addresses=blocks.addresses,
        block_count=2,
        block_bytes=blocks.block_bytes,
        stride_bytes=blocks.block_bytes + 1,
    )
    with pytest.raises(ShapeError, match="aligned"):
        CellCoder(odd, SHAPE)
