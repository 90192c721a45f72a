import msgspec

from twofold_cluster.identity import Incarnation, Role, WorkerId
from twofold_cluster.worker import Engine, Worker, WorkerState
from twofold_decode_worker.pairing import RETRY_SECONDS, Pairs


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


def test_a_new_prefill_worker_is_cold_until_a_request_went_through() -> None:
    pairs = Pairs()
    assert pairs.cold([OWN, PEER], OWN, now=0) == [PEER]

    pairs.succeeded(PEER)

    assert pairs.cold([OWN, PEER], OWN, now=0) == []


def test_a_failed_pair_is_tried_again_after_a_pause() -> None:
    pairs = Pairs()

    pairs.failed(PEER, now=10.0)

    assert pairs.cold([PEER], OWN, now=10.0 + RETRY_SECONDS / 2) == []
    assert pairs.cold([PEER], OWN, now=10.0 + RETRY_SECONDS) == [PEER]


def test_a_new_incarnation_is_another_pair() -> None:
    pairs = Pairs()
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
