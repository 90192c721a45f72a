import msgspec

from twofold_cluster.identity import Incarnation, Role, WorkerId
from twofold_cluster.worker import Engine, Worker, WorkerState
from twofold_decode_worker.pairing import (
    MAX_AT_ONCE,
    MAX_RETRY_SECONDS,
    RETRY_SECONDS,
    Pairs,
)


def a_worker(name: str, role: Role, **fields: object) -> Worker:
    worker = Worker(
        worker_id=WorkerId(name),
        incarnation=Incarnation(f"{name}-1"),
        service="s",
        role=role,
        revision="1",
        address="http://127.0.0.1:1",
        model="m",
        engine=Engine(version="0.32.0", compatibility="abc"),
        kv_capacity_tokens=1024,
        kv_block_tokens=128,
        max_model_tokens=1024,
    )
    return msgspec.structs.replace(worker, **fields)


OWN = a_worker("own", Role.DECODE)
PEER = a_worker("peer", Role.PREFILL)


def fail(pairs: Pairs, peer: Worker, now: float) -> None:
    pairs.began(peer)
    pairs.failed(peer, now)


def test_a_new_prefill_worker_is_cold_until_a_request_went_through() -> None:
    pairs = Pairs()
    assert pairs.cold([OWN, PEER], OWN, now=0) == [PEER]

    pairs.began(PEER)
    pairs.succeeded(PEER)

    assert pairs.cold([OWN, PEER], OWN, now=0) == []


def test_a_pair_that_is_under_way_is_not_begun_again_and_keeps_no_other_waiting() -> None:
    pairs = Pairs()
    other = a_worker("other", Role.PREFILL)

    pairs.began(PEER)

    assert pairs.cold([PEER, other], OWN, now=1000.0) == [other]


def test_a_failed_pair_is_tried_again_after_a_pause() -> None:
    pairs = Pairs()

    fail(pairs, PEER, now=10.0)

    assert pairs.cold([PEER], OWN, now=10.0 + RETRY_SECONDS / 2) == []
    assert pairs.cold([PEER], OWN, now=10.0 + RETRY_SECONDS) == [PEER]


def test_a_pair_that_fails_again_and_again_is_tried_less_often_with_a_limit() -> None:
    pairs = Pairs()

    fail(pairs, PEER, now=0.0)
    fail(pairs, PEER, now=0.0)
    assert pairs.cold([PEER], OWN, now=RETRY_SECONDS) == []
    for _ in range(2000):
        fail(pairs, PEER, now=0.0)

    assert pairs.cold([PEER], OWN, now=MAX_RETRY_SECONDS) == [PEER]


def test_so_many_are_tried_at_once_first_those_that_have_not_failed() -> None:
    pairs = Pairs()
    fail(pairs, PEER, now=0.0)
    others = [a_worker(f"other-{n}", Role.PREFILL) for n in range(MAX_AT_ONCE)]

    assert pairs.cold([PEER, *others], OWN, now=1000.0) == others
    pairs.began(others[0])
    assert pairs.cold([PEER, *others], OWN, now=1000.0) == others[1:]


def test_a_new_incarnation_is_another_pair() -> None:
    pairs = Pairs()
    pairs.began(PEER)
    pairs.succeeded(PEER)

    again = msgspec.structs.replace(PEER, incarnation=Incarnation("peer-2"))

    assert pairs.cold([again], OWN, now=0) == [again]


def test_only_what_can_pair_is_tried() -> None:
    others = [
        a_worker("decodes", Role.DECODE),
        a_worker("old", Role.PREFILL, revision="0"),
        a_worker("other", Role.PREFILL, engine=Engine(version="0.31.0", compatibility="xyz")),
        a_worker("leaving", Role.PREFILL, state=WorkerState.DRAINING),
        OWN,
    ]

    assert Pairs().cold(others, OWN, now=0) == []
