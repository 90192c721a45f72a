"""Other ways to choose, to compare with."""

import itertools
import random
from collections.abc import Sequence

from twofold_router.placement.accounts import Account
from twofold_router.placement.choice import Choose
from twofold_router.placement.homes import Homes
from twofold_router.placement.pools import Pool
from twofold_router.placement.waiting import Waiting


def round_robin() -> Choose:
    """Make a choice that takes the workers in turn (``round_robin`` of vLLM's router; M.
    Harchol-Balter, "Performance Modeling and Design of Computer Systems", 2013, chapter 24)."""
    turn = itertools.count()

    def choose(waiting: Waiting, pool: Pool, now: float) -> tuple[Sequence[Account], Account]:
        accounts = allowed(waiting, pool)
        chosen = accounts[next(turn) % len(accounts)]
        return (chosen,), chosen

    return choose


def least_loaded() -> Choose:
    """Make a choice of the worker with the least work to be done, whatever it has cached.

    It is "least work left" (Harchol-Balter 2013, chapter 24), in tokens: joining the shortest queue
    (W. Winston, "Optimality of the shortest line discipline", 1977) where requests are unequal.
    """

    def choose(waiting: Waiting, pool: Pool, now: float) -> tuple[Sequence[Account], Account]:
        chosen = min(allowed(waiting, pool), key=_pending)
        return (chosen,), chosen

    return choose


def two_random(rng: random.Random) -> Choose:
    """Make a choice of the less loaded of two random workers (M. Mitzenmacher, "The power of two
    choices in randomized load balancing", 2001)."""

    def choose(waiting: Waiting, pool: Pool, now: float) -> tuple[Sequence[Account], Account]:
        accounts = allowed(waiting, pool)
        chosen = min(rng.sample(accounts, min(2, len(accounts))), key=_pending)
        return (chosen,), chosen

    return choose


def one_ring(homes: Homes) -> Choose:
    """Make a choice of the key's first home, always: affinity and nothing else.

    It is consistent hashing (D. Karger et al., "Consistent hashing and random trees", 1997) without
    a bound on the load.
    """

    def choose(waiting: Waiting, pool: Pool, now: float) -> tuple[Sequence[Account], Account]:
        homes.find_key(waiting, pool)
        chosen = homes.of(waiting, pool, 1)[0]
        return (chosen,), chosen

    return choose


def min_ttft() -> Choose:
    """Make a choice of the least predicted TTFT of all workers (Mooncake, arXiv 2407.00079,
    algorithm 1, without its transfers between caches)."""

    def choose(waiting: Waiting, pool: Pool, now: float) -> tuple[Sequence[Account], Account]:
        accounts = allowed(waiting, pool)
        chosen = min(accounts, key=lambda account: account.ttft_seconds(waiting, now))
        return (chosen,), chosen

    return choose


def allowed(waiting: Waiting, pool: Pool) -> list[Account]:
    """Return all workers of *pool* but those to be avoided."""
    avoid = waiting.request.avoid
    if not avoid:
        return pool.accounts
    return [account for account in pool.accounts if account.worker.worker_id not in avoid]


def _pending(account: Account) -> tuple[float, int, int]:
    load = account.worker.load
    tokens = account.queued_tokens + account.unprefilled_tokens
    return (tokens, load.unprefilled_count + load.waiting_count, account.last_turn)
