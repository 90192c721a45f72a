"""The workers at which a prompt's prefix has its home (DESIGN, "Ring" and "Key length adapts")."""

from collections.abc import Sequence

from twofold_router.placement.accounts import Account
from twofold_router.placement.hotness import PrefixHotness
from twofold_router.placement.last_places import LastPlaces
from twofold_router.placement.pools import Pool
from twofold_router.placement.waiting import Waiting


class Homes:
    """Finds a request's key, and the workers that the key's hashes name.

    Holds one hotness tree for each model that has workers.
    """

    def __init__(self, key_blocks: int | None = None) -> None:
        """Keys of *key_blocks*; None: of as many as the prefix's hotness asks for."""
        self._key_blocks = key_blocks
        self._hotness: dict[str, PrefixHotness] = {}
        self._last_places = LastPlaces()

    def find_key(self, waiting: Waiting, pool: Pool) -> None:
        """Count the request, and set its key."""
        request = waiting.request
        blocks = request.key.blocks
        if not blocks:
            waiting.key = request.key.end
            return
        if self._key_blocks is not None:
            waiting.key = blocks[: self._key_blocks][-1]
            return
        hotness = self._hotness.get(request.model)
        if hotness is None:
            hotness = self._hotness[request.model] = PrefixHotness()
        length, _ = hotness.key_of(blocks, len(pool))
        waiting.key = blocks[length - 1]

    def last(self, waiting: Waiting, pool: Pool) -> Account | None:
        """Return the worker of *pool* that a prompt with the same beginning went to last, unless
        it is to be avoided."""
        request = waiting.request
        worker_id = self._last_places.find(request.key.blocks)
        if worker_id is None or worker_id in request.avoid:
            return None
        return pool.by_id.get(worker_id)

    def take(self, waiting: Waiting, account: Account, pool: Pool) -> None:
        """Take note that *waiting* goes to *account*, one of *pool*."""
        blocks = waiting.request.key.blocks
        self._last_places.put(blocks, account.worker.worker_id, len(pool))

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
