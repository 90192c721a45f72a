import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tests.unit.kvtransfer.codecs.made_blocks import make_shape, random_blocks, same_bits

from twofold_kvtransfer.codecs import PayloadError
from twofold_kvtransfer.codecs.coding import Coder, payload_bytes
from twofold_kvtransfer.codecs.lossless import (
    CHUNK_HEADER,
    chunk_bound,
    decode_chunk,
    encode_chunk,
    size_of_chunk,
)
from twofold_kvtransfer.codecs.regions import DTYPES
from twofold_kvtransfer.codecs.shape import Dtype

Bits = npt.NDArray[np.integer]
COUNT = 512

# ±0, the least and greatest subnormals, the least normal, 1, the greatest, infinities, NaNs.
SPECIAL_16 = [0, 0x8000, 1, 0x8001, 0x7F, 0x3FF, 0x80, 0x400, 0x3F80, 0x3C00]
SPECIAL_16 += [0x7F7F, 0x7BFF, 0x7F80, 0xFF80, 0x7C00, 0xFC00, 0x7FC1, 0xFFFF, 0x7E01]


def bit_patterns(dtype: Dtype) -> st.SearchStrategy[Bits]:
    """Any bits, mostly one number, so that some chunks are small and others are copied."""
    kind = np.dtype(np.uint32) if dtype == "float32" else np.dtype(np.uint16)
    shift = 16 if dtype == "float32" else 0
    any_bits = st.integers(0, 2 ** (8 * kind.itemsize) - 1)
    special = st.sampled_from([bits << shift for bits in SPECIAL_16])
    elements = any_bits | special
    return hnp.arrays(kind, COUNT, elements=elements, fill=elements)


def numbers_of(bits: Bits, dtype: Dtype) -> torch.Tensor:
    signed = np.int32 if bits.itemsize == 4 else np.int16
    return torch.from_numpy(bits.view(signed).copy()).view(DTYPES[dtype])


def encoded(numbers: torch.Tensor) -> torch.Tensor:
    into = torch.empty(chunk_bound(len(numbers), numbers.element_size()), dtype=torch.uint8)
    return into[: encode_chunk(numbers, into)]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
@given(data=st.data())
def test_every_bit_comes_back(dtype: Dtype, data: st.DataObject) -> None:
    numbers = numbers_of(data.draw(bit_patterns(dtype)), dtype)

    payload = encoded(numbers)
    out = torch.zeros_like(numbers)
    decode_chunk(payload, out)

    assert size_of_chunk(payload, COUNT, numbers.dtype) == len(payload)
    assert len(payload) <= chunk_bound(COUNT, numbers.element_size())
    assert same_bits(out, numbers)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_random_bits_of_all_exponents_come_back(dtype: Dtype) -> None:
    kind = np.uint32 if dtype == "float32" else np.uint16
    bits = np.random.default_rng(5).integers(0, np.iinfo(kind).max, 1 << 14, dtype=kind)
    numbers = numbers_of(bits, dtype)

    payload = encoded(numbers)
    out = torch.zeros_like(numbers)
    decode_chunk(payload, out)

    assert same_bits(out, numbers)


@pytest.mark.parametrize(("dtype", "share"), [("bfloat16", 0.76), ("float32", 0.88)])
def test_normal_numbers_lose_half_of_their_exponents(dtype: Dtype, share: float) -> None:
    numbers = torch.randn(1 << 14, generator=torch.Generator().manual_seed(1)).to(DTYPES[dtype])
    numbers[:1000] = 0

    assert len(encoded(numbers)) < share * len(numbers) * numbers.element_size()


@pytest.mark.parametrize("size", [0, 10, CHUNK_HEADER.size, 100])
def test_a_chunk_that_is_cut_off_is_refused(size: int) -> None:
    payload = encoded(torch.randn(COUNT, dtype=torch.bfloat16))

    with pytest.raises(PayloadError):
        size_of_chunk(payload[:size], COUNT, torch.bfloat16)


def test_a_chunk_of_another_size_is_refused() -> None:
    payload = encoded(torch.randn(COUNT, dtype=torch.bfloat16))

    with pytest.raises(PayloadError):
        size_of_chunk(payload, COUNT // 2, torch.bfloat16)


def test_a_listed_exponent_outside_the_chunk_is_refused() -> None:
    numbers = torch.ones(COUNT, dtype=torch.bfloat16)
    numbers[7] = 1e-20
    payload = encoded(numbers)
    payload[CHUNK_HEADER.size + 2] = 255

    with pytest.raises(PayloadError, match="not in it"):
        decode_chunk(payload, torch.empty_like(numbers))


def test_chunks_of_many_regions_stand_close_together(coder: Coder) -> None:
    shape = make_shape("bfloat16", regions=5, heads=3)
    blocks = random_blocks(shape, block_count=200)

    payload = coder.encode("lossless", blocks, shape)
    out = torch.empty_like(blocks)
    coder.decode(payload, shape, out)

    assert same_bits(out, blocks)
    assert len(payload) < 0.85 * payload_bytes("lossless", shape, 200)
