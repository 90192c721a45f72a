"""Keys, limits and classes, as they work on requests."""

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from twofold_cluster.apis import Api
from twofold_router.access import Classes, parse_class
from twofold_router.access.minting import hash_of
from twofold_router.testing import MODEL

if TYPE_CHECKING:
    from tests.integration.gateway.conftest import OpenCluster

ALICE, BOB = "tf-" + "a" * 43, "tf-" + "b" * 43
CHAT = "/v1/chat/completions"
HELLO = [{"role": "user", "content": "hello"}]


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def entry(name: str, key: str, **more: Any) -> str:
    lines = [f"{field} = {value!r}" for field, value in more.items()]
    told = [f'name = "{name}"', f'hash = "{hash_of(key)}"', f'tenant = "of-{name}"', *lines]
    return "\n".join(("[[key]]", *told, ""))


@pytest.fixture
def keys_file(tmp_path: Path) -> Path:
    path = tmp_path / "keys.toml"
    path.write_text(entry("alice", ALICE) + entry("bob", BOB))
    return path


@pytest.mark.parametrize("path", [CHAT, "/v1/messages", "/v1/embeddings", "/tokenize"])
async def test_nobody_is_served_without_a_valid_key(
    open_cluster: "OpenCluster", keys_file: Path, path: str
) -> None:
    async with open_cluster("p1 d1", keys_file=keys_file) as cluster:
        for headers in ({}, bearer("tf-wrong"), {"Authorization": "Basic x"}):
            seen = await cluster.ask(path, headers)

            assert seen.status == 401
            assert seen.headers["www-authenticate"] == "Bearer"
            assert seen.error["type"] == "authentication_error"
            assert seen.error["code"] == "invalid_api_key"
        assert not cluster["p1"].received
        assert not cluster["d1"].received
        assert cluster.metric("refusals_total", code="invalid_api_key") == 3


@pytest.mark.parametrize("expect", ["", "Expect: 100-continue\r\n"])
async def test_no_body_is_read_of_whom_nobody_knows(
    open_cluster: "OpenCluster", keys_file: Path, expect: str
) -> None:
    head = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer tf-wrong\r\n{expect}"
    async with open_cluster("p1 d1", keys_file=keys_file) as cluster:
        client = await cluster.connect(f"{head}Content-Length: 30000000\r\n\r\n".encode())
        async with asyncio.timeout(10):
            told = await client.reader.read()
        await client.leave()

        assert told.startswith(b"HTTP/1.1 401 ")
        assert b"\r\nconnection: close\r\n" in told
        assert b'"code":"invalid_api_key"' in told
        assert cluster.metric("requests_total", status="4xx") == 1


async def test_the_body_of_whom_we_know_is_called_for(
    open_cluster: "OpenCluster", keys_file: Path
) -> None:
    head = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ALICE}\r\n"
    async with open_cluster("p1 d1", keys_file=keys_file) as cluster:
        expect = "Expect: 100-continue\r\nContent-Length: 2\r\n\r\n"
        client = await cluster.connect((head + expect).encode())
        async with asyncio.timeout(10):
            called = await client.reader.readline()
        await client.leave()

        assert called == b"HTTP/1.1 100 Continue\r\n"


async def test_a_key_opens_all_that_there_is(open_cluster: "OpenCluster", keys_file: Path) -> None:
    async with open_cluster("p1 d1", keys_file=keys_file) as cluster:
        for headers in (bearer(ALICE), {"x-api-key": BOB}):
            assert (await cluster.ask(headers=headers)).status == 200
            assert (await cluster.ask("/tokenize", headers)).status == 200
            assert (await cluster.get("/v1/models", headers)).status == 200
        everything = [*cluster["p1"].received, *cluster["d1"].received]
        assert all(ALICE.encode() not in each.raw for each in everything)
        assert not {b"authorization", b"x-api-key"} & {
            n for each in everything for n in each.headers
        }


async def test_the_models_need_a_key_and_the_probes_none(
    open_cluster: "OpenCluster", keys_file: Path
) -> None:
    async with open_cluster("p1 d1", keys_file=keys_file) as cluster:
        paths = ["/v1/models", f"/v1/models/{MODEL}", "/health", "/ready", "/metrics"]

        assert [(await cluster.get(path)).status for path in paths] == [401, 401, 200, 200, 200]


