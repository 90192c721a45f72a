"""The bound on the error of each single number, in all packings and types."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tests.unit.kvtransfer.codecs.made_blocks import (
    CHANNELS,
    TOKENS,
    make_shape,
    pack,
    same_bits,
    unpack,
)

from twofold_kvtransfer.codecs import CannotQuantiseError, CodecName, Packing
from twofold_kvtransfer.codecs.coding import Coder
from twofold_kvtransfer.codecs.quantising import quantise
from twofold_kvtransfer.codecs.regions import DTYPES
from twofold_kvtransfer.codecs.shape import Dtype
from twofold_kvtransfer.codecs.sides import Side

ROUND_OFF = {"bfloat16": 2.0**-8, "float16": 2.0**-11, "float32": 2.0**-24}
"""Half of the last place, as a share of the number."""
LEAST_STEP = {"bfloat16": 2.0**-126, "float16": 2.0**-24, "float32": 2.0**-126}
LEVELS = {"int8": 255, "int4": 15}
FLOAT32 = 2.0**-21
"""What a few operations in float32 lose, as a share of the numbers in them."""

CASES = [(packing, dtype) for packing in Packing for dtype in DTYPES]


def sides(dtype: Dtype) -> st.SearchStrategy[torch.Tensor]:
    limit = 30000.0 if dtype == "float16" else 2.0**126
    magnitudes = st.floats(-limit, limit, width=32) | st.floats(-2, 2, width=32)
    arrays = hnp.arrays(np.float32, (2, TOKENS, CHANNELS), elements=magnitudes, fill=magnitudes)
    return arrays.map(lambda array: torch.from_numpy(array.copy()).to(DTYPES[dtype]))


def through(
    coder: Coder, codec: CodecName, sides: torch.Tensor, packing: Packing, dtype: Dtype
) -> tuple[torch.Tensor, torch.Tensor]:
    """Code the first of *sides* as K and the second as V; return both in float64."""
    blocks = pack(sides[0], sides[1], packing)[None, None, None]
    shape = make_shape(dtype, packing)
    out = torch.empty_like(blocks)
    coder.decode(coder.encode(codec, blocks, shape), shape, out)
    key, value = unpack(out[0, 0, 0], packing)
    return key.double(), value.double()


def check_steps(
    before: torch.Tensor, after: torch.Tensor, axis: int, codec: CodecName, dtype: Dtype
) -> None:
    """Check that each number is off by at most half a step of its group, and its own rounding."""
    before = before.double()
    range_ = before.amax(axis, keepdim=True) - before.amin(axis, keepdim=True)
    step = range_ / LEVELS[codec] * (1 + 2 * ROUND_OFF[dtype]) + 2 * LEAST_STEP[dtype]
    float32 = FLOAT32 * (before.abs() + range_)
    rounding = ROUND_OFF[dtype] * after.abs() + LEAST_STEP[dtype]
    assert ((after - before).abs() <= step / 2 + rounding + float32).all()


@pytest.mark.parametrize("codec", ["int8", "int4"])
@pytest.mark.parametrize(("packing", "dtype"), CASES)
@settings(max_examples=20)
@given(data=st.data())
def test_no_number_is_off_by_more_than_half_a_step_of_its_group(
    coder: Coder, packing: Packing, dtype: Dtype, codec: CodecName, data: st.DataObject
) -> None:
    both = data.draw(sides(dtype))

    key, value = through(coder, codec, both, packing, dtype)

    check_steps(both[0], key, 0, codec, dtype)
    check_steps(both[1], value, 1, codec, dtype)


@pytest.mark.parametrize(("packing", "dtype"), CASES)
@settings(max_examples=20)
@given(data=st.data())
def test_no_number_is_off_by_more_than_half_of_the_last_place_of_e4m3(
    coder: Coder, packing: Packing, dtype: Dtype, data: st.DataObject
) -> None:
    both = data.draw(sides(dtype))

    decoded = through(coder, "fp8", both, packing, dtype)

    for before, after in zip(both.double(), decoded, strict=True):
        greatest = before.abs().max().item()
        scale = 2.0 ** math.ceil(math.log2(greatest / 448)) if greatest else 0.0
        subnormal = scale * 2.0**-10 + LEAST_STEP[dtype]
        bound = (before.abs() * 2.0**-4).clamp(min=subnormal)
        assert ((after - before).abs() <= bound * (1 + FLOAT32) + LEAST_STEP[dtype]).all()


@pytest.mark.parametrize("codec", ["int8", "fp8", "int4"])
@pytest.mark.parametrize(("packing", "dtype"), CASES)
@pytest.mark.parametrize("number", [0.0, 1.5, -768.0])
def test_constant_blocks_come_back_as_they_were(
    coder: Coder, packing: Packing, dtype: Dtype, codec: CodecName, number: float
) -> None:
    both = torch.full((2, TOKENS, CHANNELS), number, dtype=DTYPES[dtype])

    key, value = through(coder, codec, both, packing, dtype)

    assert torch.equal(key, both[0].double())
    assert torch.equal(value, both[1].double())


@pytest.mark.parametrize("codec", ["int8", "fp8", "int4"])
@pytest.mark.parametrize(("packing", "dtype"), CASES)
@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf, 6e4, 2e38])
@pytest.mark.parametrize("side", [0, 1])
def test_a_number_that_is_not_finite_or_too_large_is_refused(
    coder: Coder, packing: Packing, dtype: Dtype, codec: CodecName, number: float, side: int
) -> None:
    if dtype != "float16" and number == 6e4:
        number = -3e38
    both = torch.ones(2, TOKENS, CHANNELS).to(DTYPES[dtype])
    both[side, 5, 3] = number

    with pytest.raises(CannotQuantiseError):
        through(coder, codec, both, packing, dtype)


@pytest.mark.parametrize("packing", Packing)
def test_a_large_channel_of_k_and_a_large_token_of_v_spoil_no_other(
    coder: Coder, packing: Packing
) -> None:
    both = torch.randn(2, TOKENS, CHANNELS, generator=torch.Generator().manual_seed(3))
    both[0, :, 3] *= 1000
    both[1, 5, :] *= 1000

    key, value = through(coder, "int4", both, packing, "float32")

    assert (key - both[0]).abs()[:, :3].max() < 0.3
    assert (value - both[1]).abs()[:5].max() < 0.3


def test_the_least_of_a_group_is_exact(coder: Coder) -> None:
    both = torch.randn(2, TOKENS, CHANNELS, generator=torch.Generator().manual_seed(4)).bfloat16()

    key, value = through(coder, "int4", both, Packing.CPU, "bfloat16")

    assert same_bits(key.amin(0), both[0].double().amin(0))
    assert same_bits(value.amin(1), both[1].double().amin(1))


@pytest.mark.parametrize("dtype", DTYPES.values())
def test_the_scale_of_a_constant_group_can_be_inverted(dtype: torch.dtype) -> None:
    side = Side(torch.full((1, 1, TOKENS, CHANNELS), 0.5, dtype=dtype), "rows")
    codes = torch.ones(1, 1, TOKENS * CHANNELS, dtype=torch.int8)
    scale, offset = torch.zeros(2, 1, 1, TOKENS, dtype=dtype)

    quantise(side, 8, codes, scale, offset)

    assert scale.float().reciprocal().isfinite().all()
    assert (codes == -128).all()
