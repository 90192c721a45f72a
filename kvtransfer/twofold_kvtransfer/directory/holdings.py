"""From what Redis answers to who holds how much of a chain."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import msgspec

from twofold_cluster.identity import Incarnation, WorkerId
from twofold_kvtransfer.directory.updates import DEFAULT_TIER, Tier


@dataclass(frozen=True, slots=True)
class Holding:
    """The first blocks of a chain that one worker has in one tier, without a gap.

    What is in several tiers together counts in none of them, so a worker may have more than this,
    and has never less but for what its events have not told yet.
    """

    worker_id: WorkerId
    incarnation: Incarnation
    tier: Tier
    block_count: int
    degraded: bool
    """True: something of what this worker holds is not known."""


class Owner(msgspec.Struct, frozen=True, array_like=True):
    """Whom a slot stands for."""

    worker_id: WorkerId
    incarnation: Incarnation
    tier: Tier
    degraded: bool


Owners = dict[int, Owner]
"""By slot."""

_decode_owner = msgspec.json.Decoder(Owner).decode


def decode_owners(flat: Sequence[bytes]) -> Owners:
    """Decode a hash of slots, as fields and values by turns."""
    return {
        int(slot): _decode_owner(owner) for slot, owner in zip(flat[::2], flat[1::2], strict=True)
    }


class Search:
    """Follows a chain from its first block; those who still have all blocks so far are alive.

    Slots are bits of an integer, so that a thousand workers are compared at once.
    """

    def __init__(self) -> None:
        self._owners: Owners | None = None
        self._alive = 0
        self._depth = 0
        self._ends: list[tuple[int, int]] = []  # slots as bits, and how far they came

    @property
    def is_over(self) -> bool:
        return self._owners is not None and not self._alive

    def start(self, owners: Owners) -> None:
        """Go on with *owners* only, as of now; who was there before as another is out."""
        if self._owners is None:
            self._alive = _bits_of(owners)
        else:
            before = self._owners
            same = [slot for slot in owners if owners[slot] == before.get(slot)]
            valid = _bits_of(same)
            self._alive &= valid
            self._ends = [(bits & valid, depth) for bits, depth in self._ends]
        self._owners = owners

    def take(self, holders: Sequence[bytes], is_end: bool) -> None:
        """Follow the next blocks. *is_end*: nobody has the block after these."""
        for held in holders:
            still = self._alive & _bits_in(held)
            self._drop(self._alive & ~still)
            self._alive = still
            if not still:
                return
            self._depth += 1
        if is_end:
            self._drop(self._alive)
            self._alive = 0

    def result(self) -> list[Holding]:
        """Return who has the most blocks first, in which case GPU comes before other tiers."""
        owners = self._owners or {}
        ends = [*self._ends, (self._alive, self._depth)]
        found = [
            _holding(owners[slot], depth)
            for bits, depth in ends
            if depth > 0
            for slot in _slots_in(bits)
        ]
        return sorted(found, key=_rank)

    def _drop(self, bits: int) -> None:
        if bits and self._depth > 0:
            self._ends.append((bits, self._depth))


def _holding(owner: Owner, depth: int) -> Holding:
    return Holding(owner.worker_id, owner.incarnation, owner.tier, depth, owner.degraded)


def _rank(holding: Holding) -> tuple[int, bool, Tier, WorkerId]:
    is_slower = holding.tier != DEFAULT_TIER
    return -holding.block_count, is_slower, holding.tier, holding.worker_id


def _bits_of(slots: "Owners | list[int]") -> int:
    bits = 0
    for slot in slots:
        bits |= 1 << slot
    return bits


def _bits_in(held: bytes) -> int:
    """Decode one block's holders: see ``FIND``."""
    if held[0] == 1:
        return int.from_bytes(held[1:], "little")
    bits = 0
    for i in range(1, len(held), 2):
        bits |= 1 << (held[i] << 8 | held[i + 1])
    return bits


def _slots_in(bits: int) -> Iterator[int]:
    while bits:
        lowest = bits & -bits
        yield lowest.bit_length() - 1
        bits ^= lowest
