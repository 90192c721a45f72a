import pytest
from tests.unit.engine.prefixes.workers import D0, P0, a_worker

from twofold_cluster.identity import Incarnation, WorkerId
from twofold_cluster.worker import Worker
from twofold_engine.chains import Chain
from twofold_engine.prefixes.finding import by_revision, found
from twofold_kvtransfer.directory import Holding

CHAIN = Chain(token_count=70, block_tokens=16, blocks=("0a", "0b", "0c", "0d"))


def held(worker_id: WorkerId, incarnation: str = "1", block_count: int = 4) -> Holding:
    return Holding(worker_id, Incarnation(incarnation), "GPU", block_count, degraded=False)


def test_a_share_is_in_tokens_of_full_blocks() -> None:
    what = found(CHAIN, [held(P0), held(D0, block_count=1)], {n: a_worker(n) for n in (P0, D0)}, ())

    assert [(share.worker, share.token_count) for share in what.shares] == [(P0, 64), (D0, 16)]
    assert (what.token_count, what.silent) == (70, ())


@pytest.mark.parametrize("holding", [held(D0), held(P0, "0"), held(P0, "2")])
def test_who_is_not_announced_in_this_incarnation_is_not_shown(holding: Holding) -> None:
    assert found(CHAIN, [holding], {P0: a_worker(P0)}, (P0,)).shares == ()


def test_who_is_not_listed_may_hold_anything() -> None:
    workers: dict[str, Worker] = {P0: a_worker(P0), D0: a_worker(D0)}

    assert found(CHAIN, [], workers, (P0,)).silent == (D0,)
    assert found(CHAIN, [], workers, (P0, D0)).silent == ()


def test_workers_are_asked_by_their_revisions() -> None:
    first, second = a_worker(D0), a_worker(WorkerId("x-0"))
    between = a_worker(P0, revision="2")

    assert by_revision([second, between, first]) == [[first, second], [between]]


def test_a_share_is_of_the_revision_that_was_asked_for() -> None:
    worker = a_worker(D0, revision="2")

    what = found(CHAIN, [held(P0), held(D0)], {D0: worker}, (P0, D0))

    assert what.revision == "2"
    assert [share.worker for share in what.shares] == [D0]
