"""Answers that are sent in one piece, and what the router says beside them."""

from dataclasses import dataclass
from functools import lru_cache

from twofold_cluster.apis import Api
from twofold_cluster.errors import Fault, RequestError
from twofold_router.access import RateLimitedError
from twofold_router.gateway.anthropic import anthropic_error
from twofold_router.http import HeaderPairs, Refusal, RefusedError, Responder
from twofold_router.placement import Dispatch

JSON_HEADER = (b"content-type", b"application/json")

# Of a worker's answer, those that the client is to see too.
_RELAYED_HEADERS = (b"content-type", b"content-encoding", b"retry-after")

_ANTHROPICS = f"{Api.MESSAGES}/"
"""Begins the paths of Anthropic's API, with a slash at their end."""

_FAULT_OF_REFUSAL = {
    Refusal.BODY_TOO_LARGE: Fault.BODY_TOO_LARGE,
    Refusal.INTERNAL: Fault.INTERNAL,
    Refusal.TOO_MANY_CONNECTIONS: Fault.OVERLOADED,
}


class WrongMethodError(RequestError):
    """There is something at the path, but not for this method."""

    def __init__(self, method: str, allowed: str) -> None:
        super().__init__(Fault.WRONG_METHOD, f"{method} is not allowed here")
        self.allowed = allowed


@dataclass(frozen=True, slots=True)
class WholeAnswer:
    """An answer that is sent in one piece."""

    status: int
    headers: HeaderPairs
    body: bytes


class Reply:
    """The answer to one request, with what all answers carry, and what is to be counted of it."""

    __slots__ = (
        "_headers",
        "_path",
        "_status",
        "dispatch",
        "request_id",
        "responder",
        "used_tokens",
    )

    def __init__(self, responder: Responder, request_id: str, path: str) -> None:
        """*path*: what is asked, in whose shape errors are told."""
        self._path = path
        self.responder = responder
        self.request_id = request_id
        self.dispatch: Dispatch | None = None
        """How the request is served, once that is decided."""
        self.used_tokens: int | None = None
        """Of prompt and answer, as far as an engine has told; 0 of an error."""
        self._headers: list[tuple[bytes, bytes]] = [(b"x-request-id", request_id.encode())]
        self._status = 0

    def add_headers(self, headers: HeaderPairs) -> None:
        """Have the answer carry *headers* too."""
        self._headers += headers

    def start(self, status: int, headers: HeaderPairs) -> None:
        """Begin a streamed answer."""
        self.responder.start(status, self._complete(headers))
        self._status = status

    def send(self, answer: WholeAnswer) -> None:
        """Answer in one piece. An error has OpenAI's shape, and is told in that of the API."""
        body = answer.body
        if answer.status >= 400 and _is_anthropics(self._path):
            body = anthropic_error(answer.status, body)
        if answer.status >= 400:
            self.used_tokens = 0  # nobody pays for an error
        self.responder.send(answer.status, self._complete(answer.headers), body)
        self._status = answer.status

    def outcome(self) -> str:
        """Return how the request ended: ``2xx`` and so on, or ``left`` by its client."""
        responder = self.responder
        # One that was aborted is finished too, and its client gone.
        is_told = self._status and responder.finished and not responder.gone
        return f"{self._status // 100}xx" if is_told else "left"

    def _complete(self, headers: HeaderPairs) -> HeaderPairs:
        return [*headers, *_dispatch_headers(self.dispatch), *self._headers]


def answer_of(error: RequestError) -> WholeAnswer:
    """Make the answer that tells a client of *error*."""
    headers = [JSON_HEADER]
    if error.retry_after_seconds is not None:
        headers.append((b"retry-after", b"%d" % error.retry_after_seconds))
    if isinstance(error, RateLimitedError):
        headers += error.headers
    if error.fault.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if isinstance(error, WrongMethodError):
        headers.append((b"allow", error.allowed.encode()))
    return WholeAnswer(error.fault.status, headers, error.body())


def fault_of_refusal(refused: RefusedError) -> Fault:
    """Return what is wrong with a request that the HTTP layer refuses."""
    return _FAULT_OF_REFUSAL.get(refused.kind, Fault.INVALID_REQUEST)


def answer_of_refusal(refused: RefusedError) -> tuple[HeaderPairs, bytes]:
    """Make the answer to a request that the HTTP layer refuses."""
    body = RequestError(fault_of_refusal(refused), refused.message).body()
    if _is_anthropics(refused.path):
        body = anthropic_error(refused.kind.value, body)
    return [JSON_HEADER], body


def _is_anthropics(path: str) -> bool:
    return f"{path}/".startswith(_ANTHROPICS)


def relayed_headers(headers: dict[bytes, bytes]) -> list[tuple[bytes, bytes]]:
    """Return those of a worker's *headers* that the client is to see too."""
    return [(name, headers[name]) for name in _RELAYED_HEADERS if name in headers]


def _dispatch_headers(dispatch: Dispatch | None) -> HeaderPairs:
    """Return those that tell the client how its request is served."""
    if dispatch is None:
        return ()
    prefill = dispatch.prefill.worker_id if dispatch.prefill else None
    return _headers_of(
        dispatch.mode.value,
        dispatch.decode.worker_id,
        prefill,
        dispatch.reason.value if dispatch.reason else None,
    )


@lru_cache(4096)
def _headers_of(mode: str, decode: str, prefill: str | None, reason: str | None) -> HeaderPairs:
    headers = [(b"x-twofold-mode", mode.encode()), (b"x-twofold-decode", decode.encode())]
    if prefill is not None:
        headers.append((b"x-twofold-prefill", prefill.encode()))
    if reason is not None:
        headers.append((b"x-twofold-reason", reason.encode()))
    return tuple(headers)
