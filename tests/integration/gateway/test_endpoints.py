"""What there is to ask for, and what of a request reaches an engine."""

import asyncio
import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import anthropic
import msgspec
import openai
import pytest

from twofold_cluster.apis import Api, PassedOnApi
from twofold_router.testing import MODEL

if TYPE_CHECKING:
    from tests.integration.gateway.conftest import OpenCluster

CHAT = "/v1/chat/completions"
POSTS = [*Api, *PassedOnApi]
GETS = ["/health", "/ready", "/metrics", "/metrics/targets", "/v1/models", f"/v1/models/{MODEL}"]


@pytest.mark.parametrize("api", PassedOnApi)
async def test_what_leaves_no_cache_goes_to_any_worker_as_it_came(
    open_cluster: "OpenCluster", api: PassedOnApi
) -> None:
    async with open_cluster("p1 d1") as cluster:
        raw = b'{"model": "%s", "input": "x", "new_field": { "a": [1.50]} }' % MODEL.encode()
        seen = await cluster.post(api, raw)

        (received,) = [*cluster["p1"].received, *cluster["d1"].received]
        assert (seen.status, seen.json["path"]) == (200, api)
        assert received.path == api
        assert b'"new_field":{ "a": [1.50]}' in received.raw
        assert received.request_id == seen.headers["x-request-id"]
        assert "x-twofold-mode" not in seen.headers


async def test_embeddings_as_bytes_come_with_their_description(
    open_cluster: "OpenCluster",
) -> None:
    async with open_cluster("d1") as cluster:
        described = await cluster.ask("/v1/embeddings", encoding_format="bytes")
        bare = await cluster.ask("/v1/embeddings", encoding_format="bytes_only")

        assert json.loads(described.headers["metadata"])["data"] == [{"shape": [1]}]
        assert "metadata" not in bare.headers
        assert described.body == bare.body == b"\0\0\x80?"


async def test_what_leaves_no_cache_finds_another_worker(open_cluster: "OpenCluster") -> None:
    async with open_cluster("d1 d2 d3") as cluster:
        cluster.unreach("d1")
        cluster["d2"].behaviour.status = 500
        seen = [await cluster.ask("/v1/embeddings") for _ in range(10)]

        assert {each.json["by"] for each in seen} == {"d3"}
        assert cluster.metric("upstream_errors_total", leg="passed-on", kind="failed") >= 1
        assert cluster.metric("upstream_errors_total", leg="passed-on", kind="unreachable") >= 1


async def test_what_leaves_no_cache_is_spread_before_the_next_report(
    open_cluster: "OpenCluster",
) -> None:
    async with open_cluster("d1 d2 d3") as cluster:
        for engine in cluster.engines.values():
            engine.behaviour.gate.clear()
        asking = [asyncio.create_task(cluster.ask("/v1/embeddings")) for _ in range(12)]
        while sum(len(engine.received) for engine in cluster.engines.values()) < len(asking):
            await asyncio.sleep(0.01)
        for engine in cluster.engines.values():
            engine.behaviour.gate.set()
        seen = await asyncio.gather(*asking)

        assert Counter(each.json["by"] for each in seen) == {"d1": 4, "d2": 4, "d3": 4}


async def test_what_leaves_no_cache_goes_to_a_suspect_last(open_cluster: "OpenCluster") -> None:
    async with open_cluster("d1 d2", suspect_seconds=60.0) as cluster:
        failing = cluster.unreach("d1")
        cluster.dispatcher.suspect(cluster["d1"].worker)
        seen = [await cluster.ask("/v1/embeddings") for _ in range(10)]

        assert {each.json["by"] for each in seen} == {"d2"}
        assert cluster.metric("upstream_errors_total") == 0

        cluster.restore(failing)
        cluster.follow("d1")
        assert (await cluster.ask("/v1/embeddings")).json["by"] == "d1"


async def test_what_no_worker_answers_gets_the_last_error(open_cluster: "OpenCluster") -> None:
    async with open_cluster("d1 d2") as cluster:
        for name in ("d1", "d2"):
            cluster[name].behaviour.drops = True
        seen = await cluster.ask("/tokenize")

        assert (seen.status, seen.error["code"]) == (502, "engine_failed")


async def test_what_the_engine_refuses_to_do_is_not_tried_elsewhere(
    open_cluster: "OpenCluster",
) -> None:
    async with open_cluster("d1 d2") as cluster:
        for name in ("d1", "d2"):
            cluster[name].behaviour.status = 400
        seen = await cluster.ask("/tokenize")

        assert (seen.status, seen.error["message"]) == (400, "as vLLM says")
        assert len(cluster.leg_2s) == 1


