"""Which workers can do what."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twofold_cluster.identity import Role
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
    assert ids(made.partners(P1.worker)) == {"d1", "b1"}
    assert made.prefill("another") is None


def test_with_the_phases_together_whoever_decodes_computes_prompts() -> None:
    made = pools(P1, D1, B1, disaggregate=False)

    assert ids(made.prefill(MODEL)) == {"d1", "b1"}


@pytest.mark.parametrize("other", [{"revision": "r2"}, {"compatibility": "c2"}, {"model": "m2"}])
def test_a_prefill_worker_without_a_partner_is_of_no_use(other: dict[str, Any]) -> None:
    made = pools(P1, make_account("d", Role.DECODE, **other))

    assert made.prefill(MODEL) is None
    assert made.partners(P1.worker) is None


def test_a_partner_that_comes_makes_prefill_workers_useful_and_one_that_goes_makes_orphans() -> (
    None
):
    made = pools(P1, P2)
    assert made.add([D1]) == [P1, P2]
    assert made.remove([P1]) == []
    assert made.remove([D1]) == [P2]

    assert made.prefill(MODEL) is None
    assert made.remove([P2]) == []


ACCOUNTS = [
    make_account(f"{role}-{revision}-{number}", role, revision=revision)
    for role in Role
    for revision in ("r1", "r2")
    for number in range(2)
]


@given(st.lists(st.sampled_from(ACCOUNTS)), st.booleans())
def test_whatever_comes_and_goes_the_pools_are_those_of_who_is_there(
    steps: list[Account], disaggregate: bool
) -> None:
    made = Pools(disaggregate=disaggregate)
    ready: dict[str, Account] = {}
    useful: set[str] = set()
    for account in steps:
        name = account.worker.worker_id
        if ready.pop(name, None) is None:
            ready[name] = account
            useful |= {each.worker.worker_id for each in made.add([account])}
        else:
            useful -= {each.worker.worker_id for each in made.remove([account])} | {name}

        workers = [each.worker for each in ready.values()]
        decoding = {worker.worker_id for worker in workers if worker.role.decodes}
        revisions = {worker.revision for worker in workers if worker.role.decodes}
        prefilling = {w.worker_id for w in workers if w.role.prefills and w.revision in revisions}
        assert ids(made.decode(MODEL)) == decoding
        assert ids(made.prefill(MODEL)) == useful == (prefilling if disaggregate else decoding)
        for pool in (made.prefill(MODEL), made.decode(MODEL)):
            assert pool is None or {a.worker.worker_id for a in pool.accounts} == set(pool.by_id)
            assert pool is None or len(pool.homes(b"key", 99)) == len(pool)
