"""SGLang's cache-aware router.

github.com/sgl-project/sglang, sgl-router/src/policies/cache_aware.rs and tree.rs, with the values
that its launcher had at first: 32, 1.0001 and 0.5, trees of 2**24 characters, trimmed every minute.
When the requests in flight differ by more than 32 from one worker to another, and by more than
1.0001 times, the worker with the fewest takes the request. Otherwise, if more than half of the
prompt was sent to some worker before, the worker with the longest part of it; if not, the one with
the smallest tree, which is what was sent there, each prefix once.
"""

import math
from collections.abc import Sequence

from twofold_cluster.identity import Incarnation
from twofold_router.placement.accounts import Account
from twofold_router.placement.baselines import allowed
from twofold_router.placement.choice import Choose
from twofold_router.placement.pools import Pool
from twofold_router.placement.waiting import Waiting
from twofold_sim.policies.routed import Routed, in_flight

BALANCE_ABS_THRESHOLD = 32
BALANCE_REL_THRESHOLD = 1.0001
CACHE_THRESHOLD = 0.5
EVICTION_SECONDS = 60.0
MAX_TREE_TOKENS = 2**24 // 4
"""Of four characters each."""


def cache_aware() -> Choose:
    """Make SGLang's choice."""
    routed, trees = Routed(), _TreeSizes()

    def choose(waiting: Waiting, pool: Pool, now: float) -> tuple[Sequence[Account], Account]:
        trees.trim(now)
        accounts = allowed(waiting, pool)
        key = waiting.request.key
        matched = {
            account.worker.worker_id: routed.matched_tokens(account, key) for account in accounts
        }
        longest = max(matched.values())
        if _is_imbalanced(accounts):
            chosen = min(accounts, key=in_flight)
        elif longest > CACHE_THRESHOLD * waiting.prompt_tokens:
            # Of several the source takes whichever comes first in a hash map.
            holders = (each for each in accounts if matched[each.worker.worker_id] == longest)
            chosen = min(holders, key=in_flight)
        else:
            chosen = min(accounts, key=trees.size_of)
        trees.grow(chosen, waiting.prompt_tokens - matched[chosen.worker.worker_id])
        routed.send(chosen, key, waiting.prompt_tokens)
        return (chosen,), chosen

    return choose


def _is_imbalanced(accounts: Sequence[Account]) -> bool:
    counts = [in_flight(account) for account in accounts]
    most, fewest = max(counts), min(counts)
    return most - fewest > BALANCE_ABS_THRESHOLD and most > fewest * BALANCE_REL_THRESHOLD


class _TreeSizes:
    """How many tokens the tree of each worker has; that of a new life is empty.

    What is matched is taken from what the worker can hold instead (``Routed``): a tree may be
    larger than the cache, and would then promise what is gone. Invariant: at most one size for each
    worker id.
    """

    def __init__(self) -> None:
        self._sizes: dict[str, tuple[Incarnation, float]] = {}
        self._trim_at = -math.inf

    def size_of(self, account: Account) -> float:
        worker = account.worker
        incarnation, tokens = self._sizes.get(worker.worker_id, (worker.incarnation, 0.0))
        return tokens if incarnation == worker.incarnation else 0.0

    def grow(self, account: Account, tokens: float) -> None:
        worker = account.worker
        self._sizes[worker.worker_id] = (worker.incarnation, self.size_of(account) + tokens)

    def trim(self, now: float) -> None:
        """Forget what is too much, if it is time."""
        if now < self._trim_at:
            return
        self._trim_at = now + EVICTION_SECONDS
        for worker_id, (incarnation, tokens) in self._sizes.items():
            self._sizes[worker_id] = (incarnation, min(tokens, MAX_TREE_TOKENS))
