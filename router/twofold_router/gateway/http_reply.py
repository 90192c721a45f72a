"""The answer to one request of an aiohttp server."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from aiohttp import web

from twofold_router.gateway.reply import ClientGoneError, WholeAnswer


class HttpReply:
    """Implements Reply. ``response`` is what the handler returns in the end."""

    def __init__(self, request: web.Request, headers: Mapping[str, str]) -> None:
        self.response: web.StreamResponse | None = None
        self._request = request
        self._headers = dict(headers)

    @property
    def started(self) -> bool:
        return self.response is not None

    def add_headers(self, headers: Mapping[str, str]) -> None:
        """Have the answer carry *headers* too."""
        self._headers |= headers

    async def send(self, answer: WholeAnswer) -> None:
        headers = {**answer.headers, **self._headers}
        self.response = web.Response(status=answer.status, headers=headers, body=answer.body)
        with _client_may_go():
            await self.response.prepare(self._request)
            await self.response.write_eof()

    async def start(self, status: int, headers: Mapping[str, str]) -> None:
        self.response = web.StreamResponse(status=status, headers={**headers, **self._headers})
        with _client_may_go():
            await self.response.prepare(self._request)

    async def write(self, chunk: bytes) -> None:
        assert self.response is not None
        with _client_may_go():
            await self.response.write(chunk)

    async def finish(self) -> None:
        assert self.response is not None
        with _client_may_go():
            await self.response.write_eof()

    def abort(self) -> None:
        if self._request.transport is not None:
            self._request.transport.abort()


@contextmanager
def _client_may_go() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ClientGoneError("the client has closed its connection") from error
