"""The workers at which a prompt's prefix has its home (DESIGN, "Ring" and "Key length adapts")."""

from collections.abc import Sequence

from twofold_router.placement.accounts import Account
from twofold_router.placement.hotness import PrefixHotness
from twofold_router.placement.pools import Pool
from twofold_router.placement.waiting import Waiting


class Homes:
    """Finds a request's key, and the workers that the key's hashes name.

    Holds one hotness tree for each model that has workers.
    """

    def __init__(self, key_blocks: int | None = None) -> None:
        """Keys of *key_blocks*, and nothing is hot; None: as many as the prefix's hotness asks
        for."""
        self._key_blocks = key_blocks
        self._hotness: dict[str, PrefixHotness] = {}

    def find_key(self, waiting: Waiting, pool: Pool) -> float:
        """Count the request and set its key; return the share of recent requests that have it."""
        request = waiting.request
        blocks = request.key.blocks
        if not blocks:
            waiting.key = request.key.end
            return 0.0
        if self._key_blocks is not None:
            waiting.key = blocks[: self._key_blocks][-1]
            return 0.0
        hotness = self._hotness.get(request.model)
        if hotness is None:
            hotness = self._hotness[request.model] = PrefixHotness()
        length, share = hotness.key_of(blocks, len(pool))
        waiting.key = blocks[length - 1]
        return share

    def of(self, waiting: Waiting, pool: Pool, count: int) -> Sequence[Account]:
        """Return the workers that *count* hashes of the key name, without those to be avoided; if
        nobody is left, those that the next hashes name."""
        assert waiting.key is not None, waiting.request.request_id
        homes = pool.homes(waiting.key, count)
        avoid = waiting.request.avoid
        if not avoid:
            return homes
        kept = [home for home in homes if home.worker.worker_id not in avoid]
        if kept:
            return kept
        # Of so many, some are not in avoid, since somebody in the pool is not.
        homes = pool.homes(waiting.key, count + len(avoid))
        return [home for home in homes if home.worker.worker_id not in avoid]
