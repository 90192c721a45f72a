"""``twofold`` with one of its parts switched off, to see what each is worth."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from twofold_router.placement.accounts import Account
from twofold_router.placement.choice import HASH_COUNTS, CostChoice
from twofold_router.placement.fairness import Shares
from twofold_router.placement.homes import Homes
from twofold_router.placement.interface import PlacementSettings
from twofold_router.placement.moves import Stay
from twofold_router.placement.orders import ByArrival
from twofold_router.placement.policy import Policy, twofold
from twofold_router.placement.pools import Pool
from twofold_router.placement.waiting import Waiting

PAPER_KEY_BLOCKS = 2
"""Of nearly all keys in DualMap's traces."""


def pair_only(settings: PlacementSettings, shares: Shares, rng: random.Random) -> Policy:
    """``twofold`` without the extra candidates: the pair, whatever happens."""
    choose = CostChoice(Homes(), hash_counts=HASH_COUNTS[:1])
    return replace(twofold(settings, shares, rng), choose=choose)


def without_cost(settings: PlacementSettings, shares: Shares, rng: random.Random) -> Policy:
    """``twofold`` with the paper's choice: the longest cached prefix unless that takes too long."""
    choose = AffinityChoice(Homes(), theta_seconds=settings.ttft_slo_seconds)
    return replace(twofold(settings, shares, rng), choose=choose)


def by_arrival(settings: PlacementSettings, shares: Shares, rng: random.Random) -> Policy:
    """``twofold`` without the order by deadline: first come, first served."""
    return replace(twofold(settings, shares, rng), make_queue=ByArrival)


def without_moves(settings: PlacementSettings, shares: Shares, rng: random.Random) -> Policy:
    """``twofold`` where everybody stays where they were put."""
    return replace(twofold(settings, shares, rng), rebalance=Stay())


def fixed_key(settings: PlacementSettings, shares: Shares, rng: random.Random) -> Policy:
    """``twofold`` with keys of two blocks, however many requests share them."""
    return replace(twofold(settings, shares, rng), choose=CostChoice(Homes(PAPER_KEY_BLOCKS)))


@dataclass(frozen=True, slots=True)
class AffinityChoice:
    """DualMap's choice (arXiv 2602.06502) among as many candidates as ``twofold`` has: the longest
    cached prefix; if its predicted TTFT is over theta, the least predicted TTFT."""

    homes: Homes
    theta_seconds: float

    def __call__(
        self, waiting: Waiting, pool: Pool, now: float
    ) -> tuple[Sequence[Account], Account]:
        self.homes.find_key(waiting, pool)
        for count in HASH_COUNTS:
            homes = self.homes.of(waiting, pool, count)
            best = min(homes, key=lambda home: home.uncached_tokens(waiting))
            if best.ttft_seconds(waiting, now) > self.theta_seconds:
                best = min(homes, key=lambda home: home.ttft_seconds(waiting, now))
            if best.ttft_seconds(waiting, now) <= self.theta_seconds or count >= len(pool):
                break
        return homes, best
