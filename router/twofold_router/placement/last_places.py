"""Where a prompt with the same beginning was sent last, wherever that was.

The hashes name a key's homes; this finds the copy that was made when all of them were busy, and
the home that has the last turn of a conversation rather than only its first blocks.
"""

from twofold_cluster.identity import WorkerId
from twofold_router.placement.prefixes import Blocks, known_count

BLOCKS_PER_WORKER = 4096
"""Remembered for each worker, twice over: two million tokens in blocks of 512, more than it can
cache."""

MAX_BLOCKS = 1 << 20
"""Of all workers, twice over; about 100 MiB each time."""


class LastPlaces:
    """A worker for each block. The oldest are forgotten, by halves.

    Invariant: neither half has more than the bound that was last asked for, and one prompt. A
    block's predecessors in its chain were put in no earlier than it, so none is forgotten before.
    """

    def __init__(self) -> None:
        self._recent: dict[bytes, WorkerId] = {}
        self._older: dict[bytes, WorkerId] = {}

    def __len__(self) -> int:
        return len(self._recent) + len(self._older)

    def put(self, blocks: Blocks, worker_id: WorkerId, worker_count: int) -> None:
        """Take note that a prompt of *blocks* goes to *worker_id*, one of *worker_count*."""
        recent = self._recent
        for digest in blocks:
            recent[digest] = worker_id
        if len(recent) > min(BLOCKS_PER_WORKER * worker_count, MAX_BLOCKS):
            self._older, self._recent = recent, {}

    def find(self, blocks: Blocks) -> WorkerId | None:
        """Return where the longest known beginning of *blocks* went last; None: it is new."""
        recent, older = self._recent, self._older
        count = known_count(blocks, recent, older)
        if count == 0:
            return None
        digest = blocks[count - 1]
        return recent.get(digest) or older.get(digest)
