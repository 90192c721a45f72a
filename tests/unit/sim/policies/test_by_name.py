"""All policies in the router's own state machine."""

import random
from collections.abc import Sequence

import pytest

from twofold_cluster.identity import Role
from twofold_router.placement import (
    POLICIES,
    Decision,
    Dispatch,
    Outcome,
    PlacementSettings,
    Placer,
    PromptUsage,
)
from twofold_router.placement.choice import CostChoice
from twofold_router.placement.fairness import Shares
from twofold_router.placement.testing import make_key, make_request
from twofold_router.testing import make_worker
from twofold_sim.policies import ABLATIONS, SIM_POLICIES

EVERY = {**SIM_POLICIES, **ABLATIONS}


def test_the_routers_own_are_among_them() -> None:
    assert SIM_POLICIES.items() >= POLICIES.items()
    assert not SIM_POLICIES.keys() & ABLATIONS.keys()


@pytest.mark.parametrize("name", EVERY)
def test_each_request_is_served_once_whatever_joins_and_leaves(name: str) -> None:
    """Requests that share prefixes, more than the workers can take at once, and a worker that
    leaves, comes back and leaves for good."""
    rng = random.Random(7)
    placer = Placer(EVERY[name], PlacementSettings(max_queued=10_000))
    workers = [make_worker(f"p{number}", Role.PREFILL, capacity=20_000) for number in range(4)]
    placer.workers_changed([*workers, make_worker("d", Role.DECODE, capacity=10**9)], 0.0)
    running: list[Dispatch] = []
    dispatched: set[str] = set()

    def take(decisions: Sequence[Decision]) -> None:
        for decision in decisions:
            assert isinstance(decision, Dispatch)
            assert decision.request_id not in dispatched
            dispatched.add(decision.request_id)
            running.append(decision)

    def end(now: float) -> None:
        ended = running.pop(0)
        take(placer.prefilled(ended.request_id, PromptUsage(2048, 512), now))
        take(placer.finished(ended.request_id, Outcome(output_tokens=5), now))

    for number in range(300):
        now = number * 0.05
        blocks = [rng.randrange(5), *(f"{number} {n}" for n in range(rng.randrange(8)))]
        take(placer.submit(make_request(str(number), key=make_key(*blocks), arrived_at=now), now))
        if number == 100 or number == 200:
            take(placer.workers_gone([workers[0].worker_id], now))
        if number == 150:
            take(placer.workers_changed([workers[0]], now))
        if running and rng.random() < 0.7:
            end(now)
    now = 15.0
    while running:
        now += 0.1
        end(now)

    assert len(dispatched) == 300
    snapshot = placer.snapshot()
    assert (snapshot.queued, snapshot.in_flight) == (0, 0)


def test_an_ablation_differs_from_twofold_in_one_part() -> None:
    def parts(name: str) -> dict[str, str]:
        policy = EVERY[name](PlacementSettings(), Shares(), random.Random(1))
        choose = policy.choose
        candidates: object = None
        if isinstance(choose, CostChoice):
            candidates = (choose.hash_counts, choose.homes._key_blocks)
        return {
            "choose": f"{type(choose).__name__} {candidates}",
            "order": type(policy.make_queue()).__name__,
            "moves": type(policy.rebalance).__name__,
        }

    whole = parts("twofold")
    changed = {
        name: {part for part, what in parts(name).items() if what != whole[part]}
        for name in ABLATIONS
    }

    assert changed["twofold-by-arrival"] == {"order"}
    assert changed["twofold-without-moves"] == {"moves"}
    for name in (
        "twofold-pair-only",
        "twofold-without-cost",
        "twofold-papers-choice",
        "twofold-fixed-key",
    ):
        assert changed[name] == {"choose"}
