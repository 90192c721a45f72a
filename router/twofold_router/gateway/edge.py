"""The routes, and the account of every request: its id, its caller, its errors, its count."""

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import unquote

import msgspec

from twofold_cluster.apis import Api, PassedOnApi
from twofold_cluster.errors import Fault, RequestError
from twofold_cluster.logs import REQUEST_ID
from twofold_router.access import Caller
from twofold_router.gateway.admitting import Admitting, Bill
from twofold_router.gateway.cors import Cors
from twofold_router.gateway.exchange import Exchange
from twofold_router.gateway.parsing import max_output_tokens, parse_call, request_id_from
from twofold_router.gateway.passing_on import METADATA, pass_on
from twofold_router.gateway.readiness import ReadinessCheck, model_card
from twofold_router.gateway.reply import (
    JSON_HEADER,
    Reply,
    WholeAnswer,
    WrongMethodError,
    answer_of,
)
from twofold_router.gateway.resources import Resources
from twofold_router.gateway.targets import targets
from twofold_router.gateway.usage import usage_of
from twofold_router.http import Request, Responder
from twofold_router.metrics import CONTENT_TYPE

_APIS: Mapping[str, Api | PassedOnApi] = {api.value: api for api in (*Api, *PassedOnApi)}
_MODELS = "/v1/models"
_MODEL = "/v1/models/"
_RESPONSE = f"{Api.RESPONSES}/"
_TARGETS = "/metrics/targets"
_OPERATORS_PATHS = frozenset({"/ready", "/metrics", _TARGETS})
"""They need no key, and tell of the workers: no page is to read them, whoever opens it near us."""
_OWN_PATHS = _OPERATORS_PATHS | {"/health", _MODELS}
_TEXT = ((b"content-type", CONTENT_TYPE.encode()),)

ReadMetrics = Callable[[], Awaitable[bytes]]
"""Writes the metrics of the whole router, of which this process may be a part."""


