import threading

import pytest
import torch
from tests.unit.kvtransfer.codecs.made_blocks import make_shape, random_blocks, same_bits

from twofold_kvtransfer.codecs import CodecName, KvShape, Packing, PayloadError, ShapeError
from twofold_kvtransfer.codecs.coding import Coder, payload_bytes
from twofold_kvtransfer.codecs.header import HEADER_BYTES
from twofold_kvtransfer.codecs.regions import DTYPES
from twofold_kvtransfer.codecs.shape import Dtype

CODECS: tuple[CodecName, ...] = ("none", "lossless", "int8", "fp8", "int4")
SHAPE = make_shape(regions=2, heads=2)


def large_shape(dtype: Dtype, packing: Packing) -> KvShape:
    return KvShape(regions=3, heads=8, block_tokens=128, head_dim=64, dtype=dtype, packing=packing)


@pytest.mark.parametrize("codec", ["none", "int8", "fp8", "int4"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("block_count", [1, 3])
def test_the_size_is_known_before(
    coder: Coder, codec: CodecName, dtype: Dtype, block_count: int
) -> None:
    shape = make_shape(dtype, regions=2, heads=3)

    payload = coder.encode(codec, random_blocks(shape, block_count), shape)

    assert len(payload) == payload_bytes(codec, shape, block_count)


@pytest.mark.parametrize(("codec", "share"), [("int8", 0.53), ("fp8", 0.51), ("int4", 0.28)])
def test_a_block_of_128_tokens_shrinks(codec: CodecName, share: float) -> None:
    shape = large_shape("bfloat16", Packing.CPU)

    assert payload_bytes(codec, shape, 4) < share * shape.size_bytes(4)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("packing", Packing)
def test_blocks_in_chunks_are_coded_as_each_alone(
    coder: Coder, codec: CodecName, packing: Packing
) -> None:
    shape = large_shape("bfloat16", packing)
    blocks = random_blocks(shape, 5)

    whole = torch.empty_like(blocks)
    coder.decode(coder.encode(codec, blocks, shape), shape, whole)
    alone = torch.empty_like(blocks)
    for block in range(5):
        one = slice(block, block + 1)
        coder.decode(coder.encode(codec, blocks[:, one], shape), shape, alone[:, one])

    assert same_bits(whole, alone)


@pytest.mark.parametrize("codec", CODECS)
def test_regions_may_be_tensors_of_their_own(coder: Coder, codec: CodecName) -> None:
    blocks = random_blocks(SHAPE, 2)
    apart = [region.clone() for region in blocks]
    out = [torch.empty_like(region) for region in apart]

    payload = coder.encode(codec, apart, SHAPE)
    coder.decode(payload, SHAPE, out)

    assert torch.equal(payload, coder.encode(codec, blocks, SHAPE))
    together = torch.empty_like(blocks)
    coder.decode(payload, SHAPE, together)
    assert same_bits(torch.stack(out), together)


@pytest.mark.parametrize("codec", CODECS)
def test_some_heads_of_larger_blocks_are_coded_like_blocks_of_their_own(
    coder: Coder, codec: CodecName
) -> None:
    blocks = random_blocks(make_shape(regions=2, heads=4), 3)
    part = blocks[:, :, 1:3]
    out = torch.zeros_like(blocks)

    payload = coder.encode(codec, part, SHAPE)
    coder.decode(payload, SHAPE, out[:, :, 1:3])

    assert torch.equal(payload, coder.encode(codec, part.contiguous(), SHAPE))
    expected = torch.empty_like(part.contiguous())
    coder.decode(payload, SHAPE, expected)
    assert same_bits(out[:, :, 1:3], expected)
    assert not out[:, :, 0].any()


@pytest.mark.parametrize("codec", ["int8", "fp8", "int4", "lossless"])
def test_tokens_may_lie_outside_heads(coder: Coder, codec: CodecName) -> None:
    shape = make_shape(packing=Packing.TOKENS, regions=2, heads=2)
    blocks = random_blocks(shape, 3)
    strided = blocks.transpose(2, 3).contiguous().transpose(2, 3)

    assert torch.equal(coder.encode(codec, strided, shape), coder.encode(codec, blocks, shape))


def test_heads_in_pieces_are_refused_where_the_packing_needs_them_whole(coder: Coder) -> None:
    strided = random_blocks(SHAPE, 3).transpose(2, 3).contiguous().transpose(2, 3)

    with pytest.raises(ShapeError, match="one piece"):
        coder.encode("int8", strided, SHAPE)


@pytest.mark.parametrize("codec", CODECS)
def test_a_payload_goes_where_it_is_told_to(coder: Coder, codec: CodecName) -> None:
    blocks = random_blocks(SHAPE, 2)
    into = torch.zeros(payload_bytes(codec, SHAPE, 2) + 64, dtype=torch.uint8)

    payload = coder.encode(codec, blocks, SHAPE, into)

    assert payload.data_ptr() == into.data_ptr()
    assert torch.equal(payload, coder.encode(codec, blocks, SHAPE))


def test_too_little_room_is_refused(coder: Coder) -> None:
    into = torch.zeros(payload_bytes("int8", SHAPE, 2) - 1, dtype=torch.uint8)

    with pytest.raises(ShapeError, match="room"):
        coder.encode("int8", random_blocks(SHAPE, 2), SHAPE, into)


def test_blocks_of_another_shape_are_refused(coder: Coder) -> None:
    blocks = random_blocks(SHAPE, 2)

    with pytest.raises(ShapeError):
        coder.encode("none", blocks.float(), SHAPE)
    with pytest.raises(ShapeError):
        coder.encode("none", blocks[:1], SHAPE)
    with pytest.raises(ShapeError):
        coder.encode("none", blocks[..., :8], SHAPE)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("missing", [1, 16, 500])
def test_a_payload_that_is_cut_off_is_refused(coder: Coder, codec: CodecName, missing: int) -> None:
    blocks = random_blocks(SHAPE, 2)
    payload = coder.encode(codec, blocks, SHAPE)

    with pytest.raises(PayloadError):
        coder.decode(payload[:-missing], SHAPE, torch.empty_like(blocks))


def test_a_payload_without_a_whole_header_is_refused(coder: Coder) -> None:
    blocks = random_blocks(SHAPE, 2)
    payload = coder.encode("none", blocks, SHAPE)

    with pytest.raises(PayloadError):
        coder.decode(payload[: HEADER_BYTES - 1], SHAPE, torch.empty_like(blocks))


def test_a_payload_of_other_blocks_is_refused(coder: Coder) -> None:
    payload = coder.encode("int8", random_blocks(SHAPE, 2), SHAPE)
    other = make_shape(regions=2, heads=2, packing=Packing.CPU_AMX)

    with pytest.raises(PayloadError, match="not those asked for"):
        coder.decode(payload, other, random_blocks(other, 2))
    with pytest.raises(PayloadError, match="not those asked for"):
        coder.decode(payload, SHAPE, random_blocks(SHAPE, 3))


def test_a_payload_at_an_odd_address_is_refused(coder: Coder) -> None:
    blocks = random_blocks(SHAPE, 2)
    payload = coder.encode("int8", blocks, SHAPE)
    moved = torch.zeros(len(payload) + 8, dtype=torch.uint8)[1 : len(payload) + 1]
    moved.copy_(payload)

    with pytest.raises(ShapeError, match="aligned"):
        coder.decode(moved, SHAPE, blocks)


def test_a_coder_leaves_torch_its_threads() -> None:
    before = torch.get_num_threads()
    seen = []
    torch.set_num_threads(3)
    try:
        with Coder(thread_count=2):
            pass
        other = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
        other.start()
        other.join(timeout=10)
        seen.append(torch.get_num_threads())
    finally:
        torch.set_num_threads(before)

    assert seen == [3, 3]
