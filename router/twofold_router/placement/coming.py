"""Prefixes that a worker will have cached soon: those of the prompts that it is going to compute.

Without them, requests that come together with a prefix in common, or the next turn of a
conversation whose last one still waits, would each be sent to compute it somewhere else.
"""

from twofold_router.placement.prefixes import Blocks, known_count


class Coming:
    """Counts, for each block, the prompts that have it.

    Invariant: a block's predecessors in its chain are here as well, with no smaller count.
    """

    __slots__ = ("_counts",)

    def __init__(self) -> None:
        self._counts: dict[bytes, int] = {}

    def __len__(self) -> int:
        return len(self._counts)

    def add(self, blocks: Blocks) -> None:
        """Count a prompt."""
        counts = self._counts
        for digest in blocks:
            counts[digest] = counts.get(digest, 0) + 1

    def remove(self, blocks: Blocks) -> None:
        """Count a prompt that was added no longer."""
        counts = self._counts
        for digest in blocks:
            count = counts[digest]
            if count == 1:
                del counts[digest]
            else:
                counts[digest] = count - 1

    def prefix_of(self, blocks: Blocks) -> int:
        """Return how many blocks at the beginning of *blocks* are here."""
        return known_count(blocks, self._counts)