async def test_the_models_are_those_of_the_workers(open_cluster: "OpenCluster") -> None:
    async with open_cluster("p1 d1") as cluster:
        models = (await cluster.get("/v1/models")).json
        model = (await cluster.get(f"/v1/models/{MODEL}")).json

        assert models == {"object": "list", "data": [model]}
        assert (model["id"], model["object"]) == (MODEL, "model")
        assert model["max_model_len"] == cluster["p1"].worker.max_model_tokens


@pytest.mark.parametrize("path", POSTS)
async def test_who_names_no_model_is_served_the_only_one(
    open_cluster: "OpenCluster", path: str
) -> None:
    async with open_cluster("p1 d1") as cluster:
        seen = [await cluster.ask(path, model=model) for model in (None, "")]

        everything = [*cluster["p1"].received, *cluster["d1"].received]
        assert [each.status for each in seen] == [200, 200]
        assert {each.body["model"] for each in everything} == {MODEL}


async def test_prometheus_is_told_where_the_workers_are(open_cluster: "OpenCluster") -> None:
    async with open_cluster("p1 d1") as cluster:
        told = (await cluster.get("/metrics/targets")).json

        addresses = [cluster[name].worker.address for name in ("d1", "p1")]
        assert [each["targets"] for each in told] == [
            [address.removeprefix("http://")] for address in addresses
        ]
        assert [each["labels"]["role"] for each in told] == ["decode", "prefill"]


async def test_a_models_name_may_hold_slashes_and_be_quoted(open_cluster: "OpenCluster") -> None:
    async with open_cluster("d1") as cluster:
        worker = cluster["d1"].worker
        cluster["d1"].worker = msgspec.structs.replace(worker, model="Qwen/Qwen3 8B")
        cluster.follow()
        cluster.follow("d1")

        assert (await cluster.get("/v1/models/Qwen/Qwen3%208B")).json["id"] == "Qwen/Qwen3 8B"
        assert (await cluster.ask(model="Qwen/Qwen3 8B")).status == 200


async def test_ready_says_what_is_missing(open_cluster: "OpenCluster") -> None:
    async with open_cluster("p1 d1") as cluster:

        async def ready() -> tuple[int, list[str]]:
            seen = await cluster.get("/ready")
            return seen.status, seen.json["missing"]

        cluster.follow()
        nobody = await ready()
        cluster.follow("d1")
        half = await ready()
        cluster.follow("p1", "d1")
        whole = await ready()
        cluster.follow("d1")
        half_again = await ready()

        assert nobody == (503, ["decode worker", "prefill worker"])
        assert half == (200, ["prefill worker"])
        assert whole == (200, [])
        assert half_again == (200, ["prefill worker"])
        assert (await cluster.get("/health")).status == 200


async def test_ready_says_when_the_membership_is_old(open_cluster: "OpenCluster") -> None:
    async with open_cluster("p1 d1") as cluster:
        fresh = (await cluster.get("/ready")).json["stale"]
        cluster.dispatcher.stale_if(lambda: True)

        assert (fresh, (await cluster.get("/ready")).json["stale"]) == (False, True)


@pytest.mark.parametrize("path", GETS)
async def test_head_has_the_header_of_get_and_no_body(
    open_cluster: "OpenCluster", path: str
) -> None:
    async with open_cluster("p1 d1") as cluster:
        got = await cluster.client.get(path)
        head = await cluster.client.head(path)

        assert (head.status_code, got.status_code) == (200, 200)
        assert head.headers["content-type"] == got.headers["content-type"]
        assert int(head.headers["content-length"]) > 0
        assert head.content == b""
        assert (await cluster.get("/health")).json == {"status": "alive"}


@pytest.mark.parametrize("path", [*GETS, *POSTS])
async def test_a_slash_too_many_is_none(open_cluster: "OpenCluster", path: str) -> None:
    async with open_cluster("p1 d1") as cluster:
        ask = cluster.get if path in GETS else cluster.ask
        plain, with_slash = await ask(path), await ask(f"{path}/")

        assert (plain.status, with_slash.status) == (200, 200)
        if path.startswith("/v1/models"):
            assert with_slash.json == plain.json


@pytest.mark.parametrize("path", [*GETS, *POSTS])
async def test_a_wrong_method_is_told_the_right_one(open_cluster: "OpenCluster", path: str) -> None:
    async with open_cluster("p1 d1") as cluster:
        wrong = ("POST", "PUT", "DELETE") if path in GETS else ("GET", "HEAD", "PUT", "PATCH")
        for method in wrong:
            response = await cluster.client.request(method, path)

            assert response.status_code == 405
            assert response.headers["allow"] == ("GET, HEAD" if path in GETS else "POST")


