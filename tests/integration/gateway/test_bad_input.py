"""Requests that nobody can serve."""

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import openai
import pytest

from twofold_router.testing import MODEL

if TYPE_CHECKING:
    from tests.integration.gateway.conftest import OpenCluster

CHAT = "/v1/chat/completions"
JSON = {"Content-Type": "application/json"}

BAD = [
    ("POST", "/v1/nothing", {}, b"{}", 404, "not_found"),
    ("GET", "/", {}, b"", 404, "not_found"),
    ("POST", "/v1/chat/completions//", {}, b"{}", 404, "not_found"),
    ("GET", "/v1/responses/resp_1", {}, b"", 404, "not_found"),
    ("DELETE", "/v1/responses/resp_1", {}, b"", 404, "not_found"),
    ("POST", "/v1/responses/resp_1/cancel", {}, b"", 404, "not_found"),
    ("GET", CHAT, {}, b"", 405, "method_not_allowed"),
    ("POST", "/v1/models", {}, b"{}", 405, "method_not_allowed"),
    ("POST", CHAT, {"Content-Type": "text/plain"}, b"{}", 415, "unsupported_media_type"),
    ("POST", CHAT, {}, b"", 400, "invalid_json"),
    ("POST", CHAT, {}, b'{"model": ', 400, "invalid_json"),
    ("POST", CHAT, {}, b'{"model": "fake-model", "messages": NaN}', 400, "invalid_json"),
    ("POST", CHAT, {}, b'{"model": "fake-model", "messages": "\xff"}', 400, "invalid_json"),
    ("POST", CHAT, {}, b"[]", 400, "invalid_request"),
    ("POST", CHAT, {}, b'{"model": 1}', 400, "invalid_request"),
    ("POST", CHAT, {}, b'{"model": "stranger"}', 404, "model_not_found"),
    ("POST", "/tokenize", {}, b'{"model": "stranger"}', 404, "model_not_found"),
    ("GET", "/v1/models/stranger", {}, b"", 404, "model_not_found"),
    ("POST", CHAT, {}, b" " * 1001, 413, "request_too_large"),
    ("POST", CHAT, {"Content-Encoding": "gzip"}, b"x", 415, "unsupported_media_type"),
    ("POST", CHAT, {"x-llm-d-slo-ttft-ms": "soon"}, b"{}", 400, "invalid_request"),
]


