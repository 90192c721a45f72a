"""The client of the Kubernetes API before a server that answers as one does on a bad day."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
import msgspec
import pytest
from aiohttp import web

from twofold_operator.cluster_api import (
    LLM_SERVICES,
    PODS,
    Access,
    ClientLimits,
    ClusterApi,
    ClusterApiError,
    ConflictError,
    InvalidObjectError,
    NotFoundError,
    UnavailableError,
)
from twofold_operator.planning.names import FIELD_MANAGER

LIMITS = ClientLimits(request_seconds=0.5, tries=3, backoff_seconds=0.2, max_backoff_seconds=2.0)
SERVICE = {
    "apiVersion": LLM_SERVICES.api_version,
    "kind": LLM_SERVICES.kind,
    "metadata": {"name": "chat", "namespace": "models"},
}
Answer = Callable[[web.Request], web.StreamResponse]


@dataclass
class Day:
    """A server that gives *answers*, one after another, and what a client did before it."""

    api: ClusterApi
    requests: list[tuple[web.Request, bytes]] = field(default_factory=list)
    slept: list[float] = field(default_factory=list)
    counted: list[tuple[str, str, int]] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)


def refuse(status: int, said: str = "", **headers: str) -> Answer:
    message = said or f"said {status}"
    body = msgspec.json.encode({"kind": "Status", "message": message}).decode()
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda _: web.Response(status=status, text=body, headers=headers)


def give(**body: object) -> Answer:
    return lambda _: web.json_response(body)


@asynccontextmanager
async def day(*answers: Answer) -> AsyncIterator[Day]:
    left = list(answers)

    async def handle(request: web.Request) -> web.StreamResponse:
        made.requests.append((request, await request.read()))
        return left.pop(0)(request)

    async def sleep(seconds: float) -> None:
        made.slept.append(seconds)

    def token() -> dict[str, str]:
        made.tokens.append(f"token {len(made.tokens)}")
        return {"Authorization": made.tokens[-1]}

    server = web.AppRunner(_application(handle))
    await server.setup()
    site = web.TCPSite(server, "127.0.0.1", 0)
    await site.start()
    access = Access(site.name, None, token)
    async with aiohttp.ClientSession() as session:
        made = Day(
            ClusterApi(session, access, LIMITS, lambda *said: made.counted.append(said), sleep)
        )
        try:
            yield made
        finally:
            await server.cleanup()


def _application(
    handle: Callable[[web.Request], "web.StreamResponse | object"],
) -> web.Application:
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", handle)  # type: ignore[arg-type]
    return application


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
async def test_a_server_that_wants_to_be_asked_later_is(status: int) -> None:
    async with day(refuse(status), give(kind="LLMService")) as it:
        answer = await it.api.get(LLM_SERVICES, "models", "chat")

    assert answer["kind"] == "LLMService"
    assert it.counted == [("get", "llmservices", status), ("get", "llmservices", 200)]


async def test_waits_grow_and_what_the_server_asks_for_is_kept_within_bounds() -> None:
    answers = [refuse(503), refuse(429, Retry_After="1"), give()]
    async with day(*answers) as it:
        await it.api.get(LLM_SERVICES, "models", "chat")
    first, second = it.slept
    assert 0.1 <= first <= 0.2
    assert second == 1.0

    async with day(refuse(429, Retry_After="3600"), give()) as it:
        await it.api.get(LLM_SERVICES, "models", "chat")
    assert it.slept == [2.0]


async def test_after_the_last_try_the_server_s_words_are_told() -> None:
    async with day(*[refuse(503)] * 3) as it:
        with pytest.raises(UnavailableError, match=r"GET .*/llmservices/chat: 503 said 503"):
            await it.api.get(LLM_SERVICES, "models", "chat")

    assert len(it.requests) == 3


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (404, NotFoundError),
        (409, ConflictError),
        *((status, InvalidObjectError) for status in (400, 405, 406, 415, 422, 451)),
    ],
)
async def test_what_trying_again_does_not_help_is_told_at_once(
    status: int, error: type[Exception]
) -> None:
    async with day(refuse(status)) as it:
        with pytest.raises(error, match=f"said {status}"):
            await it.api.apply(SERVICE)

    assert len(it.requests) == 1


async def test_one_who_is_not_known_has_sent_nothing_wrong() -> None:
    async with day(*[refuse(401)] * 3) as it:
        with pytest.raises(ClusterApiError) as refusal:
            await it.api.apply(SERVICE)

    assert refusal.type is ClusterApiError


@pytest.mark.parametrize("of", ["", " (models/chat; serving.twofold.dev/v1alpha1)"])
async def test_an_apply_that_cannot_be_typed_is_a_fault_of_what_was_sent(of: str) -> None:
    said = f"failed to create typed patch object{of}: .spec.nodeSelektor: field not declared"
    async with day(refuse(500, said)) as it:
        with pytest.raises(InvalidObjectError, match="nodeSelektor: field not declared"):
            await it.api.apply(SERVICE)

    assert len(it.requests) == 1


async def test_a_token_that_is_refused_is_read_again() -> None:
    async with day(refuse(401), give()) as it:
        await it.api.get(LLM_SERVICES, "models", "chat")

    shown = [request.headers["Authorization"] for request, _ in it.requests]
    assert shown == ["token 0", "token 1"]


async def test_a_server_that_does_not_answer_is_given_up() -> None:
    # More answers than tries: below us a GET on a connection that was used is sent again.
    async with day(*[_hang_up] * 12) as it:
        with pytest.raises(UnavailableError):
            await it.api.get(LLM_SERVICES, "models", "chat")

    assert it.counted == [("get", "llmservices", 0)] * 3


async def test_a_list_has_all_pages_and_only_what_is_ours() -> None:
    pages = [
        give(metadata={"continue": "next"}, items=[{"metadata": {"name": "a"}}]),
        give(metadata={"resourceVersion": "7"}, items=[{"metadata": {"name": "b"}}]),
    ]
    async with day(*pages) as it:
        items, version = await it.api.list_all(PODS, "models")

    assert [item["metadata"]["name"] for item in items] == ["a", "b"]
    assert {(item["apiVersion"], item["kind"]) for item in items} == {("v1", "Pod")}
    assert version == "7"
    first, second = (request.query for request, _ in it.requests)
    assert FIELD_MANAGER in first["labelSelector"]
    assert second["continue"] == "next"


async def test_an_apply_owns_its_fields_as_one_manager() -> None:
    async with day(give()) as it:
        await it.api.apply(SERVICE, subresource="status")

    ((request, content),) = it.requests
    assert request.path.endswith("/namespaces/models/llmservices/chat/status")
    assert request.content_type == "application/apply-patch+yaml"
    assert dict(request.query) == {"fieldManager": FIELD_MANAGER, "force": "true"}
    assert msgspec.json.decode(content) == SERVICE


async def test_a_delete_means_one_object_and_not_its_successor() -> None:
    async with day(give()) as it:
        await it.api.delete(PODS, "models", "chat-0", uid="a-uid")

    ((_, content),) = it.requests
    assert msgspec.json.decode(content)["preconditions"] == {"uid": "a-uid"}


@pytest.mark.parametrize(("plural", "serves"), [("pods", True), ("others", False)])
async def test_what_a_cluster_serves_is_found_by_its_plural(plural: str, serves: bool) -> None:
    async with day(give(resources=[{"name": plural}])) as it:
        assert await it.api.serves(PODS) is serves


async def test_an_api_that_is_not_there_is_not_served() -> None:
    async with day(refuse(404)) as it:
        assert not await it.api.serves(LLM_SERVICES)


def _hang_up(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()
