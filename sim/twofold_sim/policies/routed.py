"""What other routers know of their workers: what they have sent there, and how much."""

from twofold_cluster.identity import Incarnation
from twofold_cluster.prompt_key import PromptKey
from twofold_router.placement.accounts import Account
from twofold_router.placement.mirror import CacheMirror


class Routed:
    """The prefixes that were sent to each worker, as if its cache had them from that moment on.

    The routers that are compared with keep such a table each, bounded by a number of their own.
    Here its bound is the worker's cache, block by block and the least recently used first out: as
    good as such a table can be. Invariant: at most one mirror for each worker id.
    """

    def __init__(self) -> None:
        self._mirrors: dict[str, tuple[Incarnation, CacheMirror]] = {}

    def of(self, account: Account) -> CacheMirror:
        """Return what was sent to this life of the worker."""
        worker = account.worker
        incarnation, mirror = self._mirrors.get(worker.worker_id, (None, None))
        if mirror is None or incarnation != worker.incarnation:
            mirror = CacheMirror(worker.kv_capacity_tokens, worker.kv_block_tokens)
            self._mirrors[worker.worker_id] = (worker.incarnation, mirror)
        return mirror

    def matched_tokens(self, account: Account, key: PromptKey) -> int:
        """Return how many tokens of the prompt of *key* were sent to the worker before."""
        return self.of(account).cached_tokens(key)

    def send(self, account: Account, key: PromptKey, prompt_tokens: float) -> None:
        """Take note that the prompt of *key* goes there."""
        self.of(account).hold(key, int(prompt_tokens))


def in_flight(account: Account) -> int:
    """Count the requests that are at the worker or wait for it here: a router without a queue of
    its own has sent them all, and they wait there."""
    held = account.decoding if account.worker.role.decodes else len(account.unprefilled)
    return len(account.queue) + held