async def test_a_key_learns_nothing_of_models_that_it_may_not_use(
    open_cluster: "OpenCluster", tmp_path: Path
) -> None:
    path = tmp_path / "keys.toml"
    path.write_text(entry("alice", ALICE, models=["hers"]))
    async with open_cluster("p1 d1", keys_file=path) as cluster:
        forbidden = await cluster.ask(headers=bearer(ALICE))
        strange = await cluster.ask(headers=bearer(ALICE), model="stranger")
        own = await cluster.ask(headers=bearer(ALICE), model="hers")
        listed = await cluster.get("/v1/models", bearer(ALICE))
        named = await cluster.get(f"/v1/models/{MODEL}", bearer(ALICE))

        assert (forbidden.status, forbidden.error["type"]) == (403, "permission_error")
        assert forbidden.error["param"] == "model"
        assert strange.status == 403
        assert MODEL not in own.error["message"]
        assert listed.json["data"] == []
        assert named.status == 404
        assert not cluster["p1"].received


async def test_the_salt_of_a_tenant_reaches_the_engines_and_the_key(
    open_cluster: "OpenCluster", keys_file: Path
) -> None:
    prompt = [{"role": "user", "content": "the same story " * 100}]
    async with open_cluster("p1 d1", keys_file=keys_file, block_tokens=16) as cluster:
        for key in (ALICE, BOB):
            await cluster.ask(headers=bearer(key), messages=prompt)
        apart = cluster.metric("cached_tokens_predicted_total")
        reported_apart = cluster.metric("cached_tokens_reported_total")
        await cluster.ask(headers=bearer(ALICE), messages=prompt)
        together = cluster.metric("cached_tokens_predicted_total")

        salts = [received.body["cache_salt"] for received in cluster["p1"].received]
        assert salts[0] == salts[2] != salts[1]
        assert [received.body["cache_salt"] for received in cluster["d1"].received] == salts
        assert apart == reported_apart == 0
        assert together > 300


async def test_a_clients_own_salt_divides_its_tenants_blocks_and_opens_no_others(
    open_cluster: "OpenCluster", keys_file: Path
) -> None:
    async with open_cluster("p1 d1", keys_file=keys_file) as cluster:
        await cluster.ask(headers=bearer(ALICE))
        stolen = cluster["p1"].received[0].body["cache_salt"]
        await cluster.ask(headers=bearer(BOB), cache_salt=stolen)
        await cluster.ask(headers=bearer(BOB))

        salts = {received.body["cache_salt"] for received in cluster["p1"].received}
        assert len(salts) == 3


async def test_without_keys_a_clients_salt_is_its_own(open_cluster: "OpenCluster") -> None:
    async with open_cluster("p1 d1") as cluster:
        await cluster.ask()
        await cluster.ask(cache_salt="mine")

        salts = [received.body.get("cache_salt") for received in cluster["d1"].received]
        assert salts == [None, "mine"]


async def test_a_key_has_its_limit_of_requests_and_is_told(
    open_cluster: "OpenCluster", tmp_path: Path
) -> None:
    path = tmp_path / "keys.toml"
    path.write_text(entry("alice", ALICE, requests_per_minute=2) + entry("bob", BOB))
    async with open_cluster("p1 d1", keys_file=path) as cluster:
        seen = [await cluster.ask(headers=bearer(ALICE)) for _ in range(3)]
        other = await cluster.ask(headers=bearer(BOB))

        assert [each.status for each in seen] == [200, 200, 429]
        remaining = [each.headers["x-ratelimit-remaining-requests"] for each in seen]
        assert remaining == ["1", "0", "0"]
        assert {each.headers["x-ratelimit-limit-requests"] for each in seen} == {"2"}
        assert "x-ratelimit-limit-tokens" not in seen[0].headers
        refused = seen[-1]
        assert (refused.error["type"], refused.error["code"]) == (
            "rate_limit_error",
            "rate_limit_exceeded",
        )
        assert 1 <= int(refused.headers["Retry-After"]) <= 30
        assert other.status == 200
        assert "x-ratelimit-limit-requests" not in other.headers


