"""AIBrix's prefix-cache router.

github.com/vllm-project/aibrix at e3e10f9, pkg/plugins/gateway/algorithms/prefix_cache.go, with its
default values. When the workers' requests in flight differ by more than 8, only those with the
fewest are looked at. Of the workers that have part of the prompt, take the one with the largest
part (in whole per cent; equal ones by requests), unless it has more requests than the mean of all
and one standard deviation; then the next. If nobody is left, whoever has the fewest requests.
"""

import random
from collections.abc import Sequence
from statistics import fmean, stdev

from twofold_router.placement.accounts import Account
from twofold_router.placement.baselines import allowed
from twofold_router.placement.choice import Choose
from twofold_router.placement.pools import Pool
from twofold_router.placement.waiting import Waiting
from twofold_sim.policies.routed import Routed, in_flight

IMBALANCE_COUNT = 8
DEVIATIONS = 1.0


def prefix_cache(rng: random.Random) -> Choose:
    """Make AIBrix's choice; *rng* breaks ties."""
    routed = Routed()

    def choose(waiting: Waiting, pool: Pool, now: float) -> tuple[Sequence[Account], Account]:
        accounts = allowed(waiting, pool)
        counts = [in_flight(account) for account in accounts]
        fewest = min(counts)
        counted = list(zip(accounts, counts, strict=True))
        chosen = _matching(waiting, counted, routed, rng)
        if chosen is None:
            chosen = rng.choice([account for account, count in counted if count == fewest])
        routed.send(chosen, waiting.request.key, waiting.prompt_tokens)
        return (chosen,), chosen

    return choose


def _matching(
    waiting: Waiting, counted: list[tuple[Account, int]], routed: Routed, rng: random.Random
) -> Account | None:
    """Return the worker with the largest part of the prompt that is not too busy."""
    counts = [count for _, count in counted]
    fewest = min(counts)
    is_imbalanced = max(counts) - fewest > IMBALANCE_COUNT
    most = fmean(counts) + DEVIATIONS * (stdev(counts) if len(counts) > 1 else 0.0)
    matches = []
    for account, count in counted:
        if count > most or (is_imbalanced and count > fewest):
            continue
        matched_tokens = routed.matched_tokens(account, waiting.request.key)
        if matched_tokens:
            per_cent = int(100 * matched_tokens / waiting.prompt_tokens)
            matches.append((-per_cent, count, rng.random(), account))
    return min(matches)[-1] if matches else None
