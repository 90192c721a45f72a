"""What a transport needs to send less than what lies in the blocks."""

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from typing import Protocol

from twofold_kvtransfer.codecs import DEFAULT_COSTS, CodecCost, CodecName, KvShape, Quality


class CellCoder(Protocol):
    """Codes cells of the transport's blocks; ``codecs.cell_coding`` has the one for CPUs.

    *ids* are blocks, *part* is offset and length within a block in bytes (whole heads), *cells* as
    in :mod:`cells`: some of one region, or whole regions. Called in ``threads``, from several of
    them at once.
    """

    @property
    def shape(self) -> KvShape:
        """Of the whole blocks."""

    @property
    def threads(self) -> Executor:
        """In which to call the others."""

    def bound(self, codec: CodecName, part: tuple[int, int], cell_count: int) -> int:
        """Return the most bytes that a payload of so many cells has."""

    def encode(
        self,
        codec: CodecName,
        ids: Sequence[int],
        part: tuple[int, int],
        cells: range,
        into: memoryview,
    ) -> int:
        """Write a payload to the start of *into* and return its size. Never fails: what *codec*
        cannot take becomes a payload of ``none``."""

    def decode(
        self,
        codec: CodecName,
        ids: Sequence[int],
        part: tuple[int, int],
        cells: range,
        payload: memoryview,
    ) -> None:
        """Fill *cells* from *payload*.

        Raises:
            PayloadError: it is not one of these cells, by *codec* or ``none``.
        """

    def close(self) -> None:
        """End the threads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compression:
    coder: CellCoder
    """The transport closes it when it ends."""
    quality: Quality
    """The bound for what this side reads; a peer is given what it asks for."""
    link_bytes_per_second: float = 1.25e9
    """What a link is taken for until something has moved over it, 10 Gbit/s; though it may be
    faster (``choosing.UNMEASURED_FASTER``)."""
    costs: Mapping[CodecName, CodecCost] = field(default_factory=lambda: DEFAULT_COSTS)
    """What codecs are taken to cost on idle cores; best measured (``codecs.measuring``)."""
    least_bytes: int = 1 << 20
    """A transfer of less is neither coded nor learned from: its time is mostly that of asking."""


def are_alike(ours: KvShape, theirs: KvShape | None, part: tuple[int, int]) -> bool:
    """Whether *part* of a peer's blocks, offset and length in bytes, is of the shape *ours*, so
    that a payload of one side is one of the other. A part is whole heads of a block, as with
    unequal tensor parallelism."""
    if theirs is None or replace(theirs, heads=ours.heads) != ours:
        return False
    return is_whole_heads(theirs, part) and part[1] * ours.regions == ours.size_bytes(1)


def is_whole_heads(shape: KvShape, part: tuple[int, int]) -> bool:
    """Whether *part* of blocks of *shape*, offset and length in bytes, cuts no head."""
    page_bytes = shape.page_numbers * shape.item_bytes
    return part[0] % page_bytes == 0 and part[1] % page_bytes == 0
