"""What each codec costs and saves before anything was measured."""

from collections.abc import Mapping
from dataclasses import dataclass

from twofold_kvtransfer.codecs.names import CodecName


@dataclass(frozen=True, slots=True)
class CodecCost:
    """Coding *n* bytes takes ``fixed_seconds + n * seconds per byte``, on each side."""

    encode_seconds_per_byte: float
    """Per byte of the cache, as is the next."""
    decode_seconds_per_byte: float
    fixed_seconds: float
    payload_share: float
    """Bytes of payload per byte of the cache; at most about 1."""


DEFAULT_COSTS: Mapping[CodecName, CodecCost] = {
    "none": CodecCost(0.0, 0.0, 0.0, 1.0),
    "lossless": CodecCost(0.5e-9, 0.4e-9, 3e-4, 0.76),
    "int8": CodecCost(0.5e-9, 0.3e-9, 3e-4, 0.53),
    "fp8": CodecCost(0.6e-9, 0.3e-9, 3e-4, 0.51),
    "int4": CodecCost(0.5e-9, 0.3e-9, 3e-4, 0.28),
}
"""Of bfloat16 in blocks of 128 tokens: about what two idle cores with AVX-512 take. Cores that have
other work take two to ten times as long (docs/performance.md): the controller assumes that they
have, and learns what is true from the first transfer that is coded. The shares are those of
``benchmarks.kv_codecs``."""
