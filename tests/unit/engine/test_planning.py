from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twofold_cluster.identity import Role, WorkerId
from twofold_engine.pools.planning import (
    Action,
    ChangeRole,
    Drain,
    Observed,
    Phase,
    Remove,
    Start,
    plan,
    restart_delay_seconds,
)
from twofold_engine.pools.wanting import EngineSpec, Pool

ENGINE = EngineSpec(model="m", served_name="m")


def pool(role: Role, replicas: int, revision: str = "1") -> Pool:
    return Pool(role, revision, replicas, ENGINE)


def worker(
    name: str, phase: Phase = Phase.READY, revision: str = "1", restart_at: float = 0.0
) -> Observed:
    role = Role(name.split("-")[0])
    return Observed(WorkerId(f"s-{name}"), role, revision, phase, restart_at)


def test_nothing_is_done_when_what_is_there_is_what_is_wanted() -> None:
    wanted = [pool(Role.PREFILL, 1), pool(Role.DECODE, 1)]

    assert plan(wanted, [worker("prefill-0"), worker("decode-0")], "s", now=0) == []


def test_missing_workers_start_under_names_that_are_free() -> None:
    wanted = [pool(Role.PREFILL, 3)]

    actions = plan(wanted, [worker("prefill-1")], "s", now=0)

    assert actions == [
        Start(WorkerId("s-prefill-0"), wanted[0]),
        Start(WorkerId("s-prefill-2"), wanted[0]),
    ]


def test_a_dead_worker_starts_again_when_its_delay_is_over_and_not_before() -> None:
    wanted = [pool(Role.DECODE, 1)]
    dead = worker("decode-0", Phase.DEAD, restart_at=10.0)

    assert plan(wanted, [dead], "s", now=9.9) == []
    assert plan(wanted, [dead], "s", now=10.0) == [Start(dead.worker_id, wanted[0])]


def test_a_worker_too_many_drains_and_one_that_serves_nothing_goes_first() -> None:
    there = [worker("prefill-0"), worker("prefill-1"), worker("prefill-2", Phase.STARTING)]

    assert plan([pool(Role.PREFILL, 2)], there, "s", now=0) == [Remove(there[2].worker_id)]
    assert plan([pool(Role.PREFILL, 1)], there, "s", now=0) == [
        Drain(there[1].worker_id),
        Remove(there[2].worker_id),
    ]


def test_a_ready_worker_too_many_changes_its_role_instead_of_loading_again() -> None:
    wanted = [pool(Role.PREFILL, 1), pool(Role.DECODE, 2)]
    there = [worker("prefill-0"), worker("prefill-1"), worker("decode-0")]

    assert plan(wanted, there, "s", now=0) == [ChangeRole(there[1].worker_id, wanted[1])]


def test_a_worker_that_came_from_another_role_goes_back_first() -> None:
    wanted = [pool(Role.PREFILL, 1), pool(Role.DECODE, 1)]
    guest = Observed(WorkerId("s-prefill-0"), Role.DECODE, "1", Phase.READY)

    actions = plan(wanted, [guest, worker("decode-0")], "s", now=0)

    assert actions == [ChangeRole(guest.worker_id, wanted[0])]


def test_another_revision_is_never_reached_by_a_change_of_role() -> None:
    wanted = [pool(Role.DECODE, 1, revision="2")]
    old = worker("prefill-0", revision="1")

    assert plan(wanted, [old], "s", now=0) == [
        Start(WorkerId("s-decode-0"), wanted[0]),
        Drain(old.worker_id),
    ]


def test_a_draining_worker_is_left_alone_and_does_not_count() -> None:
    wanted = [pool(Role.PREFILL, 1)]

    actions = plan(wanted, [worker("prefill-0", Phase.DRAINING)], "s", now=0)

    assert actions == [Start(WorkerId("s-prefill-1"), wanted[0])]


@pytest.mark.parametrize(("failures", "seconds"), [(1, 1), (2, 2), (3, 4), (7, 60), (10**6, 60)])
def test_the_delay_doubles_up_to_a_bound(failures: int, seconds: float) -> None:
    assert restart_delay_seconds(failures) == seconds


roles = st.sampled_from([Role.PREFILL, Role.DECODE])
pools = st.lists(
    st.builds(pool, roles, st.integers(0, 4), st.sampled_from("12")),
    unique_by=lambda p: (p.role, p.revision),
)
observations = st.dictionaries(
    st.tuples(roles, st.integers(0, 5)),
    st.tuples(roles, st.sampled_from("12"), st.sampled_from(Phase)),
).map(
    lambda there: [
        Observed(WorkerId(f"s-{name}-{index}"), role, revision, phase)
        for (name, index), (role, revision, phase) in there.items()
    ]
)


@given(pools, observations)
def test_a_plan_that_is_carried_out_leaves_nothing_to_plan(
    wanted: list[Pool], there: list[Observed]
) -> None:
    actions = plan(wanted, there, "s", now=1.0)

    assert max(Counter(action.worker_id for action in actions).values(), default=0) <= 1
    settled = carried_out(there, actions)
    assert plan(wanted, settled, "s", now=1.0) == []
    for each in wanted:
        members = [
            o
            for o in settled
            if (o.role, o.revision) == (each.role, each.revision) and o.phase is not Phase.DRAINING
        ]
        assert len(members) == each.replicas


def carried_out(there: list[Observed], actions: list[Action]) -> list[Observed]:
    after = {o.worker_id: o for o in there}
    for action in actions:
        match action:
            case Start(worker_id, into) | ChangeRole(worker_id, into):
                after[worker_id] = Observed(worker_id, into.role, into.revision, Phase.READY)
            case Drain(worker_id) | Remove(worker_id):
                del after[worker_id]
    return list(after.values())
