"""The codecs by name, and how good what comes out of each is."""

import enum
from collections.abc import Mapping
from typing import Literal

CodecName = Literal["none", "lossless", "int8", "fp8", "int4"]

WIRE_ORDER: tuple[CodecName, ...] = ("none", "lossless", "int8", "fp8", "int4")
"""The place of a name is its number on the wire: add at the end only."""


class Quality(enum.IntEnum):
    """A service's bound: it takes codecs of this class or a higher one.

    Classes and not a bound on a measured divergence, because that depends on the model and on
    the prompt, while the order is the same for all; ``benchmarks.codec_quality`` measures what a
    class means for a model.
    """

    ROUGH = 0
    """4 bits: visibly other tokens in long answers."""
    FAIR = 1
    """8 bits with 3 of mantissa."""
    CLOSE = 2
    """8 bits, evenly spaced between the least and the greatest of a channel or a token."""
    EXACT = 3
    """Every bit as it was."""


QUALITY: Mapping[CodecName, Quality] = {
    "none": Quality.EXACT,
    "lossless": Quality.EXACT,
    "int8": Quality.CLOSE,
    "fp8": Quality.FAIR,
    "int4": Quality.ROUGH,
}
