"""The choice among a key's homes: the paper's, and ours."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from twofold_router.placement.accounts import Account
from twofold_router.placement.homes import Homes
from twofold_router.placement.pools import Pool
from twofold_router.placement.prefix_sources import longest_held
from twofold_router.placement.waiting import Waiting


class Choose(Protocol):
    """Names the workers where *waiting* may wait, and the one where it does.

    *pool* has a worker that the request does not avoid.
    """

    def __call__(
        self, waiting: Waiting, pool: Pool, now: float
    ) -> tuple[Sequence[Account], Account]: ...


@dataclass(frozen=True, slots=True)
class PairChoice:
    """DualMap's: the longer cached prefix of the pair, unless that would take too long.

    arXiv 2602.06502, "SLO-aware request routing".
    """

    homes: Homes
    rng: random.Random
    theta_seconds: float
    """Pending work beyond which affinity gives way: what a worker prefills within the SLO (the
    paper), or half of it (its artifact)."""

    def __call__(
        self, waiting: Waiting, pool: Pool, now: float
    ) -> tuple[Sequence[Account], Account]:
        self.homes.find_key(waiting, pool)
        pair = self.homes.of(waiting, pool, 2)
        warmest = min(pair, key=lambda home: (home.uncached_tokens(waiting), *self._tie(home)))
        if warmest.ttft_seconds(waiting, now) <= self.theta_seconds:
            return pair, warmest
        quickest = min(pair, key=lambda home: (home.ttft_seconds(waiting, now), *self._tie(home)))
        return pair, quickest

    def _tie(self, home: Account) -> tuple[float, float]:
        return (home.worker.load.kv_used_fraction, self.rng.random())


HASH_COUNTS = (2, 8)
"""Homes that are asked: the pair, and more when the request would have to wait there."""

RECOMPUTING_WEIGHT = 3.0
"""What a second of computing a prefix again costs the others, in seconds (w in DESIGN)."""


@dataclass(frozen=True, slots=True)
class CostChoice:
    """The least ``wait + (1 + w) * uncached time`` (DESIGN, ``twofold``: "Choice"), of those homes
    where the request is on time if there are any. Where the answer is decoded there as well, the
    time of its tokens is added: a home that computes no prompt may have many answers to generate.

    Computing again costs the request its time and everybody else the capacity. Once it was measured
    how long it takes to fetch a prefix, what another of those asked holds counts for that time
    where it is less (DESIGN, "What nobody else has").

    Where the same beginning went last is asked beside the homes. Nobody else is, because a copy
    there would be one more, and each copy takes the place of something else (decision 010).
    """

    homes: Homes
    recomputing_weight: float = RECOMPUTING_WEIGHT
    hash_counts: Sequence[int] = HASH_COUNTS

    def __call__(
        self, waiting: Waiting, pool: Pool, now: float
    ) -> tuple[Sequence[Account], Account]:
        self.homes.find_key(waiting, pool)
        last = self.homes.last(waiting, pool)
        ranks: dict[Account, tuple[bool, float]] = {}
        for count in self.hash_counts:
            homes = self.homes.of(waiting, pool, count)
            if last is not None and last not in homes:
                homes = [*homes, last]
            if homes[0].statistics.pull_speed.seconds_per_token is not None:
                waiting.held_tokens = longest_held(homes, waiting.request.key)
                ranks.clear()  # what can be fetched is part of them
            for home in homes:
                if home not in ranks:
                    ranks[home] = self._rank(home, waiting, now)
            best = min(homes, key=ranks.__getitem__)
            if count >= len(pool) or not best.wait_seconds(now):
                break
        self.homes.take(waiting, best, pool)
        return homes, best

    def _rank(self, home: Account, waiting: Waiting, now: float) -> tuple[bool, float]:
        """Return whether the first token from *home* would be late, and the cost in seconds."""
        work_tokens = home.work_tokens(waiting, home.uncached_tokens_in_turn(waiting))
        computing = work_tokens * home.speed.seconds_per_token
        wait = home.wait_seconds(now)
        is_late = now + wait + computing > home.due_at(waiting, computing)
        answering = home.answer_seconds(waiting, now)
        return is_late, wait + (1 + self.recomputing_weight) * computing + answering
