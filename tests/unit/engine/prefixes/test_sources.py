import pytest
from tests.unit.engine.prefixes.workers import D0, P0, a_worker

from twofold_cluster.identity import Role, WorkerId
from twofold_cluster.worker import Engine, Load, Worker
from twofold_engine.prefixes.errors import CannotPullError
from twofold_engine.prefixes.finding import Found, Share
from twofold_engine.prefixes.sources import (
    PATIENCE,
    UNMEASURED_SECONDS_PER_TOKEN,
    check_pair,
    check_pulls,
    choose_source,
    held_by,
    seconds_per_token,
    wanted_tokens,
    worker_named,
)

P1 = WorkerId("p-1")


def shown(*shares: Share) -> Found:
    return Found("1", 70, 16, shares, ())


def share(worker_id: WorkerId, token_count: int, tier: str = "GPU") -> Share:
    return Share(worker_id, Role.PREFILL, tier, token_count, degraded=False)


def test_a_worker_that_nobody_knows_is_refused_with_the_names_of_the_others() -> None:
    workers = {P0: a_worker(P0), D0: a_worker(D0)}

    assert worker_named("p-0", workers) is workers[P0]
    with pytest.raises(CannotPullError, match="no worker x-0 is ready; there are: d-0, p-0"):
        worker_named("x-0", workers)


def test_only_engines_that_show_their_cache_give_and_take() -> None:
    other, worker = a_worker(D0), a_worker(P0, kv_side_channel="")

    why = "p-0 has another connector than twofold"
    with pytest.raises(CannotPullError, match=why):
        check_pulls(worker)
    with pytest.raises(CannotPullError, match=why):
        check_pair(worker, other)
    with pytest.raises(CannotPullError, match=why):
        check_pair(other, worker)
    check_pair(other, a_worker(P0))


@pytest.mark.parametrize(
    ("there", "here", "goes"), [(1, 2, True), (2, 2, True), (2, 4, True), (2, 1, False)]
)
def test_a_worker_takes_prefixes_from_engines_of_as_many_ranks_or_of_a_part_of_them(
    there: int, here: int, goes: bool
) -> None:
    source = a_worker(P0, engine=Engine("v", "c", tensor_parallel=there))
    target = a_worker(D0, engine=Engine("v", "c", tensor_parallel=here))
    found = shown(share(P0, 32))

    if goes:
        check_pair(source, target)
        assert choose_source(found, target, {P0: source}) == (source, 32)
        return
    why = f"p-0 has an engine of {there} ranks, d-0 of {here}, which is no multiple"
    with pytest.raises(CannotPullError, match=why):
        check_pair(source, target)
    with pytest.raises(CannotPullError, match="no worker that d-0 can pull from"):
        choose_source(found, target, {P0: source})


@pytest.mark.parametrize(
    ("source", "why"),
    [
        (a_worker(P0, revision="2"), "p-0 is of revision 2, d-0 of 1"),
        (a_worker(P0, engine=Engine("v", "other")), "p-0 and d-0 do not go together"),
    ],
)
def test_a_worker_of_another_kind_is_no_source(source: Worker, why: str) -> None:
    with pytest.raises(CannotPullError, match=why):
        check_pair(source, a_worker(D0))


def test_a_worker_is_not_its_own_source() -> None:
    with pytest.raises(CannotPullError, match="d-0 cannot pull out of its own cache"):
        check_pair(a_worker(D0), a_worker(D0))


def test_the_source_is_who_holds_most_of_those_that_can_give_it() -> None:
    target, other, silent = a_worker(D0), a_worker(P0), a_worker(P1, kv_side_channel="")
    workers = {worker.worker_id: worker for worker in (target, other, silent)}
    found = shown(share(D0, 64), share(P1, 64), share(P0, 48, "CPU"), share(P0, 32))

    assert choose_source(found, target, workers) == (other, 32)


@pytest.mark.parametrize(
    "found", [shown(), shown(share(D0, 64), share(P0, 64, "CPU"), share(P1, 64))]
)
def test_nobody_else_holds_it(found: Found) -> None:
    target = a_worker(D0)
    workers = {D0: target, P0: a_worker(P0)}

    with pytest.raises(CannotPullError, match="hold the first 16 of the prompt's 70 tokens"):
        choose_source(found, target, workers)


def test_a_source_is_asked_for_what_it_is_known_to_hold_and_otherwise_for_all() -> None:
    found = shown(share(P1, 64), share(P0, 48, "CPU"), share(P0, 32))

    assert held_by(a_worker(P0), found) == 32
    assert held_by(a_worker(D0), found) == 70


def test_a_pull_may_take_longer_than_computing_has_taken() -> None:
    measured = a_worker(D0, load=Load(seconds_per_prefill_token=0.5))

    assert seconds_per_token(measured) == 0.5 * PATIENCE
    assert seconds_per_token(a_worker(D0)) == UNMEASURED_SECONDS_PER_TOKEN * PATIENCE


@pytest.mark.parametrize(("held", "wanted"), [(16, 16), (40, 32), (48, 48), (64, 48), (900, 48)])
def test_what_is_wanted_is_full_blocks_and_never_the_last_token(held: int, wanted: int) -> None:
    assert wanted_tokens(Found("1", 64, 16, (), ()), held) == wanted


@pytest.mark.parametrize(("prompt", "held"), [(16, 16), (70, 15)])
def test_what_fills_no_block_cannot_be_pulled(prompt: int, held: int) -> None:
    with pytest.raises(CannotPullError, match=f"nothing of a prompt of {prompt} tokens"):
        wanted_tokens(Found("1", prompt, 16, (), ()), held)
