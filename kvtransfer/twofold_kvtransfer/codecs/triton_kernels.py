"""The lossy codecs as Triton kernels, for blocks in the memory of a GPU.

They give the same bytes as ``quantising`` and ``float8``, operation by operation, with fused
multiply-adds off. That is tested in Triton's interpreter; they HAVE NOT BEEN RUN ON CUDA yet.
One program codes K or V of one head of one block, its tokens in two halves, because a byte of
4-bit codes holds a number of each.
"""

# Triton's types are no Python types, and its constants are arguments in capitals.
# mypy: disable-error-code="no-untyped-def, untyped-decorator"
# ruff: noqa: N803

import triton
import triton.language as tl

# What float32 has no fraction above: to add and subtract it rounds to the nearest, ties to even.
ROUNDING = tl.constexpr(12582912.0)


@triton.jit
def quantise_kernel(
    numbers, block_stride, head_stride, token_stride,
    codes, scales, offsets, bad,
    TOKENS: tl.constexpr, CHANNELS: tl.constexpr, HALF: tl.constexpr, WIDTH: tl.constexpr,
    LEVELS: tl.constexpr, SMALLEST: tl.constexpr, LARGEST: tl.constexpr, BY_TOKEN: tl.constexpr,
):  # fmt: skip
    """Code one side in even steps.

    *numbers* are its first, with strides in numbers; what is written lies as ``SideArrays``
    says. HALF and WIDTH: powers of two that hold ``TOKENS / 2`` and CHANNELS. *bad*: int32 per
    program, not 0 if its numbers cannot be quantised.
    """
    page = tl.program_id(0) * tl.num_programs(1) + tl.program_id(1)
    source = numbers + tl.program_id(0) * block_stride + tl.program_id(1) * head_stride
    token = tl.arange(0, HALF)[:, None]
    channel = tl.arange(0, WIDTH)[None, :]
    inside = (token < TOKENS // 2) & (channel < CHANNELS)
    place = source + token * token_stride + channel
    low = _wide(tl.load(place, inside, 0.0))
    high = _wide(tl.load(place + TOKENS // 2 * token_stride, inside, 0.0))
    dtype = scales.dtype.element_ty
    if BY_TOKEN:
        group = page * TOKENS + token
        kept = token < TOKENS // 2
        low_scale, low_offset = _steps(low, inside, kept, LEVELS, SMALLEST, dtype)
        high_scale, high_offset = _steps(high, inside, kept, LEVELS, SMALLEST, dtype)
        tl.store(scales + group, low_scale, kept)
        tl.store(offsets + group, low_offset.to(dtype), kept)
        tl.store(scales + group + TOKENS // 2, high_scale, kept)
        tl.store(offsets + group + TOKENS // 2, high_offset.to(dtype), kept)
    else:
        group = page * CHANNELS + channel
        kept = channel < CHANNELS
        least = tl.minimum(_least(low, inside, kept, 0), _least(high, inside, kept, 0))
        greatest = tl.maximum(_greatest(low, inside, kept, 0), _greatest(high, inside, kept, 0))
        low_scale = _scale(greatest - least, LEVELS, SMALLEST, dtype)
        low_offset = least
        high_scale = low_scale
        high_offset = low_offset
        tl.store(scales + group, low_scale, kept)
        tl.store(offsets + group, least.to(dtype), kept)
    tl.store(bad + page, _too_large(low, LARGEST) + _too_large(high, LARGEST))
    low_level = tl.where(inside, _level(low, low_scale, low_offset), 0.0)
    high_level = tl.where(inside, _level(high, high_scale, high_offset), 0.0)
    at = token * CHANNELS + channel
    if LEVELS == 15:
        half_page = codes + page * (TOKENS * CHANNELS // 2)
        pair = low_level.to(tl.int32) | (high_level.to(tl.int32) << 4)
        tl.store(half_page + at, pair.to(tl.int8), inside)
    else:
        whole_page = codes + page * (TOKENS * CHANNELS)
        tl.store(whole_page + at, (low_level - 128.0).to(tl.int8), inside)
        second = whole_page + TOKENS // 2 * CHANNELS
        tl.store(second + at, (high_level - 128.0).to(tl.int8), inside)


@triton.jit
def restore_kernel(
    numbers, block_stride, head_stride, token_stride,
    codes, scales, offsets,
    TOKENS: tl.constexpr, CHANNELS: tl.constexpr, HALF: tl.constexpr, WIDTH: tl.constexpr,
    LEVELS: tl.constexpr, BY_TOKEN: tl.constexpr,
):  # fmt: skip
    """Undo :func:`quantise_kernel`."""
    page = tl.program_id(0) * tl.num_programs(1) + tl.program_id(1)
    target = numbers + tl.program_id(0) * block_stride + tl.program_id(1) * head_stride
    token = tl.arange(0, HALF)[:, None]
    channel = tl.arange(0, WIDTH)[None, :]
    inside = (token < TOKENS // 2) & (channel < CHANNELS)
    at = token * CHANNELS + channel
    if LEVELS == 15:
        pair = tl.load(codes + page * (TOKENS * CHANNELS // 2) + at, inside, 0).to(tl.int32)
        low_level = (pair & 15).to(tl.float32)
        high_level = ((pair >> 4) & 15).to(tl.float32)
    else:
        whole_page = codes + page * (TOKENS * CHANNELS)
        second = whole_page + TOKENS // 2 * CHANNELS
        low_level = tl.load(whole_page + at, inside, 0).to(tl.float32) + 128.0
        high_level = tl.load(second + at, inside, 0).to(tl.float32) + 128.0
    if BY_TOKEN:
        group = page * TOKENS + token
        kept = token < TOKENS // 2
        further = TOKENS // 2
    else:
        group = page * CHANNELS + channel
        kept = channel < CHANNELS
        further = 0
    low = low_level * _wide(tl.load(scales + group, kept, 1.0))
    low += _wide(tl.load(offsets + group, kept, 0.0))
    high = high_level * _wide(tl.load(scales + group + further, kept, 1.0))
    high += _wide(tl.load(offsets + group + further, kept, 0.0))
    place = target + token * token_stride + channel
    tl.store(place, _rounded(low, numbers.dtype.element_ty), inside)
    tl.store(place + TOKENS // 2 * token_stride, _rounded(high, numbers.dtype.element_ty), inside)


@triton.jit
def float8_kernel(
    numbers, block_stride, head_stride, token_stride,
    codes, scales, bad,
    TOKENS: tl.constexpr, CHANNELS: tl.constexpr, HALF: tl.constexpr, WIDTH: tl.constexpr,
    LARGEST: tl.constexpr,
):  # fmt: skip
    """Code one side as e4m3; HALF holds TOKENS here."""
    page = tl.program_id(0) * tl.num_programs(1) + tl.program_id(1)
    source = numbers + tl.program_id(0) * block_stride + tl.program_id(1) * head_stride
    token = tl.arange(0, HALF)[:, None]
    channel = tl.arange(0, WIDTH)[None, :]
    inside = (token < TOKENS) & (channel < CHANNELS)
    values = _wide(tl.load(source + token * token_stride + channel, inside, 0.0))
    greatest = tl.max(tl.max(tl.abs(values), 1), 0)
    tl.store(bad + page, _too_large(values, LARGEST))
    bits = (greatest.to(tl.int32, bitcast=True) + 0x1FFFFF) & 0x7F800000
    bits = tl.maximum(bits - (8 << 23), 1 << 23)
    scale = bits.to(tl.float32, bitcast=True)
    tl.store(scales + page, scale)
    code = _e4m3(values * tl.math.div_rn(1.0, scale))
    place = codes + page * (TOKENS * CHANNELS) + token * CHANNELS + channel
    tl.store(place, code.to(tl.int8), inside)


@triton.jit
def restore_float8_kernel(
    numbers, block_stride, head_stride, token_stride,
    codes, scales,
    TOKENS: tl.constexpr, CHANNELS: tl.constexpr, HALF: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """Undo :func:`float8_kernel`."""
    page = tl.program_id(0) * tl.num_programs(1) + tl.program_id(1)
    target = numbers + tl.program_id(0) * block_stride + tl.program_id(1) * head_stride
    token = tl.arange(0, HALF)[:, None]
    channel = tl.arange(0, WIDTH)[None, :]
    inside = (token < TOKENS) & (channel < CHANNELS)
    at = codes + page * (TOKENS * CHANNELS) + token * CHANNELS + channel
    code = tl.load(at, inside, 0).to(tl.int16)
    halves = ((code << 7) & -0x4001).to(tl.float16, bitcast=True)
    values = halves.to(tl.float32) * (tl.load(scales + page) * 256.0)
    place = target + token * token_stride + channel
    tl.store(place, _rounded(values, numbers.dtype.element_ty), inside)


@triton.jit
def _least(values, inside, kept, axis: tl.constexpr):
    """Return the least *inside* along *axis*; 0 for what is not *kept*, past the last group."""
    least = tl.min(tl.where(inside, values, float("inf")), axis, keep_dims=True)
    return tl.where(kept, least, 0.0)


@triton.jit
def _greatest(values, inside, kept, axis: tl.constexpr):
    greatest = tl.max(tl.where(inside, values, float("-inf")), axis, keep_dims=True)
    return tl.where(kept, greatest, 0.0)


@triton.jit
def _steps(values, inside, kept, levels: tl.constexpr, smallest: tl.constexpr, dtype: tl.constexpr):
    """Return the scales and offsets of tokens."""
    least = _least(values, inside, kept, 1)
    range_ = _greatest(values, inside, kept, 1) - least
    return _scale(range_, levels, smallest, dtype), least


@triton.jit
def _wide(values):
    """Convert *values* to float32. Triton's interpreter spoils subnormal numbers of bfloat16."""
    if values.dtype == tl.bfloat16:
        bits = values.to(tl.int16, bitcast=True).to(tl.int32) << 16
        return bits.to(tl.float32, bitcast=True)
    return values.to(tl.float32)


@triton.jit
def _rounded(values, dtype: tl.constexpr):
    """Convert float32 to *dtype*: to the nearest, ties to even. Triton's interpreter cuts
    bfloat16 off instead, so that is done by hand."""
    if dtype == tl.bfloat16:
        bits = values.to(tl.int32, bitcast=True)
        bits += 0x7FFF + ((bits >> 16) & 1)
        return (bits >> 16).to(tl.int16).to(tl.bfloat16, bitcast=True)
    return values.to(dtype)


@triton.jit
def _scale(range_, levels: tl.constexpr, smallest: tl.constexpr, dtype: tl.constexpr):
    """Return a level's width in *dtype*, never rounded down."""
    steps = tl.math.div_rn(range_, levels * 1.0)
    scale = steps.to(dtype)
    if dtype != tl.float32:
        up = (_wide(scale) < steps).to(tl.int16)
        scale = (scale.to(tl.int16, bitcast=True) + up).to(dtype, bitcast=True)
    return tl.maximum(_wide(scale), smallest).to(dtype)


@triton.jit
def _level(values, scale, offset):
    levels = (values - offset) * tl.math.div_rn(1.0, _wide(scale))
    return (levels + ROUNDING) - ROUNDING


@triton.jit
def _too_large(values, largest: tl.constexpr):
    """Return how many of *values* are above *largest* in size, NaNs among them."""
    return tl.sum(tl.sum(1 - (tl.abs(values) <= largest).to(tl.int32), 1), 0)


@triton.jit
def _e4m3(values):
    """Return the codes of *values*, of at most 448, rounded to the nearest, ties to even."""
    bits = values.to(tl.int32, bitcast=True)
    size = bits & 0x7FFFFFFF
    rounded = size + 0x7FFFF + ((size >> 20) & 1)
    normal = (rounded >> 20) - (120 << 3)
    tiny = (size.to(tl.float32, bitcast=True) * 512.0 + ROUNDING) - ROUNDING
    code = tl.where(size < (121 << 23), tiny.to(tl.int32), normal)
    return code | ((bits >> 24) & 0x80)
