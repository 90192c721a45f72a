"""Doubles of what a router talks to: an engine without a model, and workers to announce."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import msgspec
from aiohttp import web

from twofold_cluster.errors import Fault, RequestError
from twofold_cluster.identity import Incarnation, Role, WorkerId
from twofold_cluster.legs import Api
from twofold_cluster.worker import Engine, Worker

MODEL = "fake-model"


def make_worker(
    worker_id: str,
    role: Role,
    *,
    address: str = "http://127.0.0.1:1",
    incarnation: str = "1",
    revision: str = "r1",
    compatibility: str = "c1",
    model: str = MODEL,
    service: str = "fake-service",
) -> Worker:
    """Make a ready, idle worker."""
    return Worker(
        worker_id=WorkerId(worker_id),
        incarnation=Incarnation(incarnation),
        service=service,
        role=role,
        revision=revision,
        address=address,
        model=model,
        engine=Engine(version="0", compatibility=compatibility),
        kv_capacity_tokens=100_000,
        kv_block_tokens=16,
        max_model_tokens=8192,
    )


@dataclass(frozen=True, slots=True)
class Received:
    """One request as an engine got it."""

    path: str
    request_id: str | None
    body: dict[str, Any]

    @property
    def params(self) -> dict[str, Any]:
        return self.body.get("kv_transfer_params") or {}

    @property
    def is_leg_1(self) -> bool:
        return bool(self.params.get("do_remote_decode"))


@dataclass(slots=True)
class Behaviour:
    """How an engine misbehaves; by default it does not."""

    refusal: Fault | None = None
    """Answer every request with this."""
    status: int | None = None
    """Answer every request as vLLM does with an error of this status."""
    drops: bool = False
    """Close the connection without an answer."""
    omits_params: bool = False
    fails_to_load: bool = False
    """Tell of a failed transfer as vLLM does in a stream: status 200, the first event an error."""
    cut_after_chunks: int | None = None
    """Close the connection in the middle of a stream."""
    pause_after_chunks: int | None = None
    """Wait in the middle of a stream until the gate opens."""
    token_count: int = 3
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    """Closed: requests wait before they are answered."""

    def __post_init__(self) -> None:
        self.gate.set()


class FakeEngine:
    """Speaks as much of vLLM's API as a router uses.

    Blocks that leg 1 leaves are in ``leases`` until a leg 2 with their params comes to any engine
    of the same *network*.
    """

    def __init__(self, worker: Worker, network: "dict[str, FakeEngine]") -> None:
        self.worker = worker
        self.behaviour = Behaviour()
        self.received: list[Received] = []
        self.leases: set[str] = set()
        self.running = 0
        self.aborted = 0
        self._network = network
        self._serial = count()
        network[worker.worker_id] = self

    def application(self) -> web.Application:
        app = web.Application(client_max_size=0)
        for api in Api:
            app.router.add_post(str(api), self._serve)
        return app

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        body = msgspec.json.decode(await request.read())
        received = Received(request.path, request.headers.get("X-Request-Id"), body)
        self.received.append(received)
        self.running += 1
        try:
            await self.behaviour.gate.wait()
            return await self._answer(request, received)
        except asyncio.CancelledError:
            self.aborted += 1
            raise
        finally:
            self.running -= 1

    async def _answer(self, request: web.Request, received: Received) -> web.StreamResponse:
        behaviour = self.behaviour
        if behaviour.drops:
            return _drop(request)
        if behaviour.refusal is not None:
            error = RequestError(behaviour.refusal, "refused")
            headers = {"Retry-After": "7"}
            return _json(error.body(), status=behaviour.refusal.status, headers=headers)
        if behaviour.status is not None:
            error_body = {"message": "as vLLM says", "type": "Bad", "param": None}
            body = msgspec.json.encode({"error": {**error_body, "code": behaviour.status}})
            return _json(body, status=behaviour.status)
        self._read_blocks(received)
        if received.body.get("stream"):
            return await self._stream(request, received)
        return _json(msgspec.json.encode(self._result(received)))

    def _read_blocks(self, received: Received) -> None:
        source = self._network.get(str(received.params.get("remote_engine_id")))
        if source is not None:
            source.leases.discard(str(received.params["remote_request_id"]))

    def _result(self, received: Received) -> dict[str, Any]:
        result: dict[str, Any] = {
            "id": received.request_id,
            "by": self.worker.worker_id,
            "choices": [],
        }
        if received.is_leg_1 and not self.behaviour.omits_params:
            lease = f"{self.worker.worker_id}-{next(self._serial)}"
            self.leases.add(lease)
            result["kv_transfer_params"] = {
                "do_remote_prefill": True,
                "do_remote_decode": False,
                "remote_engine_id": self.worker.worker_id,
                "remote_request_id": lease,
                "remote_block_ids": [[1, 2]],
                "remote_host": "127.0.0.1",
                "remote_port": 5600,
            }
        return result

    async def _stream(self, request: web.Request, received: Received) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
        await response.prepare(request)
        if self.behaviour.fails_to_load and received.params:
            error = {"message": "KV load failure", "type": "InternalServerError", "code": 500}
            await response.write(b"data: " + msgspec.json.encode({"error": error}) + b"\n\n")
            await response.write(b"data: [DONE]\n\n")
            return response
        for number in range(self.behaviour.token_count):
            if number == self.behaviour.cut_after_chunks:
                return _drop(request)
            if number == self.behaviour.pause_after_chunks:
                self.behaviour.gate.clear()
                await self.behaviour.gate.wait()
            await response.write(b'data: {"token": %d}\n\n' % number)
        await response.write(b"data: [DONE]\n\n")
        return response


@asynccontextmanager
async def serve_engine(engine: FakeEngine) -> AsyncIterator[FakeEngine]:
    """Serve *engine* on a free port, which becomes its worker's address."""
    runner = web.AppRunner(
        engine.application(), handler_cancellation=True, access_log=None, shutdown_timeout=0.05
    )
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        address = f"http://127.0.0.1:{runner.addresses[0][1]}"
        engine.worker = msgspec.structs.replace(engine.worker, address=address)
        yield engine
    finally:
        await runner.cleanup()


def _json(
    body: bytes, *, status: int = 200, headers: dict[str, str] | None = None
) -> web.StreamResponse:
    return web.Response(status=status, body=body, content_type="application/json", headers=headers)


def _drop(request: web.Request) -> web.StreamResponse:
    if request.transport is not None:
        request.transport.abort()
    raise ConnectionResetError("dropped on purpose")
