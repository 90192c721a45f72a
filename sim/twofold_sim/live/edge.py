"""The routes of one engine."""

import asyncio
import re
import secrets
from collections.abc import Mapping
from typing import Any

import msgspec

from twofold_cluster.apis import Api, PassedOnApi
from twofold_cluster.errors import Fault, RequestError
from twofold_cluster.logs import REQUEST_ID
from twofold_router.http import HeaderPairs, RefusedError, Request, Responder
from twofold_sim.live.adapters import LOAD_PATH, UNLOAD_PATH, load_adapter, unload_adapter
from twofold_sim.live.choices import Chat, Completions
from twofold_sim.live.engine import SimEngine
from twofold_sim.live.errors import BadRequestError, EngineFaultError, UnavailableError
from twofold_sim.live.exchange import JSON, Exchange
from twofold_sim.live.faults import FaultOrder
from twofold_sim.live.messages import Messages
from twofold_sim.live.metrics import CONTENT_TYPE
from twofold_sim.live.ordering import Dialect
from twofold_sim.live.responses import Responses
from twofold_sim.live.tokenizing import answer_count_tokens, answer_detokenize, answer_tokenize

VERSION = "0.32.0"
"""Of vLLM, whose API it is."""

FAULTS_PATH = "/sim/faults"

_DIALECTS: Mapping[str, Dialect] = {
    Api.CHAT: Chat(),
    Api.COMPLETIONS: Completions(),
    Api.RESPONSES: Responses(),
    Api.MESSAGES: Messages(),
}
_REQUEST_ID = re.compile(rb"[\x21-\x7e]{1,200}")

_encode = msgspec.json.Encoder().encode
_decode_faults = msgspec.json.Decoder(list[FaultOrder]).decode


class Edge:
    """Answers the requests to one engine."""

    def __init__(self, engine: SimEngine) -> None:
        self._engine = engine

    async def handle(self, request: Request, responder: Responder) -> None:
        """Answer *request*."""
        dialect = _DIALECTS.get(request.path)
        try:
            if dialect is None:
                self._answer_plain(request, responder)
            elif request.method != "POST":
                _send(responder, 405, {"detail": "Method Not Allowed"})
            else:
                await self._serve(dialect, request, responder)
        except EngineFaultError as error:
            body = error.body() if dialect is None else dialect.refused(error)
            responder.send(error.status, [JSON], body)

    async def _serve(self, dialect: Dialect, request: Request, responder: Responder) -> None:
        engine = self._engine
        request_id = _request_id(request)
        REQUEST_ID.set(request_id)
        if (fault := engine.gate.why_not(engine.role)) is not None:
            _refuse(responder, fault)
            return
        if engine.faults.strike("reset"):
            responder.abort()
            return
        if refusal := engine.faults.strike("refuse"):
            raise _RefusedOnOrderError(refusal)
        order = dialect.read(request.body)
        exchange = Exchange(engine, dialect, order, request_id, responder)
        if engine.faults.strike("hang"):
            await asyncio.get_running_loop().create_future()
        if order.asks_for_blocks and engine.faults.strike("crash-before-leg-1"):
            engine.crashed.set()
            await asyncio.get_running_loop().create_future()
        await exchange.run()
        if order.asks_for_blocks and engine.faults.strike("crash-after-leg-1"):
            engine.crashed.set()

    def _answer_plain(self, request: Request, responder: Responder) -> None:
        """Answer what generates nothing."""
        engine, path = self._engine, request.path
        if path == FAULTS_PATH:
            if request.method == "POST":
                self._order_faults(request.body)
            _send(responder, 200, engine.faults.snapshot())
        elif path in (LOAD_PATH, UNLOAD_PATH) and request.method == "POST":
            change = load_adapter if path == LOAD_PATH else unload_adapter
            text = change(engine, request.body)
            responder.send(200, [(b"content-type", b"text/plain; charset=utf-8")], text.encode())
        elif path == PassedOnApi.TOKENIZE:
            _send(responder, 200, answer_tokenize(engine, request.body))
        elif path == PassedOnApi.DETOKENIZE:
            _send(responder, 200, answer_detokenize(engine, request.body))
        elif path == PassedOnApi.COUNT_TOKENS:
            _send(responder, 200, answer_count_tokens(engine, request.body))
        elif path == "/reset_prefix_cache" and request.method == "POST":
            engine.clear_cache()
            responder.send(200, (), b"")
        elif path in ("/health", "/ping"):
            responder.send(200, (), b"")
        elif path == "/metrics":
            headers = [(b"content-type", CONTENT_TYPE.encode())]
            responder.send(200, headers, engine.metrics.page())
        elif path == "/v1/models":
            _send(responder, 200, {"object": "list", "data": _cards(engine)})
        elif path == "/version":
            _send(responder, 200, {"version": VERSION})
        elif path == "/load":
            _send(responder, 200, {"server_load": engine.gate.request_count})
        else:
            _send(responder, 404, {"detail": "Not Found"})

    def _order_faults(self, body: bytes) -> None:
        try:
            orders = _decode_faults(body)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise BadRequestError(str(error)) from error
        self._engine.order_faults(orders)


class _RefusedOnOrderError(UnavailableError):
    """A refusal that somebody has ordered."""

    def __init__(self, order: FaultOrder) -> None:
        super().__init__("refused, as was ordered")
        self.status = order.status


def answer_of_refusal(refused: RefusedError) -> tuple[HeaderPairs, bytes]:
    """Answer a request that no handler sees."""
    code = refused.kind.value
    error = {"message": refused.message, "type": "BadRequestError", "param": None, "code": code}
    return [JSON], _encode({"error": error})


def _refuse(responder: Responder, fault: Fault) -> None:
    """Refuse as a worker of Twofold does."""
    error = RequestError(fault, f"this worker refuses new requests: {fault.code}")
    headers = [
        JSON,
        (b"retry-after", b"1"),
        (b"x-llm-d-request-dropped-reason", fault.code.replace("_", "-").encode()),
    ]
    responder.send(fault.status, headers, error.body())


def _request_id(request: Request) -> str:
    given = request.headers.get(b"x-request-id", b"")
    return given.decode() if _REQUEST_ID.fullmatch(given) else secrets.token_hex(16)


def _cards(engine: SimEngine) -> list[dict[str, Any]]:
    settings = engine.settings
    base = {
        "object": "model",
        "created": int(engine.started_at),
        "owned_by": "vllm",
        "root": settings.model,
    }
    cards: list[dict[str, Any]] = [
        {
            "id": settings.model,
            **base,
            "parent": None,
            "max_model_len": settings.max_model_tokens,
        }
    ]
    return cards + [
        {"id": name, **base, "root": source, "parent": settings.model, "max_model_len": None}
        for name, source in engine.adapters.items()
    ]


def _send(responder: Responder, status: int, told: object) -> None:
    responder.send(status, [JSON], _encode(told))
