"""Lossy payloads of blocks in the memory of a GPU, byte for byte those of :class:`Coder`.

What CUDA's attention backends have: K and V of a token side by side (``Packing.TOKENS``), in
blocks, heads and tokens of any stride. The kernels have not been run on CUDA yet; see
``triton_kernels``.
"""

from collections.abc import Iterator
from typing import Any

import torch
import triton

from twofold_kvtransfer.codecs import triton_kernels as kernels
from twofold_kvtransfer.codecs.coding import checked_header, payload_bytes
from twofold_kvtransfer.codecs.errors import CannotQuantiseError, ShapeError
from twofold_kvtransfer.codecs.header import HEADER_BYTES, Header, write_header
from twofold_kvtransfer.codecs.limits import LARGEST
from twofold_kvtransfer.codecs.lossy_bodies import (
    BITS,
    LossyName,
    SideArrays,
    region_bytes,
    side_arrays,
)
from twofold_kvtransfer.codecs.quantising import LEVELS, SMALLEST_SCALE
from twofold_kvtransfer.codecs.regions import Regions, check
from twofold_kvtransfer.codecs.shape import KvShape, Packing


def encode(codec: LossyName, blocks: Regions, shape: KvShape) -> torch.Tensor:
    """Return the payload, on the device of *blocks*. Waits for the device.

    Raises:
        ShapeError: *blocks* are not of *shape*, or packed otherwise.
        CannotQuantiseError: the numbers are not all finite.
    """
    block_count = _check(blocks, shape)
    size_bytes = payload_bytes(codec, shape, block_count)
    payload = torch.empty(size_bytes, dtype=torch.uint8, device=blocks[0].device)
    header = write_header(Header(codec, shape, block_count, size_bytes - HEADER_BYTES))
    payload[:HEADER_BYTES].copy_(torch.frombuffer(bytearray(header), dtype=torch.uint8))
    programs = (block_count, shape.heads)
    bad = torch.zeros(2 * shape.regions, *programs, dtype=torch.int32, device=payload.device)
    largest = LARGEST[blocks[0].dtype]
    work = _sides(codec, blocks, shape, payload[HEADER_BYTES:])
    for (side, by_token, arrays), flags in zip(work, bad, strict=True):
        if codec == "fp8":
            options = _whole(shape)
            _launch(kernels.float8_kernel, side, arrays, (flags,), LARGEST=largest, **options)
        else:
            options = _halves(codec, shape) | {"SMALLEST": SMALLEST_SCALE[side.dtype]}
            _launch(
                kernels.quantise_kernel, side, arrays, (flags,),
                LARGEST=largest, BY_TOKEN=by_token, **options,
            )  # fmt: skip
    if bad.any():
        raise CannotQuantiseError(f"blocks with a NaN, an infinity or a number above {largest:.3g}")
    return payload


def decode(payload: torch.Tensor, shape: KvShape, out: Regions) -> None:
    """Fill *out* with the blocks of a lossy *payload*, which is on the same device.

    Raises:
        PayloadError: *payload* is cut off, damaged where that shows, or not of such blocks.
        ShapeError: *out* is not of *shape*, or packed otherwise; or the codec is not lossy.
    """
    codec = checked_header(payload, shape, _check(out, shape)).codec
    if codec == "none" or codec == "lossless":
        raise ShapeError(f"payloads of {codec} are for the CPU")
    for side, by_token, arrays in _sides(codec, out, shape, payload[HEADER_BYTES:]):
        if codec == "fp8":
            _launch(kernels.restore_float8_kernel, side, arrays, (), **_whole(shape))
        else:
            options = _halves(codec, shape)
            _launch(kernels.restore_kernel, side, arrays, (), **options, BY_TOKEN=by_token)


def _check(regions: Regions, shape: KvShape) -> int:
    if shape.packing is not Packing.TOKENS:
        raise ShapeError(f"the kernels take blocks packed by tokens, not {shape.packing.value}")
    if any(region.stride(-1) != 1 for region in regions):
        raise ShapeError("the channels of a token are not side by side")
    return check(regions, shape)


def _sides(
    codec: LossyName, regions: Regions, shape: KvShape, body: torch.Tensor
) -> Iterator[tuple[torch.Tensor, bool, SideArrays]]:
    """Yield K and V of each region, whether its groups are tokens, and its part of *body*."""
    at = 0
    for region in regions:
        end = at + region_bytes(codec, shape, len(region))
        keys, values = side_arrays(codec, shape, region.dtype, body[at:end])
        yield region[..., : shape.head_dim], False, keys
        yield region[..., shape.head_dim :], True, values
        at = end


def _launch(
    kernel: Any, side: torch.Tensor, arrays: SideArrays, more: tuple[Any, ...], **options: Any
) -> None:
    strides = side.stride()[:3]
    # Fused, a product is not rounded before it is added to: other bytes than the CPU's.
    kernel[side.shape[:2]](
        side, *strides, arrays.codes, *arrays.scales, *more, enable_fp_fusion=False, **options
    )


def _whole(shape: KvShape) -> dict[str, float]:
    return _tile(shape, triton.next_power_of_2(shape.block_tokens))


def _halves(codec: LossyName, shape: KvShape) -> dict[str, float]:
    tile = _tile(shape, triton.next_power_of_2(shape.block_tokens // 2))
    return tile | {"LEVELS": LEVELS[BITS[codec]]}


def _tile(shape: KvShape, height: int) -> dict[str, float]:
    width = triton.next_power_of_2(shape.head_dim)
    return {
        "TOKENS": shape.block_tokens,
        "CHANNELS": shape.head_dim,
        "HALF": height,
        "WIDTH": width,
    }