async def test_a_stream_has_the_headers_of_the_limits_too(
    open_cluster: "OpenCluster", tmp_path: Path
) -> None:
    path = tmp_path / "keys.toml"
    path.write_text(entry("alice", ALICE, tokens_per_minute=100_000))
    async with open_cluster("p1 d1", keys_file=path) as cluster:
        seen = await cluster.ask(headers=bearer(ALICE), stream=True, max_tokens=500)

        assert seen.headers["x-ratelimit-limit-tokens"] == "100000"
        assert 99_400 < int(seen.headers["x-ratelimit-remaining-tokens"]) < 99_500


STREAMED: list[dict[str, Any]] = [
    {},
    {"stream": True},
    {"stream": True, "stream_options": {"include_usage": True}},
]


@pytest.mark.parametrize("names", ["p1 d1", "d1"])
@pytest.mark.parametrize("api", Api)
@pytest.mark.parametrize("body", STREAMED, ids=str)
async def test_what_was_really_used_is_charged(
    open_cluster: "OpenCluster", tmp_path: Path, names: str, api: Api, body: dict[str, Any]
) -> None:
    path = tmp_path / "keys.toml"
    path.write_text(entry("alice", ALICE, tokens_per_minute=1000))
    # Less than a stream has, so that not all of it is kept.
    async with open_cluster(names, keys_file=path, max_kept_bytes=10) as cluster:
        limit = "max_output_tokens" if api is Api.RESPONSES else "max_tokens"
        body = {"prompt": "hello", "input": "hello", **body, limit: 900}
        first = await cluster.ask(api, bearer(ALICE), **body)
        second = await cluster.ask(api, bearer(ALICE), **body)

        # Without settling the second would be refused.
        left = [int(each.headers["x-ratelimit-remaining-tokens"]) for each in (first, second)]
        assert [first.status, second.status] == [200, 200]
        assert left[0] - left[1] < 20


@pytest.mark.parametrize("usage", [{}, {"stream_options": {"include_usage": True}}], ids=str)
async def test_all_of_a_long_stream_is_charged(
    open_cluster: "OpenCluster", tmp_path: Path, usage: dict[str, Any]
) -> None:
    path = tmp_path / "keys.toml"
    path.write_text(entry("alice", ALICE, tokens_per_minute=10_000))
    async with open_cluster("d1", keys_file=path, max_kept_bytes=1000) as cluster:
        cluster["d1"].behaviour.token_count = 500
        body = {"stream": True, **usage}
        first = await cluster.ask(headers=bearer(ALICE), **body)
        second = await cluster.ask(headers=bearer(ALICE), **body)

        left = [int(each.headers["x-ratelimit-remaining-tokens"]) for each in (first, second)]
        assert 480 < left[0] - left[1] < 540
        assert 1000 <= cluster.metric("output_tokens_total") < 1010
        assert cluster.metric("tpot_seconds_count") == 2


@pytest.mark.parametrize("kept_bytes", [0, 1_000_000])
async def test_a_stream_of_few_and_long_events_is_charged_by_its_text(
    open_cluster: "OpenCluster", tmp_path: Path, kept_bytes: int
) -> None:
    path = tmp_path / "keys.toml"
    path.write_text(entry("alice", ALICE, tokens_per_minute=100_000))
    async with open_cluster("d1", keys_file=path, max_kept_bytes=kept_bytes) as cluster:
        text = json.dumps({"choices": [{"index": 0, "delta": {"content": "four" * 500}}]})
        cluster["d1"].behaviour.pieces = [f"data: {text}\n\n".encode()] * 20
        first = await cluster.ask(headers=bearer(ALICE), stream=True)
        second = await cluster.ask(headers=bearer(ALICE), stream=True)

        left = [int(each.headers["x-ratelimit-remaining-tokens"]) for each in (first, second)]
        assert 9_900 < left[0] - left[1] < 10_300


