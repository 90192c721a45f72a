"""LoRA adapters: models of their own to clients, and the model's workers to the router."""

import asyncio
from typing import TYPE_CHECKING

import msgspec

from twofold_cluster.errors import Fault
from twofold_router.testing import MODEL

if TYPE_CHECKING:
    from tests.integration.gateway.conftest import Cluster, OpenCluster

TUNED = "tuned"
LONG = [{"role": "user", "content": "once upon a time " * 400}]


def load(cluster: "Cluster", names: str, *adapters: str) -> None:
    """Have the workers *names* announce *adapters*."""
    for name in names.split():
        engine = cluster[name]
        engine.worker = msgspec.structs.replace(engine.worker, adapters=adapters)
    cluster.follow(*cluster.engines)


async def test_a_request_for_an_adapter_goes_only_to_workers_that_have_it(
    open_cluster: "OpenCluster",
) -> None:
    async with open_cluster("p1 p2 p3 d1 d2 d3") as cluster:
        load(cluster, "p2 d3", TUNED)
        seen = [await cluster.ask(model=TUNED, user=str(number)) for number in range(6)]

        assert {each.served for each in seen} == {("disaggregated", "p2", "d3", None)}
        assert {leg.body["model"] for leg in cluster["p2"].received} == {TUNED}
        assert {leg.body["model"] for leg in cluster["d3"].received} == {TUNED}


async def test_adapters_are_listed_with_their_model(open_cluster: "OpenCluster") -> None:
    async with open_cluster("p1 d1") as cluster:
        load(cluster, "p1 d1", TUNED)
        cards = (await cluster.get("/v1/models")).json["data"]
        one = (await cluster.get(f"/v1/models/{TUNED}")).json

        assert [(card["id"], card.get("parent")) for card in cards] == [
            (MODEL, None),
            (TUNED, MODEL),
        ]
        assert one == cards[1]


async def test_an_adapter_that_is_unloaded_is_unknown(open_cluster: "OpenCluster") -> None:
    async with open_cluster("p1 d1") as cluster:
        load(cluster, "p1 d1", TUNED)
        loaded = await cluster.ask(model=TUNED)
        load(cluster, "p1 d1")
        unloaded = await cluster.ask(model=TUNED)

        assert loaded.status == 200
        assert (unloaded.status, unloaded.error["code"]) == (404, "model_not_found")


async def test_an_adapter_that_only_half_of_the_workers_have_is_served_where_that_is_enough(
    open_cluster: "OpenCluster",
) -> None:
    async with open_cluster("p1 d1 d2") as cluster:
        load(cluster, "d2", TUNED)
        decoded = await cluster.ask(model=TUNED)
        load(cluster, "d2")
        load(cluster, "p1", TUNED)
        nowhere = await cluster.ask(model=TUNED)

        assert decoded.served == ("fallback", None, "d2", "no-prefill-worker")
        assert (nowhere.status, nowhere.error["code"]) == (503, "no_worker")


async def test_an_adapter_shares_no_block_with_its_model(open_cluster: "OpenCluster") -> None:
    async with open_cluster("p1 d1") as cluster:
        load(cluster, "p1 d1", TUNED)
        for _ in range(2):
            await cluster.ask(messages=LONG)
        of_model = cluster.metric("cached_tokens_predicted_total")
        await cluster.ask(model=TUNED, messages=LONG)
        first = cluster.metric("cached_tokens_predicted_total")
        await cluster.ask(model=TUNED, messages=LONG)

        assert of_model > 0
        assert first == of_model
        assert cluster.metric("cached_tokens_predicted_total") > first


async def test_what_an_adapter_has_computed_is_released_by_a_worker_that_has_it(
    open_cluster: "OpenCluster",
) -> None:
    async with open_cluster("p1 d1 d2") as cluster:
        load(cluster, "p1 d2", TUNED)
        cluster["p1"].behaviour.gate.clear()
        client = await cluster.leaving_client(model=TUNED)
        await cluster.eventually(lambda: cluster["p1"].received)
        await client.leave()
        cluster["d2"].behaviour.refusal = Fault.DECODE_BUSY
        cluster["p1"].behaviour.gate.set()
        await cluster.eventually(lambda: cluster["d2"].received)
        cluster["d2"].behaviour.refusal = None
        await cluster.eventually(
            lambda: cluster.metric("releases_total", outcome="released"), seconds=60.0
        )

        assert not cluster["d1"].received
        assert {leg.body["model"] for leg in cluster["d2"].received} == {TUNED}


async def test_requests_for_an_adapter_and_its_model_go_on_side_by_side(
    open_cluster: "OpenCluster",
) -> None:
    async with open_cluster("p1 p2 d1 d2") as cluster:
        load(cluster, "p1 d1", TUNED)
        names = [MODEL, TUNED] * 8
        seen = await asyncio.gather(*(cluster.ask(model=name) for name in names))

        assert {each.status for each in seen} == {200}
