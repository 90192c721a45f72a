"""Requests as they should be, through the gateway to fake engines and back."""

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from twofold_cluster.apis import Api

if TYPE_CHECKING:
    from tests.integration.gateway.conftest import OpenCluster


@pytest.mark.parametrize("api", Api)
async def test_a_request_has_two_legs_and_leaves_no_blocks(
    open_cluster: "OpenCluster", api: Api
) -> None:
    async with open_cluster("p1 d1") as cluster:
        limit = "max_output_tokens" if api is Api.RESPONSES else "max_tokens"
        body: dict[str, Any] = {limit: 50, "new_field": [1]}
        seen = await cluster.ask(api, **body)

        (leg_1,), (leg_2,) = cluster["p1"].received, cluster["d1"].received
        assert seen.status == 200
        assert seen.served == ("disaggregated", "p1", "d1", None)
        assert seen.json["by"] == "d1"
        assert seen.headers["Content-Type"] == "application/json"
        assert (leg_1.path, leg_2.path) == (api, api)
        assert leg_1.request_id == leg_2.request_id == seen.headers["x-request-id"]
        assert leg_1.is_leg_1
        assert leg_1.body[limit] == 1
        assert leg_2.params["remote_engine_id"] == "p1"
        assert (leg_2.body[limit], leg_2.body["new_field"]) == (50, [1])
        assert not cluster.leases
        labels = {"mode": "disaggregated", "reason": "", "status": "2xx"}
        assert cluster.metric("requests_total", **labels) == 1


async def test_a_stream_is_passed_on_untouched_as_it_comes(open_cluster: "OpenCluster") -> None:
    odd = [b": a comment\n\n", b"data: {\n", b'data: "\xff'[:7], b"\r\n\r\nid: 7\n\n", b"x"]
    async with open_cluster("p1 d1") as cluster:
        behaviour = cluster["d1"].behaviour
        behaviour.pieces, behaviour.pause_after_events = odd, 2
        async with cluster.stream() as response:
            pieces = response.aiter_raw()
            first = await anext(pieces)
            behaviour.gate.set()
            rest = b"".join([piece async for piece in pieces])

        assert response.headers["Content-Type"] == "text/event-stream; charset=utf-8"
        assert first == b"".join(odd[:2])  # a comment waits for what it stands before
        assert rest == b"".join(odd[2:])
        assert cluster.metric("ttft_seconds_count") == 1


async def test_an_answer_in_one_piece_is_passed_on_untouched(open_cluster: "OpenCluster") -> None:
    async with open_cluster("d1") as cluster:
        through = await cluster.ask("/v1/embeddings", input="x")
        direct = await cluster.client.post(
            cluster["d1"].worker.address + "/v1/embeddings",
            content=cluster["d1"].received[0].raw,
        )

        assert through.body == direct.content


async def test_a_worker_of_both_roles_serves_what_it_is_given_alone(
    open_cluster: "OpenCluster",
) -> None:
    async with open_cluster("b1 b2") as cluster:
        seen = await cluster.ask()

        assert seen.served in {("aggregated", None, name, None) for name in ("b1", "b2")}
        assert seen.said == "a0 a1 a2 "
        assert len(cluster.leg_2s) == 1
        assert not cluster.leg_2s[0].params


async def test_two_requests_may_carry_the_same_id_at_once(open_cluster: "OpenCluster") -> None:
    async with open_cluster("p1 d1") as cluster:
        cluster["p1"].behaviour.gate.clear()
        both = [
            asyncio.create_task(cluster.ask(headers={"x-request-id": "mine"})) for _ in range(2)
        ]
        await cluster.eventually(lambda: cluster["p1"].running == 2)
        cluster["p1"].behaviour.gate.set()

        assert {seen.headers["x-request-id"] for seen in await asyncio.gather(*both)} == {"mine"}
        assert {received.request_id for received in cluster.leg_2s} == {"mine"}


