"""The policies of the simulator by their names."""

import random
from collections.abc import Mapping

from twofold_router.placement import POLICIES
from twofold_router.placement.fairness import Shares
from twofold_router.placement.interface import PlacementSettings
from twofold_router.placement.moves import Stay
from twofold_router.placement.orders import ByArrival
from twofold_router.placement.policy import MakePolicy, Policy
from twofold_sim.policies import ablations, aibrix, preble, sglang


def _preble(settings: PlacementSettings, shares: Shares, rng: random.Random) -> Policy:
    return Policy(preble.exploit_or_explore(), preble.ByHitGroup, Stay())


def _preble_pending(settings: PlacementSettings, shares: Shares, rng: random.Random) -> Policy:
    return Policy(preble.exploit_or_explore(counts_pending=True), preble.ByHitGroup, Stay())


def _aibrix(settings: PlacementSettings, shares: Shares, rng: random.Random) -> Policy:
    return Policy(aibrix.prefix_cache(rng), ByArrival, Stay())


def _sglang(settings: PlacementSettings, shares: Shares, rng: random.Random) -> Policy:
    return Policy(sglang.cache_aware(), ByArrival, Stay())


SIM_POLICIES: Mapping[str, MakePolicy] = {
    **POLICIES,
    "preble": _preble,
    "preble-pending": _preble_pending,
    "aibrix-prefix-cache": _aibrix,
    "sglang-cache-aware": _sglang,
}
"""The router's own, and those of other routers, by the name that ``--policy`` takes."""

ABLATIONS: Mapping[str, MakePolicy] = {
    "twofold-pair-only": ablations.pair_only,
    "twofold-without-cost": ablations.without_cost,
    "twofold-papers-choice": ablations.papers_choice,
    "twofold-by-arrival": ablations.by_arrival,
    "twofold-without-moves": ablations.without_moves,
    "twofold-fixed-key": ablations.fixed_key,
}
"""``twofold`` with one part switched off, and one with the paper's choice, which is several."""