@pytest.mark.parametrize("ends", ["leaves", "breaks"])
async def test_who_has_a_part_of_a_stream_pays_for_that_part(
    open_cluster: "OpenCluster", tmp_path: Path, ends: str
) -> None:
    path = tmp_path / "keys.toml"
    path.write_text(entry("alice", ALICE, tokens_per_minute=2000))
    async with open_cluster("d1", keys_file=path) as cluster:
        behaviour = cluster["d1"].behaviour
        behaviour.token_count = 2000
        if ends == "breaks":
            behaviour.cut_after_events = 1000
        else:
            behaviour.pause_after_events = 1000
        asked = cluster.client.stream(
            *("POST", CHAT),
            json={"model": MODEL, "messages": HELLO, "stream": True, "max_tokens": 1900},
            headers=bearer(ALICE),
        )
        async with asked as response:
            seen = b""
            async for piece in response.aiter_raw():
                seen += piece
                if b"a998 " in seen and ends == "leaves":
                    break
        await cluster.eventually(cluster.is_idle)
        behaviour.gate.set()
        after = await cluster.ask(headers=bearer(ALICE), max_tokens=1)

        told = seen.count(b"data: {")
        left = int(after.headers["x-ratelimit-remaining-tokens"])
        # Some seconds have given some back.
        assert told > 100
        assert 2000 - told - 40 < left < 2000 - told + 400


@pytest.mark.parametrize("status", [400, 500])
@pytest.mark.parametrize("names", ["p1 d1", "d1"])
async def test_an_engines_error_costs_no_tokens(
    open_cluster: "OpenCluster", tmp_path: Path, names: str, status: int
) -> None:
    path = tmp_path / "keys.toml"
    path.write_text(entry("alice", ALICE, tokens_per_minute=1000))
    async with open_cluster(names, keys_file=path) as cluster:
        for engine in cluster.engines.values():
            engine.behaviour.status = status
        seen = [await cluster.ask(headers=bearer(ALICE), max_tokens=900) for _ in range(3)]

        assert {each.status for each in seen} == {status}


async def test_embeddings_are_charged_for_what_they_read(
    open_cluster: "OpenCluster", tmp_path: Path
) -> None:
    path = tmp_path / "keys.toml"
    path.write_text(entry("alice", ALICE, tokens_per_minute=1000))
    async with open_cluster("d1", keys_file=path) as cluster:
        seen = [await cluster.ask("/v1/embeddings", bearer(ALICE)) for _ in range(8)]

        assert {each.status for each in seen} == {200}


@pytest.mark.parametrize(("encoding", "costs"), [("bytes", 700), ("bytes_only", 540)])
async def test_embeddings_as_bytes_are_charged_as_told_or_estimated(
    open_cluster: "OpenCluster", tmp_path: Path, encoding: str, costs: int
) -> None:
    path = tmp_path / "keys.toml"
    path.write_text(entry("alice", ALICE, tokens_per_minute=1000))
    body = {"input": "x" * 2000, "encoding_format": encoding}
    async with open_cluster("d1", keys_file=path) as cluster:
        await cluster.ask("/v1/embeddings", bearer(ALICE), **body)
        after = await cluster.ask("/tokenize", bearer(ALICE))

        left = int(after.headers["x-ratelimit-remaining-tokens"])
        # The question has its own estimate, and some seconds have given some back.
        assert 1000 - costs - 60 < left < 1000 - costs + 200


async def test_who_names_no_model_must_where_there_are_several(
    open_cluster: "OpenCluster", tmp_path: Path
) -> None:
    keys = tmp_path / "keys.toml"
    keys.write_text(entry("alice", ALICE, models=[MODEL]) + entry("bob", BOB))
    async with open_cluster("d1 d2", keys_file=keys) as cluster:
        worker = cluster["d2"].worker
        cluster["d2"].worker = msgspec.structs.replace(worker, model="other")
        cluster.follow("d1", "d2")
        one = await cluster.ask(model=None, headers=bearer(ALICE))
        both = await cluster.ask(model=None, headers=bearer(BOB))
        cluster.follow()
        nobody = await cluster.ask(model=None, headers=bearer(BOB))

        assert one.status == 200
        assert (both.status, both.error["param"]) == (400, "model")
        assert (nobody.status, nobody.error["code"]) == (503, "no_worker")
        assert not cluster["d2"].received


# --- classes ---


