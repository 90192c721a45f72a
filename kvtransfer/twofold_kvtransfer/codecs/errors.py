"""What can go wrong with a codec, by what the caller does about it."""

from twofold_cluster.errors import TwofoldError


class ShapeError(TwofoldError):
    """Tensors that are not of the shape, type or order in memory that was stated: a wrong call."""


class PayloadError(TwofoldError):
    """A payload that is cut off, damaged or of other blocks: fetch it again, or recompute."""


class CannotQuantiseError(TwofoldError):
    """Blocks with a NaN or an infinity, or too wide a range: send them with an exact codec."""
