"""HTTP to the workers. The only module that knows with what client it is spoken."""

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from types import SimpleNamespace

import aiohttp
import msgspec

from twofold_cluster.errors import TwofoldError
from twofold_cluster.legs import Body
from twofold_cluster.worker import Worker

# Below the five seconds after which vLLM's server closes an idle connection: a request must not
# meet that moment (VLLM_HTTP_TIMEOUT_KEEP_ALIVE).
KEEP_ALIVE_SECONDS = 3.0

READ_BUFFER_BYTES = 256 * 1024

_RELAYED_HEADERS = ("Content-Type", "Content-Encoding", "Retry-After")


class UnreachableError(TwofoldError):
    """No connection to the worker: it has not seen the request."""


class BrokenError(TwofoldError):
    """The connection broke: nobody knows how far the worker went."""


class AnswerTooLargeError(TwofoldError):
    """An answer that must be held is larger than the limit."""


class Answer:
    """A worker's answer whose body is still to be read, once."""

    def __init__(self, response: aiohttp.ClientResponse, worker: Worker) -> None:
        self._response = response
        self._worker = worker
        self.status = response.status
        self.worker_id = worker.worker_id
        self.is_stream = response.content_type == "text/event-stream"

    @property
    def headers(self) -> Mapping[str, str]:
        """Those that the client is to see too."""
        theirs = self._response.headers
        return {name: theirs[name] for name in _RELAYED_HEADERS if name in theirs}

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body as it comes.

        Raises:
            BrokenError: it ends too early.
        """
        content = self._response.content
        while True:
            with _translated(self._worker):
                chunk = await content.readany()
            if not chunk:
                return
            yield chunk

    async def read(self, limit_bytes: int) -> bytes:
        """Return the whole body.

        Raises:
            BrokenError: it ends too early.
            AnswerTooLargeError: it is larger than *limit_bytes*.
        """
        body = bytearray()
        async for chunk in self.chunks():
            body += chunk
            if len(body) > limit_bytes:
                message = f"{self._worker.worker_id} answered more than {limit_bytes} bytes"
                raise AnswerTooLargeError(message)
        return bytes(body)


class Upstream:
    """Sends requests to workers over connections that are kept."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    @asynccontextmanager
    async def post(
        self,
        worker: Worker,
        path: str,
        body: Body,
        request_id: str,
        *,
        on_sent: Callable[[], None] = lambda: None,
    ) -> AsyncIterator[Answer]:
        """Send *body* and yield the answer; an answer not read to its end aborts the request.

        *on_sent* is called when the whole request was handed to the connection. The caller bounds
        the time.

        Raises:
            UnreachableError: the worker has not seen the request.
            BrokenError: it may have.
        """
        headers = {
            "Content-Type": "application/json",
            "Accept-Encoding": "identity",
            "X-Request-Id": request_id,
        }
        with _translated(worker):
            response = await self._session.post(
                worker.address + path,
                data=msgspec.json.encode(body),
                headers=headers,
                allow_redirects=False,
                trace_request_ctx=on_sent,
            )
        try:
            yield Answer(response, worker)
        finally:
            # Keeps the connection if the body was read, and closes it otherwise.
            response.release()


@asynccontextmanager
async def open_upstream(connect_timeout_seconds: float) -> AsyncIterator[Upstream]:
    """Open the connections' owner. Nothing but the worker's patience limits their number."""
    trace = aiohttp.TraceConfig()
    trace.on_request_chunk_sent.append(_tell_sent)
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE_SECONDS),
        timeout=aiohttp.ClientTimeout(total=None, connect=connect_timeout_seconds),
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        read_bufsize=READ_BUFFER_BYTES,
        trace_configs=[trace],
    ) as session:
        yield Upstream(session)


async def _tell_sent(
    _session: aiohttp.ClientSession,
    context: SimpleNamespace,
    _params: aiohttp.TraceRequestChunkSentParams,
) -> None:
    # The body is one piece of bytes, so its first chunk is its last.
    context.trace_request_ctx()


@contextmanager
def _translated(worker: Worker) -> Iterator[None]:
    try:
        yield
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
        raise UnreachableError(f"{worker.worker_id} cannot be reached") from error
    except (aiohttp.ClientError, OSError) as error:
        raise BrokenError(f"the connection to {worker.worker_id} broke") from error