async def test_the_headers_reach_the_placement(open_cluster: "OpenCluster") -> None:
    classes = Classes([parse_class("batch:priority=-5,ttft=60,ttft-per-token=0.5,late=refuse")])
    async with open_cluster("p1 d1", classes=classes) as cluster:
        placed: list[Any] = []
        submit = cluster.dispatcher.submit

        def spy(request: Any, decide: Any) -> None:
            placed.append(request)
            submit(request, decide)

        cluster.dispatcher.submit = spy  # type: ignore[method-assign]
        headers = {"x-llm-d-inference-objective": "batch", "x-llm-d-inference-fairness-id": "team"}
        await cluster.ask(headers=headers, max_tokens=7)
        await cluster.ask(headers={"x-llm-d-slo-ttft-ms": "1500"})

        told, plain = placed
        assert (told.priority, told.ttft_slo_seconds) == (-5, 60.0)
        assert (told.ttft_slo_seconds_per_token, told.refuse_late) == (0.5, True)
        assert (told.tenant, told.max_output_tokens) == ("team", 7)
        assert (plain.priority, plain.ttft_slo_seconds, plain.refuse_late) == (0, 1.5, False)
        assert plain.deadline_at - plain.arrived_at == pytest.approx(600.0)


async def test_a_flow_of_a_key_is_no_tenant_of_its_own(
    open_cluster: "OpenCluster", keys_file: Path
) -> None:
    async with open_cluster("p1 d1", keys_file=keys_file) as cluster:
        placed: list[Any] = []
        submit = cluster.dispatcher.submit

        def spy(request: Any, decide: Any) -> None:
            placed.append(request)
            submit(request, decide)

        cluster.dispatcher.submit = spy  # type: ignore[method-assign]
        await cluster.ask(headers={**bearer(ALICE), "x-llm-d-inference-fairness-id": "of-bob"})

        assert placed[0].tenant == "of-alice"


async def test_one_who_cannot_be_on_time_is_refused_where_the_class_says_so(
    open_cluster: "OpenCluster",
) -> None:
    classes = Classes([parse_class("quick:ttft=0.001,late=refuse")])
    long = [{"role": "user", "content": "word " * 5000}]
    async with open_cluster("p1 d1", classes=classes, max_unprefilled_tokens=1) as cluster:
        cluster["p1"].behaviour.gate.clear()
        first = asyncio.create_task(cluster.ask(messages=long))
        await cluster.eventually(lambda: cluster["p1"].running)
        objective = {"x-llm-d-inference-objective": "quick"}
        refused = await cluster.ask(headers=objective, messages=long)
        cluster["p1"].behaviour.gate.set()

        assert (refused.status, refused.error["code"]) == (429, "rate_limit_exceeded")
        assert int(refused.headers["Retry-After"]) >= 1
        assert (await first).status == 200
        assert len(cluster["p1"].received) == 1


async def test_a_full_queue_answers_429_with_a_time_to_come_back(
    open_cluster: "OpenCluster",
) -> None:
    async with open_cluster("p1 d1", max_queued=0, max_unprefilled_tokens=1) as cluster:
        cluster["p1"].behaviour.gate.clear()
        first = asyncio.create_task(cluster.ask())
        await cluster.eventually(lambda: cluster["p1"].running)
        seen = await cluster.ask()
        cluster["p1"].behaviour.gate.set()

        assert (seen.status, seen.error["code"]) == (429, "rate_limit_exceeded")
        assert int(seen.headers["Retry-After"]) >= 1
        assert (await first).status == 200


async def test_a_more_important_one_takes_the_place_of_a_less_important_one(
    open_cluster: "OpenCluster",
) -> None:
    classes = Classes([parse_class("low:priority=-1")])
    async with open_cluster(
        "p1 d1", classes=classes, max_queued=1, max_unprefilled_tokens=1
    ) as cluster:
        cluster["p1"].behaviour.gate.clear()
        first = asyncio.create_task(cluster.ask())
        await cluster.eventually(lambda: cluster["p1"].running)
        low = asyncio.create_task(cluster.ask(headers={"x-llm-d-inference-objective": "low"}))
        await cluster.eventually(lambda: cluster.metric("queued") == 1)
        high = asyncio.create_task(cluster.ask())
        refused = await low
        cluster["p1"].behaviour.gate.set()

        assert refused.status == 429
        assert [(await first).status, (await high).status] == [200, 200]
