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
    """``twofold`` with the longest cached prefix in place of the least cost."""
    return replace(twofold(settings, shares, rng), choose=AffinityChoice(Homes()))


def papers_choice(settings: PlacementSettings, shares: Shares, rng: random.Random) -> Policy:
    """``twofold`` with the paper's whole choice, among as many homes; more than one part."""
    choose = PaperChoice(Homes(), theta_seconds=settings.ttft_slo_seconds)
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
    """``CostChoice`` with DualMap's rule (arXiv 2602.06502) in place of the cost.

    That is the longest cached prefix where the request is on time, of equal ones the least
    predicted TTFT; and the least predicted TTFT if it is late everywhere.

    All else is as there: who is asked, and that prefixes which wait to be computed are as cached.
    Moves go by the cost.
    """

    homes: Homes

    def __call__(
        self, waiting: Waiting, pool: Pool, now: float
    ) -> tuple[Sequence[Account], Account]:
        self.homes.find_key(waiting, pool)
        last = self.homes.last(waiting, pool)
        for count in HASH_COUNTS:
            homes = self.homes.of(waiting, pool, count)
            if last is not None and last not in homes:
                homes = [*homes, last]
            best = min(homes, key=lambda home: self._rank(home, waiting, now))
            if count >= len(pool) or not best.wait_seconds(now):
                break
        self.homes.take(waiting, best, pool)
        return homes, best

    def _rank(self, home: Account, waiting: Waiting, now: float) -> tuple[bool, float, float]:
        uncached_tokens = home.uncached_tokens_in_turn(waiting)
        computing = uncached_tokens * home.speed.seconds_per_token
        ttft = home.wait_seconds(now) + computing
        is_late = now + ttft > home.due_at(waiting, computing)
        return is_late, 0.0 if is_late else uncached_tokens, ttft


@dataclass(frozen=True, slots=True)
class PaperChoice:
    """DualMap's choice (arXiv 2602.06502) among as many homes as ``twofold`` has.

    That is the longest cached prefix, unless its predicted TTFT is over theta; then it is the least
    predicted TTFT.

    With the cost go who is asked beside the homes (the last place), that prefixes which wait to be
    computed are as cached, and that those who are on time come first.
    """

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
