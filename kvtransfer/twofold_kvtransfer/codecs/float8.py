"""e4m3 with one scale per block, head and side.

The scale is a power of two, which costs a float format no precision and makes scaling exact:
what is lost is e4m3's own rounding, half of the last of its 3 bits of mantissa, or 2^-10 of the
scale below its smallest normal number.
"""

import torch

from twofold_kvtransfer.codecs.limits import check_limits
from twofold_kvtransfer.codecs.sides import Side

EXPONENT = 0x7F800000
ONE_EXPONENT = 1 << 23
PAST_448 = 0x1FFFFF
"""Added to a float32's bits: carries into the exponent if the mantissa is above that of 448."""


def quantise(side: Side, codes: torch.Tensor, scale: torch.Tensor) -> None:
    """Write *codes* (int8, ``(blocks, heads, numbers)``) and *scale* (float32, ``(blocks,
    heads)``) of *side*.

    Raises:
        CannotQuantiseError: a number is not within the limits.
    """
    numbers = side.float32().flatten(2)
    least, greatest = numbers.amin(-1), numbers.amax(-1)
    check_limits(least, greatest, side.numbers.dtype)
    scale.copy_(_scale_of(torch.maximum(greatest, least.neg_())))
    numbers.mul_(scale.reciprocal().unsqueeze(-1))
    codes.view(torch.float8_e4m3fn).copy_(numbers)


def restore(side: Side, codes: torch.Tensor, scale: torch.Tensor) -> None:
    """Write into *side* what :func:`quantise` made *codes* and *scale* of."""
    # A float16 of these bits is the number divided by 256: torch's own conversion, one number at
    # a time, takes fifty times as long. The sign's copy at bit 14 goes.
    halves = codes.to(torch.int16).bitwise_left_shift_(7).bitwise_and_(-0x4001)
    numbers = halves.view(torch.float16).float()
    numbers.mul_((scale * 256).unsqueeze(-1))
    side.numbers.copy_(numbers.view(side.numbers.shape))


def _scale_of(greatest: torch.Tensor) -> torch.Tensor:
    """Return the least power of two by which *greatest* divides to at most 448."""
    bits = greatest.view(torch.int32).add(PAST_448).bitwise_and_(EXPONENT)
    return bits.sub_(8 * ONE_EXPONENT).clamp_(min=ONE_EXPONENT).view(torch.float32)
