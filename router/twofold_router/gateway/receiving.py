"""Reads a request's body within its bounds of size and time."""

import asyncio

from aiohttp import web

from twofold_cluster.errors import Fault, RequestError
from twofold_router.settings import RouterSettings


async def receive_body(request: web.Request, settings: RouterSettings) -> bytes:
    """Return the body of *request*.

    Raises:
        RequestError: it is no JSON by its type, compressed, too large or too slow.
    """
    if request.content_type != "application/json":
        message = f"Content-Type must be application/json, and is {request.content_type[:100]}"
        raise RequestError(Fault.WRONG_CONTENT_TYPE, message)
    if request.headers.get("Content-Encoding", "identity") != "identity":
        raise RequestError(Fault.WRONG_CONTENT_TYPE, "the body must not be compressed")
    limit_bytes = settings.max_body_bytes
    if request.content_length is not None and request.content_length > limit_bytes:
        raise _too_large(limit_bytes)
    try:
        async with asyncio.timeout(settings.body_timeout_seconds):
            return await _read(request, limit_bytes)
    except TimeoutError as error:
        seconds = settings.body_timeout_seconds
        message = f"the body did not arrive within {seconds:g} seconds"
        raise RequestError(Fault.INVALID_REQUEST, message) from error
    except web.RequestPayloadError as error:
        raise RequestError(Fault.INVALID_REQUEST, "the body cannot be read") from error


async def _read(request: web.Request, limit_bytes: int) -> bytes:
    body = bytearray()
    async for chunk in request.content.iter_any():
        body += chunk
        if len(body) > limit_bytes:
            raise _too_large(limit_bytes)
    return bytes(body)


def _too_large(limit_bytes: int) -> RequestError:
    return RequestError(Fault.BODY_TOO_LARGE, f"the body is larger than {limit_bytes} bytes")
