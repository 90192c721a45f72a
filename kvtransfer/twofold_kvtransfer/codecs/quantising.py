"""Even steps between the least and the greatest number of each group, in 8 or 4 bits.

``offset`` is a group's least number and ``scale`` its step; both are kept in the cache's own
type, in which the offset is exact. A number is off by at most half a step, and by half of the
last place of the cache's type, in which it is given back.

Each line of arithmetic is one operation of IEEE 754 in float32, in the same order as in
``triton_kernels``, so that both give the same bytes.
"""

import torch

from twofold_kvtransfer.codecs.limits import check_limits
from twofold_kvtransfer.codecs.sides import Side

LEVELS = {8: 255, 4: 15}

SMALLEST_SCALE = {
    torch.float32: 2.0**-126,
    torch.bfloat16: 2.0**-126,  # the least whose inverse is finite in float32, and not subnormal
    torch.float16: 2.0**-24,
}


def quantise(
    side: Side, bits: int, codes: torch.Tensor, scale: torch.Tensor, offset: torch.Tensor
) -> None:
    """Write the codes of *side* and what they mean.

    *codes*: int8, ``(blocks, heads, numbers * bits / 8)``. *scale* and *offset*: ``(blocks,
    heads, groups)`` in the cache's type.

    Raises:
        CannotQuantiseError: a number is not within the limits.
    """
    numbers = side.float32()
    least = side.fold(numbers, torch.amin)
    greatest = side.fold(numbers, torch.amax)
    check_limits(least, greatest, scale.dtype)
    _round_up(greatest.sub_(least).div_(LEVELS[bits]), scale)
    offset.copy_(least)
    inverse = scale.float().reciprocal()
    numbers.sub_(side.spread(least)).mul_(side.spread(inverse)).round_()
    _store(numbers.flatten(2), bits, codes)


def restore(
    side: Side, bits: int, codes: torch.Tensor, scale: torch.Tensor, offset: torch.Tensor
) -> None:
    """Write into *side* what :func:`quantise` made *codes*, *scale* and *offset* of."""
    numbers = _load(codes, bits).view(side.numbers.shape)
    numbers.mul_(side.spread(scale.float())).add_(side.spread(offset.float()))
    side.numbers.copy_(numbers)


def _round_up(steps: torch.Tensor, scale: torch.Tensor) -> None:
    """Store *steps* in the type of *scale*, none of them smaller than it was."""
    scale.copy_(steps)
    if scale.dtype != torch.float32:
        # The next number of the same sign is the next integer, for positive floats.
        scale.view(torch.int16).add_(scale.float() < steps)
    scale.clamp_(min=SMALLEST_SCALE[scale.dtype])


def _store(levels: torch.Tensor, bits: int, codes: torch.Tensor) -> None:
    """8 bits: the level less 128. 4 bits: of a head's numbers, the second half in the high bits."""
    if bits == 8:
        codes.copy_(levels.sub_(128))
        return
    small = levels.to(torch.int8)
    low, high = small.chunk(2, dim=-1)
    torch.bitwise_left_shift(high, 4, out=codes)
    codes.bitwise_or_(low)


def _load(codes: torch.Tensor, bits: int) -> torch.Tensor:
    """Return the levels as float32, flat within a head."""
    if bits == 8:
        return codes.float().add_(128)
    unsigned = codes.view(torch.uint8)
    half = codes.shape[-1]
    small = torch.empty(*codes.shape[:-1], 2 * half, dtype=torch.uint8, device=codes.device)
    torch.bitwise_and(unsigned, 15, out=small[..., :half])
    torch.bitwise_right_shift(unsigned, 4, out=small[..., half:])
    return small.float()
