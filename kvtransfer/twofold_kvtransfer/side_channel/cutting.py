"""Long lists in as many messages as they need."""

from collections.abc import Iterator, Sequence
from typing import TypeVar

from twofold_kvtransfer.side_channel.messages import (
    MAX_BLOCKS_PER_MESSAGE,
    MAX_LEASES_PER_MESSAGE,
    MAX_QUESTION_BYTES,
)

OVERHEAD_BYTES = 64
"""More than MessagePack takes for a name beside its bytes, and for a message beside its names."""

T = TypeVar("T")


def lease_portions(request_ids: Sequence[str]) -> Iterator[list[str]]:
    """Cut leases into what fits into a message."""
    some: list[str] = []
    size_bytes = 0
    for name in request_ids:
        name_bytes = len(name.encode()) + OVERHEAD_BYTES
        fits = size_bytes + name_bytes <= MAX_QUESTION_BYTES - OVERHEAD_BYTES
        if some and not (fits and len(some) < MAX_LEASES_PER_MESSAGE):
            yield some
            some, size_bytes = [], 0
        some.append(name)
        size_bytes += name_bytes
    if some:
        yield some


def block_portions(listed: Sequence[T]) -> Iterator[Sequence[T]]:
    """Cut what there is for each block into what fits into a message."""
    for start in range(0, len(listed), MAX_BLOCKS_PER_MESSAGE):
        yield listed[start : start + MAX_BLOCKS_PER_MESSAGE]
