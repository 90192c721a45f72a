"""The gateway over real sockets, before fake engines: every failure has its stated answer."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import msgspec
import pytest

from twofold_cluster.errors import Fault
from twofold_cluster.identity import Role
from twofold_router.gateway import Dispatcher, Gateway, listen, open_gateway
from twofold_router.placement import POLICIES
from twofold_router.settings import RouterSettings
from twofold_router.testing import MODEL, FakeEngine, Received, make_worker, serve_engine

CHAT = "/v1/chat/completions"


@dataclass
class Cluster:
    """A gateway, its engines and a client."""

    engines: dict[str, FakeEngine]
    dispatcher: Dispatcher
    gateway: Gateway
    client: aiohttp.ClientSession

    def __getitem__(self, name: str) -> FakeEngine:
        return self.engines[name]

    def follow(self, *names: str) -> None:
        workers = [self.engines[name].worker for name in names]
        self.dispatcher.follow({worker.worker_id: worker for worker in workers})

    def post(self, path: str = CHAT, headers: dict[str, str] | None = None, **body: Any) -> Any:
        body = {"model": MODEL, "messages": [], **body}
        return self.client.post(self.gateway.url + path, json=body, headers=headers)

    async def ask(self, path: str = CHAT, **body: Any) -> "Seen":
        async with self.post(path, **body) as response:
            return Seen(response.status, response.headers, await response.read())

    @property
    def leg_2s(self) -> list[Received]:
        decodes = [engine for name, engine in self.engines.items() if name.startswith("d")]
        return [received for engine in decodes for received in engine.received]

    @property
    def leases(self) -> set[str]:
        return set().union(*(engine.leases for engine in self.engines.values()))

    def metric(self, name: str, **labels: str) -> float:
        value = self.gateway.metrics.registry.get_sample_value(f"twofold_router_{name}", labels)
        return value or 0.0

    def is_idle(self) -> bool:
        now = self.dispatcher.snapshot().placement
        counts = [
            count for worker in now.workers for count in (worker.unprefilled, worker.decoding)
        ]
        return now.in_flight == now.queued == sum(counts) == 0

    async def leaving_client(self, **body: Any) -> asyncio.StreamWriter:
        """Send a request over a bare socket, which the test closes when it likes."""
        host, port = self.gateway.url.removeprefix("http://").split(":")
        _, writer = await asyncio.open_connection(host, int(port))
        raw = json.dumps({"model": MODEL, **body}).encode()
        head = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        writer.write(f"{head}Content-Length: {len(raw)}\r\n\r\n".encode() + raw)
        await writer.drain()
        return writer


@dataclass(frozen=True)
class Seen:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def error(self) -> dict[str, Any]:
        error = json.loads(self.body)["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert isinstance(error["message"], str)
        assert isinstance(error["code"], str)
        return dict(error)

    @property
    def served(self) -> tuple[str | None, ...]:
        names = ("mode", "prefill", "decode", "reason")
        return tuple(self.headers.get(f"x-twofold-{name}") for name in names)


@asynccontextmanager
async def open_cluster(names: str = "p1 p2 d1 d2", **changes: Any) -> AsyncIterator[Cluster]:
    values: dict[str, Any] = {"service": "s", "port": 0, "drain_timeout_seconds": 0.2}
    settings = RouterSettings(**values | changes)
    network: dict[str, FakeEngine] = {}
    async with AsyncExitStack() as stack:
        for name in names.split():
            role = Role.PREFILL if name.startswith("p") else Role.DECODE
            await stack.enter_async_context(
                serve_engine(FakeEngine(make_worker(name, role), network))
            )
        dispatcher = Dispatcher(
            POLICIES[settings.policy](settings.placement()),
            suspect_seconds=settings.suspect_seconds,
        )
        client = await stack.enter_async_context(aiohttp.ClientSession())
        listener = listen(settings.host, settings.port)
        gateway = await stack.enter_async_context(
            open_gateway(settings, dispatcher, lambda: False, listener)
        )
        cluster = Cluster(network, dispatcher, gateway, client)
        cluster.follow(*network)
        yield cluster
        await eventually(cluster.is_idle)


async def eventually(holds: Callable[[], object], seconds: float = 5.0) -> None:
    async with asyncio.timeout(seconds):
        while not holds():
            await asyncio.sleep(0.005)


async def leave(writer: asyncio.StreamWriter) -> None:
    writer.close()
    await writer.wait_closed()


# --- as it should be ---


@pytest.mark.parametrize("path", [CHAT, "/v1/completions", "/v1/responses"])
async def test_a_request_has_two_legs_and_leaves_no_blocks(path: str) -> None:
    async with open_cluster("p1 d1") as cluster:
        seen = await cluster.ask(path, max_tokens=50, new_field=[1])

        (leg_1,), (leg_2,) = cluster["p1"].received, cluster["d1"].received
        assert seen.status == 200
        assert seen.served == ("disaggregated", "p1", "d1", None)
        assert json.loads(seen.body)["by"] == "d1"
        assert seen.headers["Content-Type"] == "application/json"
        assert (leg_1.path, leg_2.path) == (path, path)
        assert leg_1.request_id == leg_2.request_id == seen.headers["x-request-id"]
        assert leg_1.is_leg_1
        assert leg_2.params["remote_engine_id"] == "p1"
        assert (leg_2.body["max_tokens"], leg_2.body["new_field"]) == (50, [1])
        assert not cluster.leases
        labels = {"mode": "disaggregated", "reason": "", "status": "2xx"}
        await eventually(lambda: cluster.metric("requests_total", **labels) == 1)


async def test_a_stream_is_passed_on_untouched_as_it_comes() -> None:
    async with open_cluster("p1 d1") as cluster:
        cluster["d1"].behaviour.pause_after_chunks = 1
        async with cluster.post(stream=True) as response:
            first = await response.content.readany()
            cluster["d1"].behaviour.gate.set()
            rest = await response.read()

        assert response.headers["Content-Type"] == "text/event-stream; charset=utf-8"
        assert first == b'data: {"token": 0}\n\n'
        assert rest == b'data: {"token": 1}\n\ndata: {"token": 2}\n\ndata: [DONE]\n\n'
        assert cluster.metric("ttft_seconds_count") == 1


async def test_two_requests_may_carry_the_same_id_at_once() -> None:
    async with open_cluster("p1 d1") as cluster:
        cluster["p1"].behaviour.gate.clear()

        async def ask() -> str:
            async with cluster.post(headers={"x-request-id": "mine"}) as response:
                return str(response.headers["x-request-id"])

        both = [asyncio.create_task(ask()) for _ in range(2)]
        await eventually(lambda: cluster["p1"].running == 2)
        cluster["p1"].behaviour.gate.set()

        assert await asyncio.gather(*both) == ["mine", "mine"]
        assert {received.request_id for received in cluster.leg_2s} == {"mine"}


async def test_the_next_leg_1_begins_when_one_is_over_and_not_later() -> None:
    async with open_cluster("p1 d1", max_unprefilled=1) as cluster:
        cluster["d1"].behaviour.gate.clear()
        both = [asyncio.create_task(cluster.ask()) for _ in range(2)]
        await eventually(lambda: cluster["d1"].running == 2)
        cluster["d1"].behaviour.gate.set()

        assert {seen.status for seen in await asyncio.gather(*both)} == {200}


async def test_several_samples_are_served_by_one_worker() -> None:
    async with open_cluster("p1 d1") as cluster:
        seen = await cluster.ask(n=2, kv_transfer_params={"do_remote_prefill": True})

        assert seen.served == ("aggregated", None, "d1", None)
        assert not cluster["p1"].received
        assert "kv_transfer_params" not in cluster["d1"].received[0].body


async def test_many_requests_at_once_are_all_served() -> None:
    async with open_cluster(max_queued=1000, max_unprefilled=2) as cluster:
        gates = [cluster[name].behaviour.gate for name in ("p1", "p2")]
        for gate in gates:
            gate.clear()
        asking = [asyncio.create_task(cluster.ask()) for _ in range(200)]
        await eventually(lambda: cluster.metric("queued") > 0)
        for gate in gates:
            gate.set()

        assert {seen.status for seen in await asyncio.gather(*asking)} == {200}
        assert not cluster.leases


# --- bad input ---

BAD = [
    ("POST", "/v1/nothing", {}, b"{}", 404, "not_found"),
    ("GET", "/", {}, b"", 404, "not_found"),
    ("GET", CHAT, {}, b"", 405, "method_not_allowed"),
    ("POST", "/v1/models", {}, b"{}", 405, "method_not_allowed"),
    ("POST", CHAT, {"Content-Type": "text/plain"}, b"{}", 415, "unsupported_media_type"),
    ("POST", CHAT, {}, b"", 400, "invalid_json"),
    ("POST", CHAT, {}, b'{"model": ', 400, "invalid_json"),
    ("POST", CHAT, {}, b"[]", 400, "invalid_request"),
    ("POST", CHAT, {}, b"{}", 400, "invalid_request"),
    ("POST", CHAT, {}, b'{"model": 1}', 400, "invalid_request"),
    ("POST", CHAT, {}, b'{"model": "stranger"}', 404, "model_not_found"),
    ("GET", "/v1/models/stranger", {}, b"", 404, "model_not_found"),
    ("POST", CHAT, {}, b" " * 1001, 413, "request_too_large"),
    ("POST", CHAT, {"Content-Encoding": "gzip"}, b"x", 415, "unsupported_media_type"),
]


@pytest.mark.parametrize(("method", "path", "headers", "raw", "status", "code"), BAD)
async def test_bad_input_gets_a_clear_error_and_costs_nothing_else(
    method: str, path: str, headers: dict[str, str], raw: bytes, status: int, code: str
) -> None:
    async with open_cluster("p1 d1", max_body_bytes=1000) as cluster:
        url = cluster.gateway.url + path
        headers = {"Content-Type": "application/json", **headers}
        async with cluster.client.request(method, url, headers=headers, data=raw) as response:
            seen = Seen(response.status, response.headers, await response.read())

        assert seen.status == status
        assert seen.error["code"] == code
        assert ("Allow" in seen.headers) == (status == 405)
        assert b"stranger" not in cluster.gateway.metrics.text()
        assert not cluster["p1"].received
        assert (await cluster.ask()).status == 200


async def test_a_body_without_a_length_is_bounded_too() -> None:
    async with open_cluster("p1 d1", max_body_bytes=1000) as cluster:

        async def endless() -> AsyncIterator[bytes]:
            for _ in range(100):
                yield b" " * 100

        headers = {"Content-Type": "application/json"}
        async with cluster.client.post(
            cluster.gateway.url + CHAT, headers=headers, data=endless()
        ) as response:
            assert response.status == 413
        assert (await cluster.ask()).status == 200


async def test_a_full_queue_answers_429_with_a_time_to_come_back() -> None:
    async with open_cluster("p1 d1", max_queued=0, max_unprefilled=1) as cluster:
        cluster["p1"].behaviour.gate.clear()
        first = asyncio.create_task(cluster.ask())
        await eventually(lambda: cluster["p1"].running)

        seen = await cluster.ask()
        cluster["p1"].behaviour.gate.set()

        assert (seen.status, seen.error["code"]) == (429, "rate_limit_exceeded")
        assert int(seen.headers["Retry-After"]) >= 1
        assert (await first).status == 200


# --- leg 1 fails ---


async def test_a_busy_prefill_worker_is_passed_over() -> None:
    async with open_cluster("p1 p2 d1") as cluster:
        cluster["p1"].behaviour.refusal = Fault.PREFILL_BUSY

        assert (await cluster.ask()).served == ("disaggregated", "p2", "d1", None)


FAILED = [
    ({"refusal": Fault.PREFILL_BUSY}, "prefill-refused"),
    ({"refusal": Fault.DRAINING}, "prefill-refused"),
    ({"status": 500}, "prefill-failed"),
    ({"drops": True}, "prefill-failed"),
    ({"omits_params": True}, "invalid-params"),
]


@pytest.mark.parametrize(("behaviour", "reason"), FAILED)
async def test_without_leg_1_the_decode_worker_computes_and_says_why(
    behaviour: dict[str, Any], reason: str
) -> None:
    async with open_cluster("p1 d1") as cluster:
        for name, value in behaviour.items():
            setattr(cluster["p1"].behaviour, name, value)
        seen = await cluster.ask()

        assert seen.status == 200
        assert seen.served == ("fallback", None, "d1", reason)
        assert len(cluster["p1"].received) == 1
        assert "kv_transfer_params" not in cluster["d1"].received[0].body
        labels = {"mode": "fallback", "reason": reason, "status": "2xx"}
        await eventually(lambda: cluster.metric("requests_total", **labels) == 1)


async def test_a_prefill_worker_that_cannot_be_reached_is_suspect_for_a_while() -> None:
    async with open_cluster("p1 p2 d1") as cluster:
        gone = msgspec.structs.replace(cluster["p1"].worker, address="http://127.0.0.1:1")
        cluster["p1"].worker = gone
        cluster.follow("p1", "p2", "d1")
        first, second, third = [await cluster.ask() for _ in range(3)]

        assert {seen.served[1] for seen in (first, second, third)} == {"p2"}
        labels = {"leg": "1", "kind": "unreachable"}
        assert cluster.metric("upstream_errors_total", **labels) == 1


async def test_a_suspect_worker_is_trusted_again() -> None:
    async with open_cluster("p1 d1", suspect_seconds=0.05) as cluster:
        right = cluster["p1"].worker
        cluster["p1"].worker = msgspec.structs.replace(right, address="http://127.0.0.1:1")
        cluster.follow("p1", "d1")
        during = await cluster.ask()
        cluster["p1"].worker = right
        cluster.follow("p1", "d1")
        await asyncio.sleep(0.1)

        assert during.served[0] == "fallback"
        assert (await cluster.ask()).served[0] == "disaggregated"


async def test_a_leg_1_that_takes_too_long_is_given_up() -> None:
    async with open_cluster("p1 d1", leg_1_timeout_seconds=0.1) as cluster:
        cluster["p1"].behaviour.gate.clear()

        assert (await cluster.ask()).served == ("fallback", None, "d1", "prefill-failed")
        await eventually(lambda: cluster["p1"].aborted == 1)


async def test_what_the_engine_refuses_in_leg_1_is_the_answer() -> None:
    async with open_cluster("p1 p2 d1") as cluster:
        for name in ("p1", "p2"):
            cluster[name].behaviour.status = 400
        seen = await cluster.ask()

        assert (seen.status, seen.error["message"]) == (400, "as vLLM says")
        assert len(cluster["p1"].received) + len(cluster["p2"].received) == 1
        assert not cluster.leg_2s


async def test_no_prefill_worker_is_an_error_where_that_is_set() -> None:
    async with open_cluster("d1", on_no_prefill="fail") as cluster:
        seen = await cluster.ask()

        assert (seen.status, seen.error["code"]) == (503, "no_worker")


# --- leg 2 fails ---


@pytest.mark.parametrize("refusal", [Fault.DECODE_BUSY, Fault.DRAINING])
async def test_a_refusing_decode_worker_is_replaced_and_the_blocks_are_used(refusal: Fault) -> None:
    async with open_cluster("p1 d1 d2") as cluster:
        cluster["d1"].behaviour.refusal = refusal
        seen = await cluster.ask()

        assert seen.served == ("disaggregated", "p1", "d2", None)
        assert cluster["d2"].received[0].params["remote_engine_id"] == "p1"
        assert not cluster.leases


async def test_a_decode_worker_that_cannot_be_reached_is_replaced() -> None:
    async with open_cluster("p1 d1 d2") as cluster:
        gone = msgspec.structs.replace(cluster["d1"].worker, address="http://127.0.0.1:1")
        cluster["d1"].worker = gone
        cluster.follow("p1", "d1", "d2")

        assert (await cluster.ask()).served == ("disaggregated", "p1", "d2", None)


@pytest.mark.parametrize("behaviour", [{"status": 500}, {"drops": True}])
async def test_a_failed_transfer_is_computed_again_and_released(behaviour: dict[str, Any]) -> None:
    async with open_cluster("p1 d1 d2") as cluster:
        for name, value in behaviour.items():
            setattr(cluster["d1"].behaviour, name, value)
        seen = await cluster.ask()
        await eventually(lambda: not cluster.leases)

        assert seen.status == 200
        assert seen.served == ("fallback", None, "d2", "transfer-failed")
        assert cluster.metric("releases_total", outcome="released") == 1


ALL_FAIL = [
    ({"drops": True}, 502, "engine_failed"),
    ({"status": 500}, 500, "engine_failed"),
    ({"refusal": Fault.DECODE_BUSY}, 429, "decode_busy"),
    ({"refusal": Fault.DRAINING}, 503, "draining"),
]


@pytest.mark.parametrize(("behaviour", "status", "code"), ALL_FAIL)
async def test_with_no_decode_worker_left_the_last_error_is_told(
    behaviour: dict[str, Any], status: int, code: str
) -> None:
    async with open_cluster("p1 d1 d2") as cluster:
        for engine in (cluster["d1"], cluster["d2"]):
            for name, value in behaviour.items():
                setattr(engine.behaviour, name, value)
        seen = await cluster.ask()
        await eventually(lambda: cluster.metric("releases_total", outcome="release_failed"))

        assert (seen.status, seen.error["code"]) == (status, code)
        assert ("Retry-After" in seen.headers) == ("refusal" in behaviour)


async def test_a_decode_worker_that_refused_is_not_asked_again() -> None:
    async with open_cluster("d1", disaggregate=False) as cluster:
        cluster["d1"].behaviour.refusal = Fault.DECODE_BUSY

        assert (await cluster.ask()).status == 429
        assert len(cluster["d1"].received) == 1


async def test_an_engine_error_keeps_its_status_and_message() -> None:
    async with open_cluster("d1", disaggregate=False) as cluster:
        cluster["d1"].behaviour.status = 400
        seen = await cluster.ask()

        assert (seen.status, seen.error["message"]) == (400, "as vLLM says")
        assert len(cluster["d1"].received) == 1


async def test_a_stream_that_breaks_before_its_first_byte_is_begun_anew() -> None:
    async with open_cluster("d1 d2", disaggregate=False) as cluster:
        cluster["d1"].behaviour.cut_after_chunks = 0
        seen = await cluster.ask(stream=True)

        assert seen.served == ("aggregated", None, "d2", None)
        assert seen.body.endswith(b"data: [DONE]\n\n")


async def test_a_stream_that_begins_with_a_failed_transfer_is_computed_again() -> None:
    async with open_cluster("p1 d1") as cluster:
        cluster["d1"].behaviour.fails_to_load = True
        seen = await cluster.ask(stream=True)

        assert seen.served == ("fallback", None, "d1", "transfer-failed")
        assert b"error" not in seen.body
        assert seen.body.endswith(b"data: [DONE]\n\n")


async def test_a_stream_that_breaks_later_ends_with_an_error_event() -> None:
    async with open_cluster("d1", disaggregate=False) as cluster:
        cluster["d1"].behaviour.cut_after_chunks = 2
        seen = await cluster.ask(stream=True)

        *data, error, done, _ = seen.body.split(b"\n\n")
        assert data == [b'data: {"token": 0}', b'data: {"token": 1}']
        assert json.loads(error.removeprefix(b"data: "))["error"]["code"] == "engine_failed"
        assert done == b"data: [DONE]"


async def test_an_answer_that_is_too_large_to_hold_is_an_error() -> None:
    async with open_cluster("d1", disaggregate=False, max_answer_bytes=10) as cluster:
        assert (await cluster.ask()).status == 502


@pytest.mark.parametrize("stream", [False, True])
async def test_the_deadline_ends_a_request_that_hangs(stream: bool) -> None:
    async with open_cluster("p1 d1", request_timeout_seconds=0.2) as cluster:
        cluster["d1"].behaviour.gate.clear()
        seen = await cluster.ask(stream=stream)

        assert (seen.status, seen.error["code"]) == (504, "deadline_exceeded")
        await eventually(lambda: cluster["d1"].aborted == 1)


async def test_the_deadline_ends_a_request_that_waits() -> None:
    settings = {"request_timeout_seconds": 0.2, "max_unprefilled": 1}
    async with open_cluster("p1 d1", **settings) as cluster:
        cluster["p1"].behaviour.gate.clear()
        both = await asyncio.gather(cluster.ask(), cluster.ask())
        cluster["p1"].behaviour.gate.set()

        assert {seen.status for seen in both} == {504}
        await eventually(lambda: cluster.leg_2s and not cluster.leases)


async def test_the_deadline_ends_a_stream_with_an_error_event() -> None:
    async with open_cluster("p1 d1", request_timeout_seconds=0.2) as cluster:
        cluster["d1"].behaviour.pause_after_chunks = 1
        seen = await cluster.ask(stream=True)

        assert b'"deadline_exceeded"' in seen.body
        assert seen.body.endswith(b"data: [DONE]\n\n")


# --- the client leaves ---


async def test_a_client_that_leaves_the_queue_costs_no_worker_anything() -> None:
    async with open_cluster("p1 d1", max_unprefilled=1) as cluster:
        cluster["p1"].behaviour.gate.clear()
        first = asyncio.create_task(cluster.ask())
        await eventually(lambda: cluster["p1"].running)
        writer = await cluster.leaving_client()
        await eventually(lambda: cluster.metric("queued") == 1)
        await leave(writer)
        await eventually(lambda: cluster.metric("queued") == 0)
        cluster["p1"].behaviour.gate.set()

        assert (await first).status == 200
        assert len(cluster["p1"].received) == 1
        labels = {"mode": "none", "reason": "", "status": "left"}
        await eventually(lambda: cluster.metric("requests_total", **labels) == 1)


async def test_a_client_that_leaves_during_leg_1_has_its_blocks_released_after_it() -> None:
    async with open_cluster("p1 d1") as cluster:
        cluster["p1"].behaviour.gate.clear()
        writer = await cluster.leaving_client(max_tokens=50)
        await eventually(lambda: cluster["p1"].running)
        await leave(writer)
        labels = {"mode": "disaggregated", "reason": "", "status": "left"}
        await eventually(lambda: cluster.metric("requests_total", **labels))
        still_counted = not cluster.is_idle()
        cluster["p1"].behaviour.gate.set()
        await eventually(lambda: cluster.metric("releases_total", outcome="released"))

        assert still_counted
        assert cluster["p1"].aborted == 0
        assert [received.body["max_tokens"] for received in cluster.leg_2s] == [1]
        assert not cluster.leases


async def test_a_release_finds_another_decode_worker() -> None:
    async with open_cluster("p1 d1 d2") as cluster:
        cluster["d1"].behaviour.drops = True
        cluster["p1"].behaviour.gate.clear()
        writer = await cluster.leaving_client()
        await eventually(lambda: cluster["p1"].running)
        await leave(writer)
        cluster["p1"].behaviour.gate.set()
        await eventually(lambda: cluster.metric("releases_total", outcome="released"))

        assert not cluster.leases


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_before_leg_2_answers_aborts_it(stream: bool) -> None:
    async with open_cluster("p1 d1") as cluster:
        cluster["d1"].behaviour.gate.clear()
        writer = await cluster.leaving_client(stream=stream)
        await eventually(lambda: cluster["d1"].running)
        await leave(writer)

        await eventually(lambda: cluster["d1"].aborted == 1)
        await eventually(cluster.is_idle)
        assert len(cluster.leg_2s) == 1


async def test_a_client_that_leaves_in_mid_stream_aborts_it() -> None:
    async with open_cluster("p1 d1") as cluster:
        cluster["d1"].behaviour.pause_after_chunks = 1
        writer = await cluster.leaving_client(stream=True)
        await eventually(lambda: cluster.metric("ttft_seconds_count"))
        await leave(writer)

        await eventually(lambda: cluster["d1"].aborted == 1)


async def test_a_client_that_leaves_in_mid_body_leaves_nothing() -> None:
    async with open_cluster("p1 d1") as cluster:
        host, port = cluster.gateway.url.removeprefix("http://").split(":")
        _, writer = await asyncio.open_connection(host, int(port))
        head = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        writer.write(f'{head}Content-Length: 100\r\n\r\n{{"model"'.encode())
        await writer.drain()
        await leave(writer)

        assert (await cluster.ask()).status == 200


# --- what else is there to read ---


async def test_the_models_are_those_of_the_workers() -> None:
    async with open_cluster("p1 d1") as cluster:
        async with cluster.client.get(f"{cluster.gateway.url}/v1/models") as response:
            models = await response.json()
        async with cluster.client.get(f"{cluster.gateway.url}/v1/models/{MODEL}") as response:
            model = await response.json()

        assert models == {"object": "list", "data": [model]}
        assert (model["id"], model["object"]) == (MODEL, "model")


async def test_ready_says_what_is_missing() -> None:
    async with open_cluster("p1 d1") as cluster:

        async def ready() -> tuple[int, list[str]]:
            async with cluster.client.get(f"{cluster.gateway.url}/ready") as response:
                return response.status, (await response.json())["missing"]

        cluster.follow()
        nobody = await ready()
        cluster.follow("d1")
        half = await ready()
        cluster.follow("p1", "d1")
        whole = await ready()
        cluster.follow("d1")
        half_again = await ready()

        assert nobody == (503, ["decode worker", "prefill worker"])
        assert half == (503, ["prefill worker"])
        assert whole == (200, [])
        assert half_again == (200, ["prefill worker"])
        async with cluster.client.get(f"{cluster.gateway.url}/health") as response:
            assert response.status == 200


async def test_a_worker_that_leaves_takes_its_labels_with_it() -> None:
    async with open_cluster("p1 d1") as cluster:
        await cluster.ask()
        async with cluster.client.get(f"{cluster.gateway.url}/metrics") as response:
            before = await response.text()
        cluster.follow("d1")
        after = cluster.gateway.metrics.text().decode()

        assert 'worker_in_flight{phase="prefill",worker="p1"} 0.0' in before
        assert 'worker="p1"' not in after


# --- shutdown ---


async def test_a_stream_in_flight_is_finished_at_shutdown() -> None:
    async with open_cluster("p1 d1", drain_timeout_seconds=10.0) as cluster:
        behaviour = cluster["d1"].behaviour
        behaviour.pause_after_chunks = 1
        asking = asyncio.create_task(cluster.ask(stream=True))
        await eventually(lambda: cluster.metric("ttft_seconds_count"))
        cluster_is_idle, cluster.is_idle = cluster.is_idle, lambda: True  # type: ignore[method-assign]
        asyncio.get_running_loop().call_later(0.1, behaviour.gate.set)

    assert (await asking).body.endswith(b"data: [DONE]\n\n")
    assert cluster_is_idle()
