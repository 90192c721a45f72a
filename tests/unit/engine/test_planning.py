import dataclasses
from collections import Counter
from collections.abc import Iterator
from typing import Any

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
    StandBy,
    Start,
    plan,
    restart_delay_seconds,
)
from twofold_engine.pools.wanting import Build, EngineSpec, Pool

ENGINE = EngineSpec(model="m", served_name="m")
BUILD = Build(ENGINE)


def pool(role: Role, replicas: int, revision: str = "1", standby: bool = False) -> Pool:
    return Pool(role, revision, replicas, ENGINE, standby=standby)


def worker(
    name: str,
    phase: Phase = Phase.READY,
    revision: str = "1",
    *,
    restart_at: float = 0.0,
    standby: bool = False,
) -> Observed:
    role = Role(name.split("-")[0])
    worker_id = WorkerId(f"s-{name}")
    return Observed(worker_id, role, revision, phase, BUILD, standby, restart_at)


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


def test_a_worker_of_another_build_is_none_of_the_pool() -> None:
    other = Pool(Role.DECODE, "1", 1, dataclasses.replace(ENGINE, model="other"))

    assert plan([other], [worker("decode-0")], "s", now=0) == [
        Start(WorkerId("s-decode-1"), other),
        Drain(WorkerId("s-decode-0")),
    ]


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
    guest = Observed(WorkerId("s-prefill-0"), Role.DECODE, "1", Phase.READY, BUILD)

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


@pytest.mark.parametrize("other", [{"gpus": 2.0}, {"resources": (("slot", 1.0),)}])
def test_a_worker_of_another_build_is_not_reached_by_a_change_of_role(
    other: dict[str, Any],
) -> None:
    resources = other.get("resources", ())
    engine = dataclasses.replace(ENGINE, gpus=other.get("gpus", 0.0))
    wanted = [Pool(Role.DECODE, "1", 1, engine, resources=resources), pool(Role.PREFILL, 0)]
    there = worker("prefill-0")

    assert plan(wanted, [there], "s", now=0) == [
        Start(WorkerId("s-decode-0"), wanted[0]),
        Drain(there.worker_id),
    ]


def test_workers_stand_by_and_become_active_as_their_pool_says() -> None:
    there = [worker("prefill-0"), worker("decode-0", standby=True)]
    wanted = [pool(Role.PREFILL, 1, standby=True), pool(Role.DECODE, 1)]

    assert plan(wanted, there, "s", now=0) == [
        StandBy(there[0].worker_id, standby=True),
        StandBy(there[1].worker_id, standby=False),
    ]


def test_one_that_is_not_up_is_not_told_to_stand_by() -> None:
    there = worker("prefill-0", Phase.STARTING)

    assert plan([pool(Role.PREFILL, 1, standby=True)], [there], "s", now=0) == []


@pytest.mark.parametrize("wanted", [[], [pool(Role.PREFILL, 0), pool(Role.DECODE, 0)]])
def test_the_decode_workers_of_a_revision_that_leaves_wait_for_its_prefill_workers(
    wanted: list[Pool],
) -> None:
    prefill, decode = worker("prefill-0"), worker("decode-0")
    leaving = dataclasses.replace(prefill, phase=Phase.DRAINING)
    waiting = dataclasses.replace(decode, standby=True)

    assert plan(wanted, [prefill, decode], "s", now=0) == [
        Drain(prefill.worker_id),
        StandBy(decode.worker_id, standby=True),
    ]
    assert plan(wanted, [leaving, waiting], "s", now=0) == []
    assert plan(wanted, [waiting], "s", now=0) == [Drain(decode.worker_id)]


@pytest.mark.parametrize("phase", [Phase.PENDING, Phase.STARTING, Phase.DEAD])
def test_nobody_waits_for_a_prefill_worker_that_holds_no_blocks(phase: Phase) -> None:
    prefill, decode = worker("prefill-0", phase), worker("decode-0")

    assert plan([], [prefill, decode], "s", now=0) == [
        Remove(prefill.worker_id),
        Drain(decode.worker_id),
    ]