class Edge:
    """Turns HTTP requests into exchanges, and errors into OpenAI's."""

    def __init__(
        self,
        resources: Resources,
        admitting: Admitting,
        read_metrics: ReadMetrics,
        readiness: ReadinessCheck,
        cors: Cors | None = None,
    ) -> None:
        """Without *cors* no page of another origin may read the answers."""
        self._resources = resources
        self._admitting = admitting
        self._read_metrics = read_metrics
        self._readiness = readiness
        self._cors = cors
        self._began_at = int(time.time())

    def wants_body(self, request: Request) -> bool:
        """Tell whether the answer to *request* takes more than its head: not for whom we do not
        know, so that they have no memory of ours."""
        if _path_of(request) not in _APIS or request.method != "POST":
            return False
        try:
            self._admitting.identify(request.headers)
        except RequestError:
            return False
        return True

    async def handle(self, request: Request, responder: Responder) -> None:
        """Answer *request*."""
        headers = request.headers
        request_id = request_id_from(headers.get(b"x-request-id"))
        REQUEST_ID.set(request_id)
        path = _path_of(request)
        api = _APIS.get(path)
        reply = Reply(responder, request_id, path)
        preflight = None
        if self._cors is not None and path not in _OPERATORS_PATHS:
            reply.add_headers(self._cors.headers(headers))
            preflight = self._cors.preflight(request)
        try:
            if preflight is not None:
                reply.send(preflight)
            elif api is None:
                reply.send(await self._answer(request, path))
            elif request.method != "POST":
                raise WrongMethodError(request.method, "POST")
            else:
                await self._serve(request, reply, api)
        except RequestError as error:
            self._refuse(reply, error)

    async def _serve(self, request: Request, reply: Reply, api: Api | PassedOnApi) -> None:
        """Answer a request for an engine, and count it."""
        try:
            await self._have_served(request, reply, api)
            # Else one who stops to read would count as one who was told.
            await reply.responder.taken()
        finally:
            self._resources.metrics.request(reply.dispatch, reply.outcome())

    async def _have_served(self, request: Request, reply: Reply, api: Api | PassedOnApi) -> None:
        """Answer a request for an engine, and settle what it is charged."""
        resources = self._resources
        arrived_at = resources.desk.now()
        bill: Bill | None = None
        try:
            caller = self._admitting.identify(request.headers)
            terms = self._admitting.terms(request.headers, caller)
            call = parse_call(
                request,
                reply.request_id,
                api,
                caller,
                terms,
                arrived_at,
                self._only_model_for,
            )
            self._require_model(call.model, caller)
            generates = isinstance(api, Api)
            bill = await self._admitting.charge(
                caller, request.body, max_output_tokens(call.fields) if generates else 0
            )
            if bill is not None:
                reply.add_headers(bill.admission.headers())
            if isinstance(api, PassedOnApi):
                answer = await pass_on(resources, call)
                if bill is not None:
                    reply.used_tokens = _used_tokens(api, answer)
                reply.send(answer)
            else:
                await Exchange(resources, call, reply).run()
        except RequestError as error:
            self._refuse(reply, error)
        finally:
            if bill is not None:
                bill.used_tokens = reply.used_tokens
                self._admitting.settle(bill)

    def _refuse(self, reply: Reply, error: RequestError) -> None:
        self._resources.metrics.refusal(error.fault.code)
        reply.send(answer_of(error))

    def _names_for(self, caller: Caller) -> list[str]:
        """Return the models that *caller* may know of."""
        names = self._resources.desk.models
        return [name for name in names if caller.models is None or name in caller.models]

    def _only_model_for(self, caller: Caller) -> str:
        """Return the model of a request that names none, which vLLM serves too: its only one, and
        not its adapters or its other names.

        Raises:
            RequestError: there is none just now, or not one alone that *caller* may ask for.
        """
        models = {worker.model for worker in self._resources.desk.workers}
        if not models:
            raise RequestError(Fault.NO_WORKER, "no worker is known yet", retry_after_seconds=1)
        may = models if caller.models is None else models & caller.models
        if len(may) != 1:
            message = "model must be a text, unless one model alone is served"
            raise RequestError(Fault.INVALID_REQUEST, message, param="model")
        return may.pop()

    def _require_model(self, name: str, caller: Caller) -> None:
        if name in self._resources.desk.models:
            return  # whether the caller may was seen to before
        names = self._names_for(caller)
        if not names:
            raise RequestError(Fault.NO_WORKER, "no worker is known yet", retry_after_seconds=1)
        if name not in names:
            message = f"the model {name[:200]!r} does not exist; there is {', '.join(names)}"
            raise RequestError(Fault.UNKNOWN_MODEL, message, param="model")

    async def _answer(self, request: Request, path: str) -> WholeAnswer:
        """Answer what is for the router itself."""
        if path.startswith(_RESPONSE):
            self._admitting.identify(request.headers)
            name = unquote(path.removeprefix(_RESPONSE).partition("/")[0])[:200]
            message = f"there is no response {name!r}: responses are not stored"
            raise RequestError(Fault.UNKNOWN_PATH, message, param="response_id")
        if path not in _OWN_PATHS and not path.startswith(_MODEL):
            raise RequestError(Fault.UNKNOWN_PATH, f"there is nothing at {path[:200]}")
        if request.method not in ("GET", "HEAD"):
            raise WrongMethodError(request.method, "GET, HEAD")
        if path == "/health":
            return _json({"status": "alive"})
        if path == "/metrics":
            return WholeAnswer(200, _TEXT, await self._read_metrics())
        desk = self._resources.desk
        if path == _TARGETS:
            return _json(targets(desk.workers))
        if path == "/ready":
            readiness = self._readiness.check(desk.workers, desk.is_stale)
            return _json(readiness.body(), status=200 if readiness.ready else 503)
        caller = self._admitting.identify(request.headers)
        names = self._names_for(caller)
        if path == _MODELS:
            return _json({"object": "list", "data": [self._card(name) for name in names]})
        name = unquote(path.removeprefix(_MODEL))
        if caller.models is not None and name not in caller.models:
            raise RequestError(Fault.UNKNOWN_MODEL, f"the model {name[:200]!r} does not exist")
        self._require_model(name, caller)
        return _json(self._card(name))

    def _card(self, name: str) -> dict[str, Any]:
        desk = self._resources.desk
        return model_card(name, desk.models[name], self._began_at, desk.workers)


def _path_of(request: Request) -> str:
    """Return what *request* asks for. A slash too many at its end is none: vLLM sends
    its clients on from there."""
    return request.path.removesuffix("/") or "/"


def _used_tokens(api: PassedOnApi, answer: WholeAnswer) -> int | None:
    """Return what *answer* has cost, None where vLLM does not tell (``bytes_only``)."""
    if api is not PassedOnApi.EMBEDDINGS:
        return 0
    usage = usage_of(dict(answer.headers).get(METADATA, answer.body))
    return usage.total_tokens if usage else None


def _json(value: object, *, status: int = 200) -> WholeAnswer:
    return WholeAnswer(status, (JSON_HEADER,), msgspec.json.encode(value))
