"""The policies by name: who may serve, who does, in which order, and who moves."""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from twofold_router.placement import baselines
from twofold_router.placement.choice import Choose, CostChoice, PairChoice
from twofold_router.placement.deadline_order import ByDeadline
from twofold_router.placement.fairness import Shares
from twofold_router.placement.homes import Homes
from twofold_router.placement.interface import PlacementSettings
from twofold_router.placement.moves import BatchRebalance, CostRebalance, Rebalance, Stay
from twofold_router.placement.orders import ByArrival, ByCachedPrefix, Order


@dataclass(frozen=True, slots=True)
class Policy:
    """What makes one policy another one."""

    choose: Choose
    make_queue: Callable[[], Order]
    rebalance: Rebalance
    max_unprefilled: int | None = None
    """Requests dispatched to a worker and not prefilled, beside the settings' bound in tokens."""


MakePolicy = Callable[[PlacementSettings, Shares, random.Random], Policy]


def twofold(settings: PlacementSettings, shares: Shares, rng: random.Random) -> Policy:
    """DESIGN, ``twofold``."""

    def make_queue() -> Order:
        return ByDeadline(
            shares.doublings_over, settings.overtaking_share, settings.overtaken_seconds
        )

    return Policy(CostChoice(Homes()), make_queue, CostRebalance())


def dual_map(settings: PlacementSettings, shares: Shares, rng: random.Random) -> Policy:
    """DualMap, arXiv 2602.06502, to the letter, but for ``moves.BATCH_COUNT`` and the points on
    the ring (decision 008)."""
    slo_seconds = settings.ttft_slo_seconds
    choose = PairChoice(Homes(), rng, theta_seconds=slo_seconds)
    return Policy(choose, ByCachedPrefix, BatchRebalance(slo_seconds, slo_seconds))


def dual_map_artifact(settings: PlacementSettings, shares: Shares, rng: random.Random) -> Policy:
    """DualMap as its published artifact has it: half of theta, one request at a time."""
    slo_seconds = settings.ttft_slo_seconds
    choose = PairChoice(Homes(), rng, theta_seconds=slo_seconds / 2)
    rebalance = BatchRebalance(slo_seconds / 2, slo_seconds)
    return Policy(choose, ByCachedPrefix, rebalance, max_unprefilled=1)


def _by_arrival(choose: Callable[[random.Random], Choose]) -> MakePolicy:
    def make(settings: PlacementSettings, shares: Shares, rng: random.Random) -> Policy:
        return Policy(choose(rng), ByArrival, Stay())

    return make


POLICIES: Mapping[str, MakePolicy] = {
    "twofold": twofold,
    "dual-map": dual_map,
    "dual-map-artifact": dual_map_artifact,
    "round-robin": _by_arrival(lambda _: baselines.round_robin()),
    "least-loaded": _by_arrival(lambda _: baselines.least_loaded()),
    "two-random": _by_arrival(baselines.two_random),
    "one-ring": _by_arrival(lambda _: baselines.one_ring(Homes())),
    "min-ttft": _by_arrival(lambda _: baselines.min_ttft()),
}
"""By the name that ``--policy`` takes."""
