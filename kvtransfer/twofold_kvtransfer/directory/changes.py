"""The net effect of batches that the directory was not told of yet."""

from collections import defaultdict

from twofold_cluster.identity import Incarnation, WorkerId
from twofold_kvtransfer.directory.updates import (
    MAX_BLOCKS_PER_UPDATE,
    DirectoryUpdate,
    Position,
    Tier,
    TierBlocks,
)


class Changes:
    """For each block what became of it last: True, it is stored; False, it is removed."""

    def __init__(self, first: int) -> None:
        self.first = first
        self.end = first  # past the last batch, once they are on their way
        self.clears = False
        self.degrades = False
        self.blocks: defaultdict[Tier, dict[bytes, bool]] = defaultdict(dict)

    def __len__(self) -> int:
        return sum(len(blocks) for blocks in self.blocks.values())

    def note(self, tier: Tier, name: bytes, is_stored: bool) -> None:
        self.blocks[tier][name] = is_stored

    def clear(self, *, degrades: bool) -> None:
        """Forget all before. Nothing of it is held, or, if this *degrades*, nobody knows."""
        self.blocks.clear()
        self.clears = True
        self.degrades = degrades

    def follows(self, earlier: "Changes") -> bool:
        """Tell whether no batch is between *earlier* and these."""
        return self.clears or self.first == earlier.end

    def go_on_with(self, later: "Changes") -> None:
        """Add what came right after these."""
        if later.clears:
            self.clear(degrades=False)
        self.degrades |= later.degrades
        for tier, blocks in later.blocks.items():
            self.blocks[tier].update(blocks)

    def updates(
        self, worker_id: WorkerId, incarnation: Incarnation, position: Position
    ) -> list[DirectoryUpdate]:
        """Make the parts that tell all this, up to *position*: what is removed comes first."""
        self.end = position.number + 1
        flat = [
            (tier, name, is_stored)
            for wanted in (False, True)
            for tier, blocks in self.blocks.items()
            for name, is_stored in blocks.items()
            if is_stored is wanted
        ]
        return [
            DirectoryUpdate(
                worker_id=worker_id,
                incarnation=incarnation,
                first=self.first,
                position=position,
                clears=self.clears and start == 0,
                degrades=self.degrades,
                removed=_of(flat, start, is_stored=False),
                stored=_of(flat, start, is_stored=True),
                is_last_part=start + MAX_BLOCKS_PER_UPDATE >= len(flat),
            )
            for start in range(0, max(1, len(flat)), MAX_BLOCKS_PER_UPDATE)
        ]


def _of(flat: list[tuple[Tier, bytes, bool]], start: int, *, is_stored: bool) -> TierBlocks:
    part = flat[start : start + MAX_BLOCKS_PER_UPDATE]
    return tuple((tier, name) for tier, name, stored in part if stored is is_stored)
