"""How many pods of workers may be evicted at once, as by somebody who drains nodes."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twofold_cluster.identity import Role
from twofold_operator.planning.actions import ApplyObject, LookAgain
from twofold_operator.planning.disruptions import shortage_of
from twofold_operator.planning.memory import Shortage
from twofold_operator.planning.observed import Phase
from twofold_operator.planning.testing import World
from twofold_operator.planning.testing.evicting import is_ready

LIMIT = 1800
SPEC: dict[str, Any] = {
    "model": {"source": "hf://acme/small"},
    "prefill": {"replicas": 1},
    "decode": {"replicas": 3},
}


def serving(**spec: Any) -> World:
    world = World({**SPEC, **spec})
    world.settle()
    return world


def budget(world: World, role: str = "decode") -> int | None:
    """Return how many pods of *role* must stay."""
    found = world.objects.get(("PodDisruptionBudget", f"chat-{role}"))
    return None if found is None else found["spec"]["minAvailable"]


def pods(world: World, role: str = "decode") -> list[str]:
    return [name for kind, name in world.objects if kind == "Pod" and f"-{role}-" in name]


def step(world: World, seconds: float = 1.0) -> None:
    world.follow(world.plan())
    world.live(seconds)


def ready(world: World) -> int:
    return sum(w.role is Role.DECODE and w.phase is Phase.READY for w in world.workers)


def evict_one(world: World) -> None:
    """Have one pod go whose worker takes requests, and see that no other may follow."""
    taken = [w.node for w in world.workers if w.role is Role.DECODE and w.phase is Phase.READY]
    assert world.evict(taken[0])
    assert not any(map(world.evict, taken[1:]))


def steps(world: World, count: int) -> None:
    for _ in range(count):
        step(world)


def lacking_one() -> World:
    """Return a world that serves, but for one worker in whose stead none gets ready."""
    world = serving()
    evict_one(world)
    world.broken = {world.service["status"]["revision"]}
    return world


def crowded() -> World:
    """Return a world that serves, and has no room for the two workers that shall come."""
    world = serving()
    world.is_full = True
    world.scale("decode", 5)
    return world


@pytest.mark.parametrize(("replicas", "least"), [(1, 0), (2, 1), (5, 4)])
def test_of_a_whole_pool_one_pod_may_go(replicas: int, least: int) -> None:
    world = serving(decode={"replicas": replicas})

    assert budget(world) == least
    assert world.plan() == []


def test_the_next_one_goes_when_the_engine_of_the_one_before_serves_again() -> None:
    world = serving()
    before = set(pods(world))
    for _ in range(40):
        for name in pods(world):
            if name in before and "deletionTimestamp" not in world.objects["Pod", name]["metadata"]:
                world.evict(name)
        step(world)
        assert ready(world) >= 2

    world.settle()
    assert not before & set(pods(world))
    assert budget(world) == 2


def test_a_worker_that_still_finishes_in_a_pod_that_ends_is_missing_already() -> None:
    world = serving()

    evict_one(world)
    world.follow(world.plan())

    # The pod in its stead has Ray soon, and its worker serves no sooner for that.
    assert budget(world) == 3


def test_who_does_not_come_in_time_holds_nobody_up_any_more() -> None:
    world = lacking_one()
    steps(world, 6)
    assert budget(world) == 3
    (again,) = (a.after_seconds for a in world.plan() if isinstance(a, LookAgain))
    assert again <= LIMIT

    world.live(again)
    step(world)

    assert budget(world) == 2
    # Another that is lost is waited for as the first was.
    evict_one(world)
    steps(world, 6)
    assert budget(world) == 3


def test_pods_that_find_no_node_hold_nobody_up() -> None:
    world = crowded()
    steps(world, 6)
    assert budget(world) == 5
    step(world, LIMIT)
    step(world)

    assert budget(world) == 2
    assert [a for a in world.plan() if not isinstance(a, LookAgain)] == []
    evict_one(world)


def test_a_pod_in_which_ray_does_not_listen_may_always_go() -> None:
    world = crowded()
    steps(world, 6)
    working = {worker.node for worker in world.workers}
    waiting = [name for name in pods(world) if name not in working]

    assert len(waiting) == 2
    assert all(map(world.evict, waiting))
    assert not any(map(world.evict, set(pods(world)) & working))


def test_where_nobody_sees_who_is_missing_no_pod_is_given_up() -> None:
    world = crowded()
    for _ in range(3):
        step(world, LIMIT)
    assert budget(world) == 2
    world.unreachable = set(world.managers)
    step(world)

    assert budget(world) == 4


def test_a_pool_that_never_gets_ready_lets_its_pods_go_one_by_one() -> None:
    world = World(SPEC)
    world.follow(world.plan())
    world.broken = {n.split("-")[1] for k, n in world.objects if k == "RayCluster"}
    steps(world, 4)
    assert not world.evict(pods(world)[0])
    step(world, LIMIT)
    step(world)

    first, *others = pods(world)
    assert world.evict(first)
    assert not any(map(world.evict, others))


def test_nothing_is_written_again_while_nothing_changes() -> None:
    world = lacking_one()
    steps(world, 8)

    for _ in range(3):
        assert not [a for a in world.plan() if isinstance(a, ApplyObject)]
        step(world, 10.0)


def test_who_is_missing_is_no_news_for_kuberay() -> None:
    world = serving()
    evict_one(world)
    step(world)

    telling = {kind for (kind, _), made in world.objects.items() if "shortages" in str(made)}
    assert telling == {"ConfigMap"}


def test_who_waits_for_a_pool_to_be_scaled_up_takes_none_of_it() -> None:
    world = serving()
    world.scale("decode", 5)
    step(world)

    assert budget(world) == 5
    world.settle()
    assert budget(world) == 4


def test_of_a_pool_that_is_scaled_down_one_pod_may_go_at_a_time() -> None:
    world = serving(decode={"replicas": 4})
    world.scale("decode", 2)
    step(world)

    assert len(pods(world)) == 4
    assert budget(world) == 3
    for _ in range(6):
        world.follow(world.plan())
        staying = [n for n in pods(world) if is_ready(world.objects["Pod", n])]
        assert (budget(world) or 0) >= len(staying) - 1
        world.live()
    assert budget(world) == 1


def test_an_autoscalers_pool_has_a_budget_of_what_it_is_scaled_to() -> None:
    world = serving(decode={"minReplicas": 1, "maxReplicas": 6})
    assert budget(world) == 0
    world.scale("decode", 4)
    world.settle()

    assert budget(world) == 3


def test_a_pool_without_workers_has_no_budget() -> None:
    world = serving(prefill={"replicas": 0})
    assert budget(world, "prefill") is None

    world.scale("prefill", 2)
    world.settle()
    assert budget(world, "prefill") == 1
    world.scale("prefill", 0)
    world.settle()
    assert budget(world, "prefill") is None


@pytest.mark.parametrize("surge", [1, "100%"])
def test_a_rollout_is_drained_with_no_fewer_workers_than_before(surge: int | str) -> None:
    world = serving(rollout={"maxSurge": surge})
    world.change({**SPEC, "model": {"source": "hf://acme/other"}, "rollout": {"maxSurge": surge}})
    for _ in range(80):
        for name in pods(world):
            if "deletionTimestamp" not in world.objects["Pod", name]["metadata"]:
                world.evict(name)
        step(world)
        active = [w for w in world.workers if w.role is Role.DECODE and not w.standby]
        assert sum(w.phase is Phase.READY for w in active) >= 2

    world.settle()
    assert budget(world) == 2
    assert len(pods(world)) == 3


def test_a_revision_that_never_gets_ready_holds_what_serves_no_longer_than_it_may_take() -> None:
    world = serving()
    world.change({**SPEC, "model": {"source": "hf://acme/other"}})
    old = world.service["status"]["revision"]
    world.follow(world.plan())
    clusters = [name for kind, name in world.objects if kind == "RayCluster"]
    world.broken = {name.split("-")[1] for name in clusters} - {old}
    steps(world, 8)

    assert budget(world) == len(pods(world)) == 6
    step(world, LIMIT)
    step(world)

    assert budget(world) == 5
    evict_one(world)
    world.broken.add(old)
    steps(world, 6)
    (again,) = (a.after_seconds for a in world.plan() if isinstance(a, LookAgain))
    assert again <= LIMIT


def test_a_bad_spec_leaves_the_budgets_as_they_were() -> None:
    world = serving()
    world.change({**SPEC, "decode": {"replicas": "two"}})
    world.settle()

    assert budget(world) == 2


def test_while_a_manager_is_silent_no_second_pod_goes_before_the_first_is_replaced() -> None:
    world = serving()
    world.unreachable = set(world.managers)
    step(world)
    assert budget(world) == 2

    evict_one(world)
    step(world)

    assert budget(world) == 2


def test_what_is_missing_is_remembered_by_the_next_operator() -> None:
    world = serving()
    evict_one(world)
    step(world)
    world.unreachable = world.unasked = set(world.managers)
    step(world)
    assert budget(world) == 3

    world.live(LIMIT)
    step(world)
    assert budget(world) == 2


def test_pods_of_an_existing_ray_are_somebody_elses() -> None:
    world = serving(ray={"address": "ray.example:6379"})

    assert budget(world, "prefill") is budget(world) is None
    assert "shortages" not in str(world.objects["ConfigMap", "chat-revisions"]["data"])


def test_a_budget_goes_with_its_service() -> None:
    owners = serving().objects["PodDisruptionBudget", "chat-decode"]["metadata"]["ownerReferences"]

    assert [owner["kind"] for owner in owners] == ["LLMService"]


COUNTS = st.integers(0, 4)


@given(st.lists(st.tuples(COUNTS, COUNTS, st.integers(1, LIMIT)), min_size=1))
def test_nobody_is_waited_for_longer_than_the_limit(rounds: list[tuple[int, int, int]]) -> None:
    before, now, waits_since = None, 0, None
    for count, wanted, seconds in rounds:
        now += seconds
        before = shortage_of(before, count, wanted, now, LIMIT)
        waits = before is not None and before.since is not None
        assert not (waits and count >= wanted)
        waits_since = (now if waits_since is None else waits_since) if waits else None
        assert waits_since is None or now - waits_since < LIMIT


def test_what_was_enough_is_waited_for_anew_when_it_is_lost() -> None:
    given_up = shortage_of(Shortage(enough=4, since=0), 3, 4, LIMIT, LIMIT)
    assert given_up == Shortage(enough=3)

    lost = shortage_of(given_up, 2, 4, LIMIT + 9, LIMIT)
    assert lost == Shortage(enough=3, since=LIMIT + 9)
    assert shortage_of(lost, 3, 4, LIMIT + 60, LIMIT) == Shortage(enough=3)
    assert shortage_of(lost, 4, 4, LIMIT + 60, LIMIT) is None