def test_a_decode_worker_too_many_leaves_at_once_when_another_one_stays() -> None:
    there = [worker("prefill-0"), worker("decode-0"), worker("decode-1")]
    wanted = [pool(Role.PREFILL, 0), pool(Role.DECODE, 1)]

    assert plan(wanted, there, "s", now=0) == [
        Drain(there[0].worker_id),
        Drain(there[2].worker_id),
    ]


def test_the_last_decode_worker_of_a_revision_that_keeps_prefill_workers_leaves() -> None:
    there = [worker("prefill-0"), worker("decode-0")]

    assert plan([pool(Role.PREFILL, 1)], there, "s", now=0) == [Drain(there[1].worker_id)]


@pytest.mark.parametrize(("failures", "seconds"), [(1, 1), (2, 2), (3, 4), (7, 60), (10**6, 60)])
def test_the_delay_doubles_up_to_a_bound(failures: int, seconds: float) -> None:
    assert restart_delay_seconds(failures) == seconds


roles = st.sampled_from([Role.PREFILL, Role.DECODE])
pools = st.lists(
    st.builds(pool, roles, st.integers(0, 4), st.sampled_from("12"), st.booleans()),
    unique_by=lambda p: (p.role, p.revision),
)
observations = st.dictionaries(
    st.tuples(roles, st.integers(0, 5)),
    st.tuples(roles, st.sampled_from("12"), st.sampled_from(Phase), st.booleans()),
).map(
    lambda there: [
        Observed(WorkerId(f"s-{name}-{index}"), role, revision, phase, BUILD, standby)
        for (name, index), (role, revision, phase, standby) in there.items()
    ]
)


@given(pools, observations)
def test_plans_that_are_carried_out_leave_nothing_to_plan(
    wanted: list[Pool], there: list[Observed]
) -> None:
    for _ in range(4):
        actions = plan(wanted, there, "s", now=1.0)
        assert max(Counter(action.worker_id for action in actions).values(), default=0) <= 1
        assert set(read_by_nobody(there, actions, wanted)) == set()
        there = carried_out(drains_ended(there), actions)

    settled = drains_ended(there)
    assert plan(wanted, settled, "s", now=1.0) == []
    for each in wanted:
        members = [o for o in settled if (o.role, o.revision) == (each.role, each.revision)]
        assert len(members) == each.replicas
        assert all(o.standby is each.standby for o in members if o.phase is Phase.READY)
    assert len(settled) == sum(each.replicas for each in wanted)


def read_by_nobody(
    there: list[Observed], actions: list[Action], wanted: list[Pool]
) -> Iterator[str]:
    """Yield the revisions whose last decode worker leaves before prefill workers that leave."""
    after = carried_out(there, actions)
    drained = {action.worker_id for action in actions if isinstance(action, Drain)}
    for revision in {o.revision for o in there if o.worker_id in drained}:
        decodes_left = any(
            o.role is Role.DECODE and o.worker_id in drained
            for o in there
            if o.revision == revision
        )
        up = [o for o in after if o.revision == revision and o.phase is Phase.READY]
        leaving = [
            o
            for o in there
            if (o.role, o.revision) == (Role.PREFILL, revision)
            and (o.worker_id in drained or o.phase is Phase.DRAINING)
        ]
        is_wanted = any(p.revision == revision and p.replicas for p in wanted)
        if decodes_left and leaving and not up and not is_wanted:
            yield revision


def drains_ended(there: list[Observed]) -> list[Observed]:
    return [o for o in there if o.phase is not Phase.DRAINING]


def carried_out(there: list[Observed], actions: list[Action]) -> list[Observed]:
    after = {o.worker_id: o for o in there}
    for action in actions:
        match action:
            case Start(name, into):
                after[name] = Observed(
                    name, into.role, into.revision, Phase.READY, BUILD, into.standby
                )
            case ChangeRole(name, into):
                after[name] = dataclasses.replace(after[name], role=into.role)
            case StandBy(name, standby):
                after[name] = dataclasses.replace(after[name], standby=standby)
            case Drain(name):
                after[name] = dataclasses.replace(after[name], phase=Phase.DRAINING)
            case Remove(name):
                del after[name]
    return list(after.values())