PASSED = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
PASSED |= {"tracestate": "a=b", "baggage": "k=v"}
KEPT = {"authorization": "Bearer secret", "x-api-key": "secret", "cookie": "secret"}
KEPT |= {"x-anything": "secret", "x-llm-d-inference-objective": "secret"}


async def test_an_engine_is_sent_the_trace_and_no_secret(open_cluster: "OpenCluster") -> None:
    async with open_cluster("p1 d1") as cluster:
        await cluster.ask(headers=PASSED | KEPT)
        await cluster.ask("/tokenize", headers=PASSED | KEPT)

        everything = [*cluster["p1"].received, *cluster["d1"].received]
        assert len(everything) == 3
        for received in everything:
            headers = {name.decode(): value.decode() for name, value in received.headers.items()}
            assert PASSED.items() <= headers.items()
            assert not KEPT.keys() & headers.keys()
            assert headers["content-type"] == "application/json"


async def test_fields_that_nobody_knows_reach_the_engine_byte_for_byte(
    open_cluster: "OpenCluster",
) -> None:
    odd = '{"a" : 1.50, "b":"\\u00e4\\/ \U0001f600","c":[ 1e2,-0.0 ],"c":12345678901234567890}'
    raw = f'{{ "model":"{MODEL}","messages":[],"of_2031" : {odd} , "n":1}}'.encode()
    async with open_cluster("p1 d1") as cluster:
        seen = await cluster.post(CHAT, raw, "Application/JSON; charset=utf-8")

        assert seen.status == 200
        for name in ("p1", "d1"):
            assert odd.encode() in cluster[name].received[0].raw


async def test_a_field_told_twice_is_told_the_engines_once(open_cluster: "OpenCluster") -> None:
    raw = b'{"model":"stranger","messages":[],"model":"%s"}' % MODEL.encode()
    async with open_cluster("p1 d1") as cluster:
        seen = await cluster.post(CHAT, raw)

        assert seen.status == 200
        assert cluster["d1"].received[0].raw.count(b'"model"') == 1
        assert b"stranger" not in cluster["d1"].received[0].raw


async def test_the_clients_of_openai_and_anthropic_are_served(open_cluster: "OpenCluster") -> None:
    hello: list[Any] = [{"role": "user", "content": "hello"}]
    async with (
        open_cluster("p1 d1") as cluster,
        openai.AsyncOpenAI(base_url=f"{cluster.gateway.url}/v1", api_key="-") as of_openai,
        anthropic.AsyncAnthropic(base_url=cluster.gateway.url, api_key="-") as of_anthropic,
    ):
        chat = await of_openai.chat.completions.create(model=MODEL, messages=hello)
        stream = await of_openai.chat.completions.create(model=MODEL, messages=hello, stream=True)
        texts = [event.choices[0].delta.content or "" async for event in stream]
        response = await of_openai.responses.create(model=MODEL, input="hello")
        message = await of_anthropic.messages.create(model=MODEL, messages=hello, max_tokens=2)
        async with of_anthropic.messages.stream(
            model=MODEL, messages=hello, max_tokens=9
        ) as streamed:
            said = await streamed.get_final_text()
        models = [model.id async for model in of_openai.models.list()]

        assert chat.choices[0].message.content == "".join(texts) == said == "a0 a1 a2 "
        assert response.usage is not None
        assert response.usage.output_tokens == 3
        assert message.content[0].to_dict()["text"] == "a0 a1 "
        assert models == [MODEL]
        with pytest.raises(openai.NotFoundError, match="stranger"):
            await of_openai.chat.completions.create(model="stranger", messages=hello)
        with pytest.raises(anthropic.NotFoundError) as caught:
            await of_anthropic.messages.create(model="stranger", messages=hello, max_tokens=2)
        with pytest.raises(anthropic.NotFoundError) as not_counted:
            await of_anthropic.messages.count_tokens(model="stranger", messages=hello)
        for raised in (caught, not_counted):
            told = raised.value.body
            assert isinstance(told, dict)
            assert (told["type"], told["error"]["type"]) == ("error", "not_found_error")
            assert "stranger" in told["error"]["message"]


async def test_the_metrics_are_prometheus_text(open_cluster: "OpenCluster") -> None:
    async with open_cluster("p1 d1") as cluster:
        seen = await cluster.get("/metrics")

        assert seen.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert b"# TYPE twofold_router_requests_total counter" in seen.body
