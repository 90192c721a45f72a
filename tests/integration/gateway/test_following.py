"""A decode worker takes the blocks of a long prompt while leg 1 runs."""

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from twofold_cluster.legs import FOLLOW_LIMIT_SECONDS, FOLLOWS_HEADER
from twofold_cluster.worker import Engine
from twofold_router.gateway import following
from twofold_router.testing import FakeEngine

if TYPE_CHECKING:
    from tests.integration.gateway.conftest import Cluster, OpenCluster

LONG = "word " * 4000
FOLLOWED = {"follow_tokens": 1000}


def announce(cluster: "Cluster", name: str, **changes: Any) -> None:
    """Have engine *name* announce a side channel, and *changes*."""
    engine = cluster[name]
    told = {"kv_side_channel": f"{name}.example:5600"} | changes
    engine.worker = msgspec.structs.replace(engine.worker, **told)
    cluster.follow(*cluster.engines)


def held_up(cluster: "Cluster") -> tuple[FakeEngine, FakeEngine]:
    """Return both workers, which announce side channels; the first computes until it is let."""
    for name in cluster.engines:
        announce(cluster, name)
    prefill, decode = cluster["p1"], cluster["d1"]
    prefill.behaviour.gate.clear()
    return prefill, decode


def ask(cluster: "Cluster", prompt: str = LONG) -> "asyncio.Task[Any]":
    return asyncio.create_task(cluster.ask(messages=[{"role": "user", "content": prompt}]))


def legs(engine: FakeEngine) -> list[bool]:
    """Return of each request that *engine* got whether it only follows."""
    return [received.follows for received in engine.received]


async def test_a_long_prompt_is_followed_until_it_is_computed(open_cluster: "OpenCluster") -> None:
    async with open_cluster("p1 d1", **FOLLOWED) as cluster:
        prefill, decode = held_up(cluster)
        asking = ask(cluster)
        await cluster.eventually(lambda: prefill.running and decode.running)
        asked = decode.received[0]
        prefill.behaviour.gate.set()
        seen = await asking

        assert legs(decode) == [True, False]
        assert asked.params == {
            "prefix_source": {
                "engine_id": prefill.worker.engine_id,
                "host": "p1.example",
                "port": 5600,
                "tensor_parallel": 1,
                "tokens": prefill.worker.max_model_tokens,
                "seconds_per_token": 1.0,
                "follow": True,
            }
        }
        marks = [FOLLOWS_HEADER in received.headers for received in decode.received]
        assert marks == [True, False]
        assert asked.prompt == prefill.received[0].prompt
        assert asked.output_limit == 1
        assert decode.aborted == 1
        assert seen.status == 200
        assert cluster.metric("followed_total") == 1


@pytest.mark.parametrize("what", ["short", "never", "prefill", "decode", "ranks"])
async def test_what_cannot_be_followed_or_is_not_worth_it_is_not(
    open_cluster: "OpenCluster", what: str
) -> None:
    settings = FOLLOWED if what != "never" else {"follow_tokens": 0}
    async with open_cluster("p1 d1", **settings) as cluster:
        for name, role in (("p1", "prefill"), ("d1", "decode")):
            announce(cluster, name, **({"kv_side_channel": ""} if what == role else {}))
            if what == "ranks":
                ranks = 2 if role == "prefill" else 3
                announce(cluster, name, engine=Engine("0", "c", tensor_parallel=ranks))

        seen = await ask(cluster, "short" if what == "short" else LONG)

        assert seen.status == 200
        assert legs(cluster["d1"]) == [False]
        assert cluster.metric("followed_total") == 0


async def test_a_decode_worker_of_more_ranks_follows_one_of_fewer(
    open_cluster: "OpenCluster",
) -> None:
    async with open_cluster("p1 d1", **FOLLOWED) as cluster:
        prefill, decode = held_up(cluster)
        announce(cluster, "p1", engine=Engine("0", "c", tensor_parallel=2))
        announce(cluster, "d1", engine=Engine("0", "c", tensor_parallel=4))
        asking = ask(cluster)
        await cluster.eventually(lambda: prefill.running and decode.running)
        prefill.behaviour.gate.set()
        await asking

        assert legs(decode) == [True, False]
        assert decode.received[0].params["prefix_source"]["tensor_parallel"] == 2


@pytest.mark.parametrize("fault", ["status", "drops"])
async def test_a_decode_worker_that_cannot_follow_is_asked_for_leg_2_all_the_same(
    open_cluster: "OpenCluster", fault: str
) -> None:
    async with open_cluster("p1 d1", **FOLLOWED) as cluster:
        prefill, decode = held_up(cluster)
        if fault == "status":
            decode.behaviour.status = 500
        else:
            decode.behaviour.drops = True
        asking = ask(cluster)
        await cluster.eventually(
            lambda: cluster.metric("upstream_errors_total", leg="following") == 1
        )
        decode.behaviour.status, decode.behaviour.drops = None, False
        prefill.behaviour.gate.set()

        seen = await asking

        assert seen.status == 200
        assert legs(decode) == [True, False]


async def test_who_follows_a_prompt_that_fails_is_let_go(open_cluster: "OpenCluster") -> None:
    async with open_cluster("p1 d1", **FOLLOWED) as cluster:
        prefill, decode = held_up(cluster)
        asking = ask(cluster)
        await cluster.eventually(lambda: decode.running)
        prefill.behaviour.drops = True
        prefill.behaviour.gate.set()

        seen = await asking

        assert seen.status == 200
        assert decode.running == 0
        assert decode.aborted == 1


async def test_what_no_worker_takes_is_no_fault_of_who_follows(
    open_cluster: "OpenCluster",
) -> None:
    """The client is told by leg 1."""
    async with open_cluster("p1 d1", **FOLLOWED) as cluster:
        prefill, decode = held_up(cluster)
        decode.behaviour.status = 400
        asking = ask(cluster)
        await cluster.eventually(lambda: decode.received and not decode.running)
        decode.behaviour.status = None
        prefill.behaviour.gate.set()
        seen = await asking

        assert seen.status == 200
        assert cluster.metric("upstream_errors_total", leg="following") == 0


async def test_who_follows_for_too_long_is_let_go_before_it_is_served(
    open_cluster: "OpenCluster", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "LIMIT_SECONDS", 0.01)
    async with open_cluster("p1 d1", **FOLLOWED) as cluster:
        prefill, decode = held_up(cluster)
        asking = ask(cluster)
        await cluster.eventually(lambda: decode.aborted == 1)
        errors = cluster.metric("upstream_errors_total", leg="following", kind="timeout")
        prefill.behaviour.gate.set()
        seen = await asking

        assert errors == 1
        assert seen.status == 200


def test_the_router_leaves_before_the_engine_has_waited_enough() -> None:
    assert 0 < following.LIMIT_SECONDS < FOLLOW_LIMIT_SECONDS
