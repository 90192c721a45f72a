"""Engines that were started with an API key: every request to them carries it."""

from typing import TYPE_CHECKING, Any

import msgspec

from twofold_cluster.identity import Role
from twofold_router.static_workers import GivenWorker

if TYPE_CHECKING:
    from tests.integration.gateway.conftest import Cluster, OpenCluster

WITH_KEY: dict[str, Any] = {
    "service": "",
    "workers": (GivenWorker(Role.BOTH, "http://127.0.0.1:1"),),
    "engine_api_key": "of-the-engines",
}
OF_CLIENT = {"authorization": "Bearer of-the-client", "x-api-key": "of-the-client"}


def keys_of(cluster: "Cluster") -> list[bytes | None]:
    """Return what each request to an engine had for a key."""
    return [
        received.headers.get(b"authorization")
        for engine in cluster.engines.values()
        for received in engine.received
    ]


async def test_both_legs_and_what_is_passed_on_carry_the_engines_key_and_not_the_clients(
    open_cluster: "OpenCluster",
) -> None:
    async with open_cluster("p1 d1", **WITH_KEY) as cluster:
        for path in ("/v1/chat/completions", "/v1/embeddings"):
            seen = await cluster.ask(path, OF_CLIENT)
            assert seen.status == 200

        assert keys_of(cluster) == [b"Bearer of-the-engines"] * 3
        received = [each for engine in cluster.engines.values() for each in engine.received]
        assert not any(b"x-api-key" in each.headers for each in received)


async def test_a_request_that_follows_and_a_release_carry_the_key(
    open_cluster: "OpenCluster",
) -> None:
    async with open_cluster("p1 d1", follow_tokens=1, **WITH_KEY) as cluster:
        for name, engine in cluster.engines.items():
            told = {"kv_side_channel": f"{name}.example:5600"}
            engine.worker = msgspec.structs.replace(engine.worker, **told)
        cluster.follow(*cluster.engines)
        cluster["p1"].behaviour.gate.clear()
        client = await cluster.leaving_client(max_tokens=50, stream=True)
        await cluster.eventually(lambda: cluster["p1"].running and cluster["d1"].running)
        await client.leave()
        cluster["p1"].behaviour.gate.set()
        await cluster.eventually(lambda: cluster.metric("releases_total", outcome="released"))

        assert [received.follows for received in cluster["d1"].received] == [True, False]
        assert keys_of(cluster) == [b"Bearer of-the-engines"] * 3


async def test_without_a_key_the_clients_own_is_not_sent_to_the_engines(
    open_cluster: "OpenCluster",
) -> None:
    async with open_cluster("p1 d1") as cluster:
        seen = await cluster.ask(headers=OF_CLIENT)

        assert seen.status == 200
        assert keys_of(cluster) == [None, None]
