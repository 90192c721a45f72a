"""Prefixes of prompts that another engine may hold in its prefix cache."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec

from twofold_kvtransfer.sources import InvalidSourceError, Name, Port

PARAM = "prefix_source"
"""Its name among ``kv_transfer_params``."""


class PrefixSource(msgspec.Struct, frozen=True, kw_only=True):
    """Who is thought to hold the beginning of a prompt, and what not having it would cost here."""

    engine_id: Name
    """Worker and incarnation, as ``worker:incarnation``."""
    host: Name
    port: Port
    """Of the side channel of its first rank."""
    tokens: Annotated[int, msgspec.Meta(ge=1)]
    """About so many of the prompt's first tokens it holds."""
    seconds_per_token: Annotated[float, msgspec.Meta(gt=0, le=3600)]
    """That computing a token of a prompt takes here."""
    tensor_parallel: Annotated[int, msgspec.Meta(ge=1)] = 1
    follow: bool = False
    """It is computing the prompt just now: take each block as soon as it is there. The request that
    says so is for nothing else; whoever has sent it ends it."""


class Outcome(enum.StrEnum):
    """What came of the wish to pull a prefix."""

    PULLED = "pulled"
    ABSENT = "absent"
    """The source does not hold it."""
    SLOWER = "slower"
    """Computing it is quicker."""
    CHANGED = "changed"
    """The source gave its blocks to another content meanwhile."""
    FAILED = "failed"
    """The source cannot be reached, or the blocks did not arrive."""
    DAMAGED = "damaged"
    """They arrived otherwise than they were sent."""
    LATE = "late"
    """By then they would have been computed."""
    AVOIDED = "avoided"
    """The source did not answer of late, and was not asked again."""
    DROPPED = "dropped"
    """The request has ended before."""


@dataclass(frozen=True, slots=True)
class Pull:
    """Blocks of a prompt that are to be pulled, if that is quicker."""

    request_id: str
    source: PrefixSource
    names: tuple[bytes, ...]
    """The engine's hashes of the blocks, in the order of the prompt."""
    local: tuple[int, ...]
    """Where they go."""
    block_tokens: int


@dataclass(frozen=True, slots=True)
class Pulled:
    """What came of a pull, so far."""

    request_id: str
    outcome: Outcome
    block_count: int = 0
    """That are there: the first of those wanted."""
    seconds: float = 0.0
    """From the wish on."""
    is_last: bool = True
    """Else there will be more; blocks beyond those that are there may still be written."""


@dataclass(frozen=True, slots=True)
class PrefixRead:
    """A rank's read of blocks of a prefix that has arrived."""

    size_bytes: int
    seconds: float


def prefix_from_params(params: Mapping[str, Any]) -> PrefixSource | None:
    """Return the source that *params* name; None: they name none.

    Raises:
        InvalidSourceError: something is missing, of another type, or out of bounds.
    """
    if params.get(PARAM) is None:
        return None
    try:
        source = msgspec.convert(params[PARAM], PrefixSource)
    except msgspec.ValidationError as error:
        raise InvalidSourceError(f"{PARAM}: {error}") from error
    if not (source.engine_id.isprintable() and source.host.isprintable()):
        raise InvalidSourceError(f"{PARAM}: a name with unprintable characters")
    return source
