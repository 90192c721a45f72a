"""The routes, and the account of every request: its id, its errors, its count."""

import logging
import time
from collections.abc import Awaitable, Callable

import msgspec
from aiohttp import web

from twofold_cluster.errors import Fault, RequestError
from twofold_cluster.legs import Api
from twofold_cluster.logs import REQUEST_ID
from twofold_router.gateway.exchange import Exchange
from twofold_router.gateway.http_reply import HttpReply
from twofold_router.gateway.parsing import parse_call, request_id_from
from twofold_router.gateway.readiness import ReadinessCheck, model_card, model_names
from twofold_router.gateway.receiving import receive_body
from twofold_router.gateway.reply import JSON, ClientGoneError, answer_of
from twofold_router.gateway.resources import Resources
from twofold_router.metrics import CONTENT_TYPE
from twofold_router.placement import Dispatch

_log = logging.getLogger(__name__)

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_REPLY = web.RequestKey("reply", HttpReply)
_EXCHANGE = web.RequestKey("exchange", Exchange)

_APIS = {str(api): api for api in Api}


class HttpEdge:
    """Turns HTTP requests into exchanges, and errors into OpenAI's."""

    def __init__(self, resources: Resources, is_stale: Callable[[], bool]) -> None:
        self._resources = resources
        self._is_stale = is_stale
        self._readiness = ReadinessCheck(resources.settings)
        self._began_at = int(time.time())

    def application(self) -> web.Application:
        app = web.Application(middlewares=[self._account])
        for path in _APIS:
            app.router.add_post(path, self._exchange)
        app.router.add_get("/v1/models", self._models)
        app.router.add_get("/v1/models/{name:.+}", self._model)
        app.router.add_get("/health", self._health)
        app.router.add_get("/ready", self._ready)
        app.router.add_get("/metrics", self._metrics)
        return app

    @web.middleware
    async def _account(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        """Name, answer and count one request, whatever happens to it."""
        request_id = request_id_from(request.headers.get("x-request-id"))
        REQUEST_ID.set(request_id)
        reply = request[_REPLY] = HttpReply(request, {"x-request-id": request_id})
        status = "left"
        try:
            response = await self._answer(request, handler, reply)
            status = f"{response.status // 100}xx"
            return response
        finally:
            if request.path in _APIS:
                dispatch = _dispatch_of(request)
                self._resources.metrics.request(dispatch, status)
                _log.debug("request over", extra={"status": status, **_placed(dispatch)})

    async def _answer(
        self, request: web.Request, handler: _Handler, reply: HttpReply
    ) -> web.StreamResponse:
        try:
            response = await handler(request)
        except ClientGoneError:
            # aiohttp would log the handler's error; there is nobody to tell it to.
            raise ConnectionResetError("the client has gone") from None
        except RequestError as error:
            return await _send_error(request, reply, error)
        except web.HTTPMethodNotAllowed as error:
            reply.add_headers({"Allow": error.headers["Allow"]})
            message = f"{request.method} is not allowed here"
            return await _send_error(request, reply, RequestError(Fault.WRONG_METHOD, message))
        except web.HTTPException as error:
            message = f"there is nothing at {request.path[:200]}"
            if error.status != 404:
                message = error.reason or ""
            return await _send_error(request, reply, RequestError(_fault_of(error), message))
        except Exception:
            _log.exception("request failed by a bug of ours")
            if reply.started:
                raise
            failure = RequestError(Fault.INTERNAL, "the router failed; see its log")
            return await _send_error(request, reply, failure)
        return response

    async def _exchange(self, request: web.Request) -> web.StreamResponse:
        resources = self._resources
        arrived_at = resources.dispatcher.now()
        raw = await receive_body(request, resources.settings)
        request_id = REQUEST_ID.get()
        assert request_id is not None
        call = parse_call(request_id, _APIS[request.path], raw, arrived_at)
        self._require_model(call.model)
        reply = request[_REPLY]
        exchange = request[_EXCHANGE] = Exchange(resources, call, reply)
        await exchange.run()
        assert reply.response is not None
        return reply.response

    def _require_model(self, name: str) -> None:
        names = model_names(self._resources.dispatcher.workers)
        if not names:
            raise RequestError(Fault.NO_WORKER, "no worker is known yet", retry_after_seconds=1)
        if name not in names:
            message = f"the model {name[:200]!r} does not exist; there is {', '.join(names)}"
            raise RequestError(Fault.UNKNOWN_MODEL, message, param="model")

    async def _models(self, _request: web.Request) -> web.StreamResponse:
        names = model_names(self._resources.dispatcher.workers)
        cards = [model_card(name, self._began_at) for name in names]
        return self._json({"object": "list", "data": cards})

    async def _model(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        if name not in model_names(self._resources.dispatcher.workers):
            raise RequestError(Fault.UNKNOWN_MODEL, f"the model {name[:200]!r} does not exist")
        return self._json(model_card(name, self._began_at))

    async def _health(self, _request: web.Request) -> web.StreamResponse:
        return self._json({"status": "alive"})

    async def _ready(self, _request: web.Request) -> web.StreamResponse:
        readiness = self._readiness.check(self._resources.dispatcher.workers, self._is_stale())
        return self._json(readiness.body(), status=200 if readiness.ready else 503)

    async def _metrics(self, _request: web.Request) -> web.StreamResponse:
        text = self._resources.metrics.text()
        return web.Response(body=text, headers={"Content-Type": CONTENT_TYPE})

    def _json(self, value: object, *, status: int = 200) -> web.Response:
        headers = {"x-request-id": REQUEST_ID.get() or ""}
        body = msgspec.json.encode(value)
        return web.Response(status=status, body=body, content_type=JSON, headers=headers)


async def _send_error(
    request: web.Request, reply: HttpReply, error: RequestError
) -> web.StreamResponse:
    exchange = request.get(_EXCHANGE)
    reply.add_headers(exchange.headers() if exchange else {})
    try:
        await reply.send(answer_of(error))
    except ClientGoneError:
        raise ConnectionResetError("the client has gone") from None
    assert reply.response is not None
    return reply.response


def _fault_of(error: web.HTTPException) -> Fault:
    by_status = {404: Fault.UNKNOWN_PATH, 413: Fault.BODY_TOO_LARGE}
    return by_status.get(error.status, Fault.INVALID_REQUEST)


def _dispatch_of(request: web.Request) -> Dispatch | None:
    exchange = request.get(_EXCHANGE)
    return exchange.dispatch if exchange else None


def _placed(dispatch: Dispatch | None) -> dict[str, str]:
    if dispatch is None:
        return {}
    return {"mode": str(dispatch.mode), "decode": dispatch.decode.worker_id}
