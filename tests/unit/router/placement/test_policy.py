"""The policies at work, in virtual time."""

import heapq
import itertools
import random
from collections import Counter
from collections.abc import Iterable

import pytest

from twofold_cluster.identity import Role
from twofold_router.placement import (
    POLICIES,
    Decision,
    Dispatch,
    Outcome,
    PlacementRequest,
    PlacementSettings,
    PromptUsage,
    make_placement,
)
from twofold_router.placement.testing import make_key, make_request
from twofold_router.testing import make_worker

TOKENS = 512
"""Of every prompt."""


class Cluster:
    """Prefill workers that take their time, one prompt after the other, and cache nothing. The
    first token comes *transfer_seconds* after the prefill."""

    def __init__(
        self,
        policy: str,
        seconds_per_token: dict[str, float],
        slo_seconds: float,
        transfer_seconds: float = 0.0,
    ) -> None:
        settings = PlacementSettings(
            ttft_slo_seconds=slo_seconds, max_unprefilled_tokens=1, max_queued=10_000
        )
        self._speeds = seconds_per_token
        self._transfer_seconds = transfer_seconds
        self._place = make_placement(policy, settings)
        workers = [make_worker(name, Role.PREFILL, capacity=0) for name in seconds_per_token]
        self._place.workers_changed([*workers, make_worker("d", Role.DECODE, capacity=10**9)], 0.0)
        self._events: list[tuple[float, int, PlacementRequest | str]] = []
        self._serial = itertools.count()
        self._requests: dict[str, PlacementRequest] = {}
        self._decided_at: dict[str, float] = {}
        self.computed_at: Counter[str] = Counter()
        self.on_time: Counter[str] = Counter()
        """By tenant."""

    def run(self, requests: Iterable[PlacementRequest]) -> None:
        for request in requests:
            self._requests[request.request_id] = request
            self._add(request.arrived_at, request)
        while self._events:
            now, _, event = heapq.heappop(self._events)
            if isinstance(event, PlacementRequest):
                self._carry_out(self._place.submit(event, now), now)
                continue
            request = self._requests[event]
            assert request.ttft_slo_seconds is not None
            first_token_at = now + self._transfer_seconds
            if first_token_at <= request.arrived_at + request.ttft_slo_seconds:
                self.on_time[request.tenant] += 1
            self._carry_out(self._place.prefilled(event, PromptUsage(TOKENS, 0), now), now)
            ttft_seconds = first_token_at - self._decided_at[event]
            outcome = Outcome(output_tokens=1, ttft_seconds=ttft_seconds)
            self._carry_out(self._place.finished(event, outcome, now), now)

    def _carry_out(self, decisions: list[Decision], now: float) -> None:
        for decision in decisions:
            assert isinstance(decision, Dispatch)
            assert decision.prefill is not None
            worker_id = decision.prefill.worker_id
            self.computed_at[worker_id] += 1
            self._decided_at[decision.request_id] = decision.decided_at
            self._add(now + TOKENS * self._speeds[worker_id], decision.request_id)

    def _add(self, at: float, event: PlacementRequest | str) -> None:
        heapq.heappush(self._events, (at, next(self._serial), event))


def arrivals(
    tenant: str, rate: float, seconds: float, slo_seconds: float
) -> list[PlacementRequest]:
    rng = random.Random(tenant)
    made: list[PlacementRequest] = []
    now = 0.0
    while (now := now + rng.expovariate(rate)) < seconds:
        name = f"{tenant}-{len(made)}"
        made.append(
            make_request(
                name, key=make_key(name), tenant=tenant, arrived_at=now,
                ttft_slo_seconds=slo_seconds,
            )
        )  # fmt: skip
    return made


@pytest.mark.parametrize("policy", ["twofold", "min-ttft"])
def test_a_worker_twice_as_slow_gets_about_half_the_tokens(policy: str) -> None:
    speeds = {"p1": 0.0002, "p2": 0.0002, "slow": 0.0004}
    cluster = Cluster(policy, speeds, slo_seconds=5.0)
    # A little more than they can compute, so that none is idle.
    cluster.run(arrivals("", rate=25.0, seconds=120.0, slo_seconds=5.0))

    quick = (cluster.computed_at["p1"] + cluster.computed_at["p2"]) / 2
    assert cluster.computed_at["slow"] / quick == pytest.approx(0.5, abs=0.03)


def test_in_overload_a_tenant_with_ten_times_the_requests_leaves_the_other_on_time() -> None:
    cluster = Cluster("twofold", {"p1": 0.0002, "p2": 0.0002}, slo_seconds=2.0)
    # 19.5 requests a second can be computed; the small tenant asks for half of that.
    large = arrivals("large", rate=100.0, seconds=30.0, slo_seconds=2.0)
    small = arrivals("small", rate=10.0, seconds=30.0, slo_seconds=2.0)

    cluster.run(sorted(large + small, key=lambda request: request.arrived_at))

    # At its doors the small one is one of eleven; it is served as one of two.
    assert cluster.on_time["small"] >= 0.7 * len(small)
    assert cluster.on_time["large"] <= 1.5 * cluster.on_time["small"]
    assert cluster.on_time.total() >= 0.85 * 30 * 19.5


@pytest.mark.parametrize("policy", sorted(POLICIES))
def test_every_policy_serves_everybody(policy: str) -> None:
    cluster = Cluster(policy, {"p1": 0.0002, "p2": 0.0002}, slo_seconds=2.0)
    requests = arrivals("", rate=60.0, seconds=10.0, slo_seconds=2.0)

    cluster.run(requests)

    assert cluster.computed_at.total() == len(requests)


def test_in_overload_deadline_order_keeps_most_of_the_capacity_on_time() -> None:
    late = {}
    for policy in ("twofold", "min-ttft"):
        cluster = Cluster(policy, {"p1": 0.0002, "p2": 0.0002}, slo_seconds=2.0)
        cluster.run(arrivals("", rate=40.0, seconds=60.0, slo_seconds=2.0))
        late[policy] = cluster.on_time.total() / (60 * 19.5)

    assert late["twofold"] > 0.9
    assert late["min-ttft"] < 0.2


def test_in_overload_the_plan_leaves_time_for_what_comes_after_the_prefill() -> None:
    cluster = Cluster("twofold", {"p1": 0.0002, "p2": 0.0002}, 2.0, transfer_seconds=0.2)

    cluster.run(arrivals("", rate=40.0, seconds=60.0, slo_seconds=2.0))

    # Served on the verge of their deadlines, all would be late.
    assert cluster.on_time.total() / (60 * 19.5) > 0.9


def test_the_artifact_of_dual_map_has_one_prompt_at_a_worker() -> None:
    place = make_placement("dual-map-artifact", PlacementSettings(max_unprefilled_tokens=10**6))
    place.workers_changed([make_worker("p", Role.PREFILL), make_worker("d", Role.DECODE)], 0.0)

    assert [len(place.submit(make_request(name), 0.0)) for name in "abc"] == [1, 0, 0]
