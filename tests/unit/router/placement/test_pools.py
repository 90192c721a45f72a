"""Which workers can do what."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twofold_cluster.identity import Role
from twofold_cluster.worker import WorkerState
from twofold_router.placement.accounts import Account
from twofold_router.placement.pools import Pool, Pools
from twofold_router.placement.testing import make_account
from twofold_router.testing import MODEL


def ids(pool: Pool | None) -> set[str]:
    return set(pool.by_id) if pool else set()


def pools(*accounts: Account, disaggregate: bool = True) -> Pools:
    made = Pools(disaggregate=disaggregate)
    made.add(accounts)
    return made


P1, P2 = make_account("p1", Role.PREFILL), make_account("p2", Role.PREFILL)
D1, B1 = make_account("d1", Role.DECODE), make_account("b1", Role.BOTH)


def test_each_role_is_where_it_is_needed() -> None:
    made = pools(P1, D1, B1)

    assert ids(made.prefill(MODEL)) == {"p1", "b1"}
    assert ids(made.decode(MODEL)) == {"d1", "b1"}
    assert ids(made.partners(P1.worker, MODEL)) == {"d1", "b1"}
    assert made.prefill("another") is None


def test_with_the_phases_together_whoever_decodes_computes_prompts() -> None:
    made = pools(P1, D1, B1, disaggregate=False)

    assert ids(made.prefill(MODEL)) == {"d1", "b1"}


@pytest.mark.parametrize("other", [{"revision": "r2"}, {"compatibility": "c2"}, {"model": "m2"}])
def test_a_prefill_worker_without_a_partner_is_of_no_use(other: dict[str, Any]) -> None:
    made = pools(P1, make_account("d", Role.DECODE, **other))

    assert made.prefill(MODEL) is None
    assert made.partners(P1.worker, MODEL) is None


def test_a_partner_that_comes_makes_prefill_workers_useful_and_one_that_goes_makes_orphans() -> (
    None
):
    made = pools(P1, P2)
    assert made.add([D1]) == [P1, P2]
    assert made.remove([P1]) == []
    assert made.remove([D1]) == [P2]

    assert made.prefill(MODEL) is None
    assert made.remove([P2]) == []


def test_one_on_standby_is_a_partner_and_nothing_else() -> None:
    standby = make_account("d", Role.DECODE, state=WorkerState.STANDBY)
    waiting = make_account("p", Role.PREFILL, state=WorkerState.STANDBY)
    made = pools(P1, standby, waiting)

    assert ids(made.prefill(MODEL)) == {"p1"}
    assert ids(made.partners(P1.worker, MODEL)) == {"d"}
    assert made.decode(MODEL) is None


def test_an_adapter_is_served_where_both_phases_have_it() -> None:
    p, d = (
        make_account(name, role, adapters=("tuned",))
        for name, role in (("p", Role.PREFILL), ("d", Role.DECODE))
    )
    made = pools(P1, D1, p)
    alone = ids(made.prefill("tuned"))
    joined = made.add([d])
    together = ids(made.prefill("tuned"))
    orphans = made.remove([d])

    assert (alone, together) == (set(), {"p"})
    assert (joined, orphans) == ([p], [p])
    assert ids(made.prefill(MODEL)) == {"p1", "p"}
    assert made.statistics("tuned") is None
    assert made.statistics(MODEL) is D1.statistics


ACCOUNTS = [
    make_account(
        f"{role}-{revision}-{state}-{len(adapters)}",
        role,
        revision=revision,
        state=state,
        adapters=adapters,
    )
    for role in Role
    for revision in ("r1", "r2")
    for state in (WorkerState.READY, WorkerState.STANDBY)
    for adapters in ((), ("tuned",))
]


@given(st.lists(st.sampled_from(ACCOUNTS)), st.booleans())
def test_whatever_comes_and_goes_the_pools_are_those_of_who_is_there(
    steps: list[Account], disaggregate: bool
) -> None:
    made = Pools(disaggregate=disaggregate)
    known: dict[str, Account] = {}
    for account in steps:
        before = {name: ids(made.prefill(name)) for name in (MODEL, "tuned")}
        worker_id = account.worker.worker_id
        if known.pop(worker_id, None) is None:
            known[worker_id] = account
            told, has_joined = made.add([account]), True
        else:
            told, has_joined = made.remove([account]), False

        differs: set[str] = set()
        for name in (MODEL, "tuned"):
            able = [a.worker for a in known.values() if name in a.worker.names]
            ready = [worker for worker in able if worker.state is WorkerState.READY]
            decoding = {worker.worker_id for worker in ready if worker.role.decodes}
            revisions = {worker.revision for worker in able if worker.role.decodes}
            prefilling = {w.worker_id for w in ready if w.role.prefills and w.revision in revisions}
            assert ids(made.decode(name)) == decoding
            assert ids(made.prefill(name)) == (prefilling if disaggregate else decoding)
            for pool in (made.prefill(name), made.decode(name)):
                there = {a.worker.worker_id for a in pool.accounts} if pool else set()
                assert there == ids(pool)
                assert pool is None or len(pool.homes(b"key", 99)) == len(pool)
            after = ids(made.prefill(name))
            differs |= after - before[name] if has_joined else before[name] - after
        assert {each.worker.worker_id for each in told} == (
            differs if has_joined else differs - {worker_id}
        )
