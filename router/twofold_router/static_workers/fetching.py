"""``Fetch`` over the router's own HTTP client."""

from contextlib import closing

from twofold_router.http.client import Client
from twofold_router.http.errors import HttpError
from twofold_router.http.headers import HeaderPairs
from twofold_router.static_workers.probing import Fetch

PAGE_BYTES = 8 * 1024 * 1024
"""A vLLM's ``/metrics`` is some 100 KiB, more with many adapters and data-parallel engines."""


def fetch_with(client: Client, headers: HeaderPairs = ()) -> Fetch:
    """Return a fetch that sends *headers*, and shares *client*'s connections, which is the caller's
    to close."""

    async def fetch(origin: str, path: str, /) -> tuple[int, bytes]:
        try:
            with closing(await client.request(origin, "GET", path, headers)) as response:
                return response.status, await response.read(PAGE_BYTES)
        except HttpError as error:
            refused = isinstance(error.__cause__, ConnectionRefusedError)
            kind = ConnectionRefusedError if refused else ConnectionError
            raise kind(str(error)) from error

    return fetch
