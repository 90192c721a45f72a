"""Which numbers the lossy codecs take."""

import torch

from twofold_kvtransfer.codecs.errors import CannotQuantiseError

LARGEST = {
    dtype: torch.finfo(dtype).max / 2 for dtype in (torch.float32, torch.bfloat16, torch.float16)
}
"""Half of a type's greatest number, so that what is rounded up stays finite."""


def check_limits(least: torch.Tensor, greatest: torch.Tensor, dtype: torch.dtype) -> None:
    """Raises:
    CannotQuantiseError: a number is larger than the codecs take, infinite or a NaN. (A group that
        has a NaN has it as its *least*.)
    """
    largest = LARGEST[dtype]
    if not ((least >= -largest) & (greatest <= largest)).all():
        raise CannotQuantiseError(f"blocks with a NaN, an infinity or a number above {largest:.3g}")