@pytest.mark.parametrize(("method", "path", "headers", "raw", "status", "code"), BAD)
async def test_bad_input_gets_a_clear_error_and_costs_nothing_else(
    open_cluster: "OpenCluster",
    method: str,
    path: str,
    headers: dict[str, str],
    raw: bytes,
    status: int,
    code: str,
) -> None:
    async with open_cluster("p1 d1", max_body_bytes=1000) as cluster:
        response = await cluster.client.request(
            method, path, headers={**JSON, **headers}, content=raw
        )

        assert response.status_code == status
        assert response.headers["content-type"] == "application/json"
        error = response.json()["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert error["code"] == code
        assert ("Allow" in response.headers) == (status == 405)
        assert b"stranger" not in cluster.text()
        assert not cluster["p1"].received
        assert cluster.metric("refusals_total", code=code) == 1
        assert (await cluster.ask()).status == 200


@pytest.mark.parametrize(
    "field", [{"background": True}, {"previous_response_id": "resp_1"}, {"background": "true"}]
)
async def test_a_response_cannot_build_on_what_nobody_stores(
    open_cluster: "OpenCluster", field: dict[str, Any]
) -> None:
    async with open_cluster("p1 d1") as cluster:
        seen = await cluster.ask("/v1/responses", input="hello", **field)
        nothing: dict[str, Any] = {"background": False, "previous_response_id": None, "store": True}

        assert (seen.status, seen.error["code"]) == (400, "invalid_request")
        assert [seen.error["param"]] == list(field)
        assert "not stored" in seen.error["message"]
        assert (await cluster.ask("/v1/responses", input="hello", **nothing)).status == 200
        assert (await cluster.ask(**field)).status == 200  # nothing of that API's


async def test_the_client_of_openai_reads_that_no_response_is_stored(
    open_cluster: "OpenCluster",
) -> None:
    async with (
        open_cluster("p1 d1") as cluster,
        openai.AsyncOpenAI(base_url=f"{cluster.gateway.url}/v1", api_key="-") as client,
    ):
        for ask in (client.responses.retrieve, client.responses.cancel):
            with pytest.raises(openai.NotFoundError, match="no response 'resp_1'") as caught:
                await ask("resp_1")

            assert caught.value.param == "response_id"


async def test_a_body_without_a_length_is_bounded_too(open_cluster: "OpenCluster") -> None:
    async with open_cluster("p1 d1", max_body_bytes=1000) as cluster:

        async def endless() -> AsyncIterator[bytes]:
            for _ in range(100):
                yield b" " * 100

        response = await cluster.client.post(CHAT, headers=JSON, content=endless())

        assert response.status_code == 413
        assert (await cluster.ask()).status == 200


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens"])
async def test_who_speaks_anthropics_api_is_refused_in_its_shape(
    open_cluster: "OpenCluster", path: str
) -> None:
    async with open_cluster("p1 d1", max_body_bytes=1000) as cluster:
        large = await cluster.client.post(path, headers=JSON, content=b" " * 1001)
        head = await cluster.client.post(path, headers={"x": "x" * 100_000})

        assert (large.status_code, head.status_code) == (413, 431)
        assert large.json()["type"] == "error"
        assert large.json()["error"]["type"] == "request_too_large"
        assert head.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize("path", ["/v1/messages/batches", "/v1/messages/batches/x/results"])
async def test_what_is_not_offered_of_anthropics_api_is_told_in_its_shape(
    open_cluster: "OpenCluster", path: str
) -> None:
    async with open_cluster("p1 d1") as cluster:
        for seen in (await cluster.ask(path), await cluster.get(path)):
            assert (seen.status, seen.json["type"]) == (404, "error")
            assert seen.error["type"] == "not_found_error"


@pytest.mark.parametrize("name", ["", "ü", "a b", "x" * 129])
async def test_a_strange_request_id_is_replaced(open_cluster: "OpenCluster", name: str) -> None:
    async with open_cluster("p1 d1") as cluster:
        given = {b"x-request-id": name.encode()}
        response = await cluster.client.get("/health", headers=given)

        assert len(response.headers["x-request-id"]) >= 24


async def test_before_any_worker_is_known_a_client_is_told_to_come_back(
    open_cluster: "OpenCluster",
) -> None:
    async with open_cluster("p1 d1") as cluster:
        cluster.follow()
        for seen in (await cluster.ask(), await cluster.get(f"/v1/models/{MODEL}")):
            assert (seen.status, seen.error["code"]) == (503, "no_worker")
            assert seen.headers["Retry-After"] == "1"


async def test_a_request_to_a_stranger_leaves_nothing_behind(open_cluster: "OpenCluster") -> None:
    async with open_cluster("p1 d1") as cluster:
        before = cluster.text()
        await cluster.ask(model="stranger")
        await cluster.ask(model="other")
        after = cluster.text()

        def names(text: bytes) -> set[bytes]:
            return {line.rpartition(b" ")[0] for line in text.splitlines()}

        new = names(after) - names(before)
        assert {name.partition(b"{")[0] for name in new} == {
            b"twofold_router_requests_total",
            b"twofold_router_refusals_total",
        }
        assert len(new) == 2


@pytest.mark.parametrize("tokens", [2**64, 10**400])
async def test_a_bound_beyond_all_bounds_harms_nobody_else(
    open_cluster: "OpenCluster", tokens: int
) -> None:
    async with open_cluster("p1 d1") as cluster:
        seen = await cluster.ask(max_tokens=tokens)

        # Whether it is allowed is the engine's to say.
        assert seen.status == 200
        assert cluster["d1"].received[-1].body["max_tokens"] == tokens
        assert (await cluster.ask()).status == 200
