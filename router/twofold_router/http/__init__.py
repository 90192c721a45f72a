"""HTTP/1.1 on asyncio's protocols: a server, and a client that keeps its connections.

It knows nothing of what is served. ``serve`` takes a handler, ``open_client`` sends requests, and
``Response.relay`` passes an answer of the one on through the other with neither a task's step nor a
timer per piece. All limits of time are kept by one sweep for a server and one for a client.
"""

from twofold_router.http.backpressure import Source
from twofold_router.http.client import Client, open_client
from twofold_router.http.errors import (
    AnswerTooLargeError,
    BrokenError,
    ClientGoneError,
    HttpError,
    StoppedError,
    UnreachableError,
)
from twofold_router.http.headers import HeaderPairs, Headers, end_to_end
from twofold_router.http.limits import ClientLimits, ServerLimits
from twofold_router.http.refusals import Refusal, RefusalAnswer, RefusedError
from twofold_router.http.request import Request
from twofold_router.http.responding import Responder
from twofold_router.http.response import Response, Sink
from twofold_router.http.server import Server, serve
from twofold_router.http.serving import Handler

__all__ = [
    "AnswerTooLargeError",
    "BrokenError",
    "Client",
    "ClientGoneError",
    "ClientLimits",
    "Handler",
    "HeaderPairs",
    "Headers",
    "HttpError",
    "Refusal",
    "RefusalAnswer",
    "RefusedError",
    "Request",
    "Responder",
    "Response",
    "Server",
    "ServerLimits",
    "Sink",
    "Source",
    "StoppedError",
    "UnreachableError",
    "end_to_end",
    "open_client",
    "serve",
]
