"""Which connection a request gets."""

import pytest

from twofold_router.http.client import Client, Origin
from twofold_router.http.client_connection import ClientConnection
from twofold_router.http.limits import ClientLimits
from twofold_router.http.testing import MemoryTransport

LIMITS = ClientLimits(idle_seconds=3, idle_connections_per_origin=2)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def open_connection(origin: Origin) -> tuple[ClientConnection, MemoryTransport]:
    connection = ClientConnection(LIMITS, origin)
    origin.connections.add(connection)
    return connection, MemoryTransport(connection)


async def test_the_connection_used_last_is_used_next() -> None:
    origin = Origin("http://a:1", LIMITS, Clock())
    first, _ = open_connection(origin)
    second, _ = open_connection(origin)
    origin.keep(first)
    origin.keep(second)

    assert origin.take() is second
    assert origin.take() is first
    assert origin.take() is None


async def test_what_was_idle_for_too_long_is_not_used() -> None:
    clock = Clock()
    origin = Origin("http://a:1", LIMITS, clock)
    connection, transport = open_connection(origin)
    origin.keep(connection)
    clock.now += 3

    assert origin.take() is None
    assert transport.is_aborted


async def test_what_is_closing_is_not_used() -> None:
    origin = Origin("http://a:1", LIMITS, Clock())
    connection, transport = open_connection(origin)
    origin.keep(connection)
    transport.receive_eof()

    assert origin.take() is None


async def test_a_lost_connection_is_forgotten() -> None:
    origin = Origin("http://a:1", LIMITS, Clock())
    connection, _ = open_connection(origin)
    origin.keep(connection)
    connection.connection_lost(None)

    assert origin.take() is None
    assert not origin.connections


async def test_the_sweep_closes_the_oldest() -> None:
    clock = Clock()
    origin = Origin("http://a:1", LIMITS, clock)
    old, old_transport = open_connection(origin)
    new, new_transport = open_connection(origin)
    origin.keep(old)
    clock.now += 2
    origin.keep(new)
    clock.now += 1
    origin.sweep()

    assert old_transport.is_aborted
    assert not new_transport.is_aborted
    assert origin.take() is new


async def test_no_more_are_kept_than_allowed() -> None:
    origin = Origin("http://a:1", LIMITS, Clock())
    connections = [open_connection(origin) for _ in range(3)]
    for connection, _ in connections:
        origin.keep(connection)

    assert [transport.is_aborted for _, transport in connections] == [False, False, True]


@pytest.mark.parametrize(
    ("url", "host", "port", "line"),
    [
        ("http://worker-1:8000", "worker-1", 8000, b"host: worker-1:8000\r\n"),
        ("http://10.0.0.1:1/", "10.0.0.1", 1, b"host: 10.0.0.1:1\r\n"),
        ("http://[::1]:8000", "::1", 8000, b"host: [::1]:8000\r\n"),
        ("http://a", "a", 80, b"host: a:80\r\n"),
    ],
)
def test_an_origin_is_a_host_and_a_port(url: str, host: str, port: int, line: bytes) -> None:
    origin = Origin(url, LIMITS, Clock())

    assert (origin.host, origin.port, origin.host_line) == (host, port, line)


@pytest.mark.parametrize(
    "url", ["https://a:1", "http://a:1/v1", "http://u@a:1", "a:1", "http://a:1\r\n", "http://"]
)
def test_anything_else_is_no_origin(url: str) -> None:
    with pytest.raises(ValueError, match="no origin"):
        Origin(url, LIMITS, Clock())


async def test_the_sweep_forgets_origins_that_nobody_uses() -> None:
    client = Client(LIMITS, Clock())
    used = client._origins["http://a:1"] = Origin("http://a:1", LIMITS, Clock())
    connecting = client._origins["http://b:1"] = Origin("http://b:1", LIMITS, Clock())
    client._origins["http://c:1"] = Origin("http://c:1", LIMITS, Clock())
    open_connection(used)
    connecting.connecting_count = 1

    client.sweep()

    assert set(client._origins) == {"http://a:1", "http://b:1"}


@pytest.mark.parametrize("path", ["/a b", "/a\r\nx: y", "/\0", "/a\n"])
async def test_a_path_that_would_be_more_is_not_sent(path: str) -> None:
    with pytest.raises(ValueError, match="request line"):
        await Client(LIMITS, Clock()).request("http://a:1", "GET", path, [])
