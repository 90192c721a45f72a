"""What a generated workload is like, and how a user says so."""

from typing import Annotated

import msgspec

from twofold_sim.workloads.errors import WorkloadError

_Variation = Annotated[float, msgspec.Meta(ge=0.01, le=10)]
_Exponent = Annotated[float, msgspec.Meta(ge=0, le=10)]
_Tokens = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """What a generated workload is like."""

    qps: Annotated[float, msgspec.Meta(gt=0)] = 10.0
    gap_variation: _Variation = 1.0
    """Coefficient of variation of the time between arrivals; 1 is Poisson, more is bursts."""
    least_prompt_tokens: _Tokens = 128
    most_prompt_tokens: _Tokens = 32_768
    """Beside the prefix."""
    prompt_exponent: _Exponent = 1.0
    """Of Zipf's law: the larger, the fewer long ones."""
    least_output_tokens: _Tokens = 16
    most_output_tokens: _Tokens = 2_048
    output_exponent: _Exponent = 1.0
    prefix_count: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 100
    prefix_blocks: Annotated[int, msgspec.Meta(ge=0, le=2_000)] = 2
    """Of each prefix; 0: prompts share nothing."""
    prefix_exponent: _Exponent = 1.0
    """0: all prefixes are as frequent."""


SHAPE_FIELDS = tuple(name for name in Shape.__struct_fields__ if name != "qps")
"""What a user may set; how fast requests arrive is scaled later."""


def parse_shape(text: str) -> Shape:
    """Read ``gap-variation=4,prompt-exponent=1.2``; what is not told is as usual.

    Raises:
        WorkloadError: a name is not known or is told twice, or a number cannot be.
    """
    told: dict[str, str] = {}
    for part in text.split(","):
        name, _, number = part.partition("=")
        field = name.strip().replace("-", "_")
        if field not in SHAPE_FIELDS or field in told:
            known = ", ".join(name.replace("_", "-") for name in SHAPE_FIELDS)
            raise WorkloadError(f"{part!r} is not one of {known}, each once, with = and a number")
        told[field] = number
    try:
        shape = msgspec.convert(told, type=Shape, strict=False)
    except msgspec.ValidationError as error:
        raise WorkloadError(f"the shape {text!r}: {error}") from error
    for kind in ("prompt", "output"):
        least, most = (getattr(shape, f"{end}_{kind}_tokens") for end in ("least", "most"))
        if least > most:
            raise WorkloadError(f"the shape {text!r}: no {kind} has {least} to {most} tokens")
    return shape