async def test_the_next_leg_1_begins_when_one_is_over_and_not_later(
    open_cluster: "OpenCluster",
) -> None:
    async with open_cluster("p1 d1", max_unprefilled_tokens=1) as cluster:
        cluster["d1"].behaviour.gate.clear()
        both = [asyncio.create_task(cluster.ask()) for _ in range(2)]
        await cluster.eventually(lambda: cluster["d1"].running == 2)
        cluster["d1"].behaviour.gate.set()

        assert {seen.status for seen in await asyncio.gather(*both)} == {200}


async def test_no_more_is_at_a_prefill_worker_than_it_may_have(open_cluster: "OpenCluster") -> None:
    async with open_cluster("p1 d1", max_unprefilled_tokens=1) as cluster:
        cluster["p1"].behaviour.gate.clear()
        both = [asyncio.create_task(cluster.ask()) for _ in range(2)]
        await cluster.eventually(lambda: cluster["p1"].running and cluster.metric("queued") == 1)
        at_once = cluster["p1"].running
        cluster["p1"].behaviour.gate.set()
        await asyncio.gather(*both)

        assert at_once == 1


INSEPARABLE: list[dict[str, Any]] = [{"n": 2}, {"prompt_logprobs": 0}, {"use_beam_search": True}]


@pytest.mark.parametrize("body", INSEPARABLE)
async def test_what_cannot_have_two_legs_is_served_by_one_worker(
    open_cluster: "OpenCluster", body: dict[str, Any]
) -> None:
    async with open_cluster("p1 d1") as cluster:
        seen = await cluster.ask(**body)

        assert seen.served == ("aggregated", None, "d1", None)
        assert not cluster["p1"].received


@pytest.mark.parametrize("body", [{}, {"n": 2}])
async def test_a_clients_own_transfer_params_go_nowhere(
    open_cluster: "OpenCluster", body: dict[str, Any]
) -> None:
    forged = {"do_remote_prefill": True, "remote_engine_id": "forged"}
    async with open_cluster("p1 d1") as cluster:
        extra = {"kv_transfer_params": forged, "ec_transfer_params": forged, "mine": 1}
        await cluster.ask(kv_transfer_params=forged, vllm_xargs=extra, **body)

        everything = [received for name in ("p1", "d1") for received in cluster[name].received]
        assert everything
        assert all(b"forged" not in received.raw for received in everything)
        assert all(received.body["vllm_xargs"] == {"mine": 1} for received in everything)


async def test_many_requests_at_once_are_all_served(open_cluster: "OpenCluster") -> None:
    async with open_cluster(max_queued=1000, max_unprefilled_tokens=2) as cluster:
        gates = [cluster[name].behaviour.gate for name in ("p1", "p2")]
        for gate in gates:
            gate.clear()
        asking = [asyncio.create_task(cluster.ask()) for _ in range(90)]
        await cluster.eventually(lambda: cluster.metric("queued") > 0)
        for gate in gates:
            gate.set()

        assert {seen.status for seen in await asyncio.gather(*asking)} == {200}
        assert not cluster.leases


async def test_a_second_turn_is_expected_and_found_in_the_cache(
    open_cluster: "OpenCluster",
) -> None:
    async with open_cluster(block_tokens=16) as cluster:
        first_turn = [{"role": "user", "content": "tell me a long story " * 50}]
        first = await cluster.ask(messages=first_turn)
        before = cluster.metric("cached_tokens_predicted_total")
        said = {"role": "assistant", "content": first.said}
        more = {"role": "user", "content": "and another one"}
        second = await cluster.ask(messages=[*first_turn, said, more])

        predicted = cluster.metric("cached_tokens_predicted_total")
        reported = cluster.metric("cached_tokens_reported_total")
        assert first.served[1] == second.served[1]
        assert before == 0
        assert reported > 200
        assert abs(predicted - reported) <= 16 * 2
