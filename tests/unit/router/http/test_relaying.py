"""An answer passed on: whole, broken, bounded, and as it was framed for the client."""

import asyncio
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twofold_router.http.client_connection import ClientConnection
from twofold_router.http.errors import BrokenError, StoppedError
from twofold_router.http.limits import ClientLimits, ServerLimits
from twofold_router.http.request import Request
from twofold_router.http.request_reading import RequestReader
from twofold_router.http.responding import Responder
from twofold_router.http.response import Response
from twofold_router.http.response_reading import ResponseReader
from twofold_router.http.server_connection import ServerConnection
from twofold_router.http.serving import Serving
from twofold_router.http.testing import MemoryTransport

UPSTREAM_HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
HEAD = b"HTTP/1.1 200 OK\r\na: b\r\ntransfer-encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"


class Shelf:
    def __init__(self) -> None:
        self.kept_count = 0

    def keep(self, _connection: ClientConnection) -> None:
        self.kept_count += 1

    def forget(self, _connection: ClientConnection) -> None:
        pass


async def turn() -> None:
    for _ in range(6):
        await asyncio.sleep(0)


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def body_of(sent: bytes) -> tuple[bytes, bool]:
    """Return the body of the answer in *sent*, and whether it is complete."""
    reader = ResponseReader(ClientLimits())
    reader.begin(is_head=False)
    reader.feed(sent)
    return b"".join(reader.pieces), reader.is_complete


class Relay:
    """A client that has asked, and a worker that has begun to answer."""

    def __init__(self, request: bytes = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n") -> None:
        self.shelf = Shelf()
        self.upstream = ClientConnection(ClientLimits(), self.shelf)
        self.upstream_transport = MemoryTransport(self.upstream)
        limits = ServerLimits(write_buffer_bytes=1000)
        self.serving = Serving(self._handle, limits, lambda *_: ([], b""), lambda: 0.0)
        self.serving.date_line = b""
        self.server = ServerConnection(self.serving)
        self.transport = MemoryTransport(self.server)
        self.options: dict[str, Any] = {}
        self.and_then: Callable[[Responder, Response], None] = lambda _responder, _response: None
        self.error: Exception | None = None
        self.response: Response | None = None
        self._request = request

    async def begin(self, first: bytes = b"", **options: Any) -> None:
        self.options = options
        self.server.data_received(self._request)
        await turn()
        self.upstream.data_received(UPSTREAM_HEAD + first)
        await turn()

    async def _handle(self, _request: Request, responder: Responder) -> None:
        exchange = self.upstream.exchange(b"", None, is_head=False, on_sent=None)
        self.response = response = await exchange
        try:
            await response.relay(responder, 200, [(b"a", b"b")], **self.options)
        except BrokenError as error:
            self.error = error
        self.and_then(responder, response)
        responder.finish()


async def test_pieces_are_passed_on_as_they_come() -> None:
    relay = Relay()
    await relay.begin(chunk(b"one"))
    begun = relay.transport.take()
    relay.upstream.data_received(chunk(b"two") + chunk(b"three"))
    passed_on = relay.transport.take()
    relay.upstream.data_received(END)
    await turn()

    assert begun == HEAD + chunk(b"one")
    assert passed_on == chunk(b"twothree")
    assert relay.transport.take() == END
    assert relay.error is None
    assert relay.shelf.kept_count == 1


async def test_the_end_is_the_callers_unless_told() -> None:
    relay = Relay()
    relay.and_then = lambda responder, _response: responder.write(b"more")
    await relay.begin(chunk(b"one") + END)

    assert relay.transport.take() == HEAD + chunk(b"one") + chunk(b"more") + END


async def test_a_whole_answer_is_finished_when_told() -> None:
    relay = Relay()
    finished: list[bool] = []
    relay.and_then = lambda responder, _response: finished.append(responder.finished)
    await relay.begin(chunk(b"one") + END, finish=True)

    assert finished == [True]
    assert relay.transport.take() == HEAD + chunk(b"one") + END


@given(
    pieces=st.lists(st.binary(min_size=1, max_size=40), max_size=8),
    data=st.data(),
)
def test_cuts_change_nothing(pieces: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(map(chunk, pieces)) + END
    edges = sorted({0, len(stream), *data.draw(st.lists(st.integers(0, len(stream))))})

    async def serve() -> bytes:
        relay = Relay()
        await relay.begin(keep_bytes=1000)
        for begin, end in pairwise(edges):
            relay.upstream.data_received(stream[begin:end])
        await turn()
        assert relay.response is not None
        assert relay.response.kept() == b"".join(pieces)
        return relay.transport.take()

    assert body_of(asyncio.run(serve())) == (b"".join(pieces), True)


@pytest.mark.parametrize("cut", range(1, len(chunk(b"hello") * 2)))
async def test_after_a_break_anywhere_the_answer_can_go_on(cut: int) -> None:
    relay = Relay()
    relay.and_then = lambda responder, _response: responder.write(b"|sorry")
    await relay.begin()
    relay.upstream.data_received((chunk(b"hello") * 2)[:cut])
    relay.upstream_transport.receive_eof()
    await turn()

    body, is_complete = body_of(relay.transport.take())
    assert is_complete
    assert b"hellohello|sorry".startswith(body.removesuffix(b"|sorry"))
    assert body.endswith(b"|sorry")
    assert isinstance(relay.error, BrokenError)
    assert relay.shelf.kept_count == 0


async def test_bytes_after_the_end_are_not_passed_on() -> None:
    relay = Relay()
    await relay.begin(chunk(b"one"))
    relay.upstream.data_received(chunk(b"two") + END + b"HTTP/1.1 200 OK\r\n\r\nforged")
    await turn()

    assert body_of(relay.transport.take()) == (b"onetwo", True)
    assert relay.shelf.kept_count == 0


async def test_what_comes_before_a_malformed_chunk_is_passed_on() -> None:
    relay = Relay()
    await relay.begin()
    relay.upstream.data_received(chunk(b"good") + b"-1\r\nbad\r\n")
    await turn()

    assert body_of(relay.transport.take()) == (b"good", True)
    assert isinstance(relay.error, BrokenError)


async def test_an_answer_may_be_continued_by_another() -> None:
    relay = Relay()
    await relay.begin(chunk(b"one"))
    relay.and_then = lambda responder, _response: responder.write(b"two")
    relay.upstream_transport.receive_eof()
    await turn()

    assert relay.transport.take() == HEAD + chunk(b"one") + chunk(b"two") + END


async def test_a_client_of_http_1_0_gets_no_chunks() -> None:
    relay = Relay(b"GET / HTTP/1.0\r\n\r\n")
    await relay.begin(chunk(b"one"))
    relay.upstream.data_received(chunk(b"two") + END)
    await turn()

    assert relay.transport.take().endswith(b"\r\n\r\nonetwo")
    assert relay.transport.has_ended


async def test_a_worker_is_not_read_while_the_client_does_not_read() -> None:
    relay = Relay()
    await relay.begin()
    relay.transport.stalled = True
    relay.upstream.data_received(chunk(b"x" * 2000))
    was_paused = relay.upstream_transport.is_reading_paused
    relay.transport.flush()

    assert was_paused
    assert not relay.upstream_transport.is_reading_paused


async def test_a_client_that_leaves_aborts_the_request_at_the_worker() -> None:
    relay = Relay()
    await relay.begin(chunk(b"one"))
    relay.transport.receive_eof()
    relay.upstream.data_received(chunk(b"two"))
    await turn()

    assert relay.upstream_transport.is_aborted
    assert not relay.serving.tasks


@pytest.mark.parametrize(("keep_bytes", "kept"), [(6, b"onetwo"), (5, None), (0, None)])
async def test_what_was_passed_on_is_kept_within_its_bound(
    keep_bytes: int, kept: bytes | None
) -> None:
    relay = Relay()
    await relay.begin(chunk(b"one"), keep_bytes=keep_bytes)
    relay.upstream.data_received(chunk(b"two") + END)
    await turn()

    assert relay.response is not None
    assert relay.response.kept() == kept
    assert relay.response.ending() == (b"onetwo", 0)


@pytest.mark.parametrize("keep_bytes", [0, 100_000])
async def test_of_what_is_too_long_the_end_is_kept_and_the_events_are_counted(
    keep_bytes: int,
) -> None:
    relay = Relay()
    await relay.begin(keep_bytes=keep_bytes)
    pieces = [b'data: {"at": %04d, "x": "%b"}\n\n' % (at, b"x" * 72) for at in range(4000)]
    for piece in pieces:
        relay.upstream.data_received(chunk(piece))
    relay.upstream.data_received(END)
    await turn()

    assert relay.response is not None
    end, dropped_count = relay.response.ending()
    assert relay.response.kept() is None
    assert end == b"".join(pieces[dropped_count:])
    assert 16 * 1024 <= len(end) < 16 * 1024 + len(pieces[0])


@pytest.mark.parametrize(
    "pieces",
    [
        [b"one", b"two", b"stop!", b"more"],
        [b"one", b"twostop!", b"more"],
        [b"onetwo" + b"stop!"],
    ],
)
@pytest.mark.parametrize("comes_at_once", [True, False])
async def test_a_relay_ends_before_what_it_is_to_stop_at(
    pieces: list[bytes], comes_at_once: bool
) -> None:
    relay = Relay()
    relay.and_then = lambda responder, _response: responder.write(b"|sorry")
    first = b"".join(map(chunk, pieces)) + END
    await relay.begin(first if comes_at_once else b"", keep_bytes=100, stop_at=b"stop")
    if not comes_at_once:
        for piece in pieces:
            relay.upstream.data_received(chunk(piece))
        await turn()

    assert body_of(relay.transport.take()) == (b"onetwo|sorry", True)
    assert isinstance(relay.error, StoppedError)
    assert relay.error.rest.startswith(b"stop!")
    assert relay.response is not None
    assert relay.response.kept() == b"onetwo"
    assert comes_at_once or relay.upstream_transport.is_aborted


PREFACES = (b"event: a\n", b"event: b\n")
A, B, C = (b"event: %b\ndata: {}\n\n" % name for name in (b"a", b"b", b"c"))


async def first_of(*pieces: bytes, after: tuple[bytes, ...], ends: bool) -> bytes:
    """Return what a worker begins with that sends *pieces* one by one, and then breaks off."""
    upstream = ClientConnection(ClientLimits(read_ahead_bytes=200), Shelf())
    transport = MemoryTransport(upstream)
    asking = asyncio.create_task(upstream.exchange(b"", None, is_head=False, on_sent=None))
    await turn()
    upstream.data_received(UPSTREAM_HEAD)
    response = await asking
    first = asyncio.create_task(response.first(after))
    for piece in pieces:
        await turn()
        assert not first.done()
        upstream.data_received(chunk(piece))
    await turn()
    if ends:
        assert not first.done()
        transport.receive_eof()
    try:
        return await asyncio.wait_for(first, 1)
    finally:
        response.close()


@pytest.mark.parametrize(
    ("pieces", "first"),
    [
        ([A, B, C], C),
        ([A + B + C], C),
        ([A[:12], A[12:] + B, C], C),
        ([A, B + C + A], C + A),
        ([A * 20], A * 20),  # more than may be read ahead
    ],
)
async def test_prefaces_are_passed_over(pieces: list[bytes], first: bytes) -> None:
    assert await first_of(*pieces, after=PREFACES, ends=False) == first
    assert await first_of(A, after=(), ends=False) == A


async def test_what_breaks_in_its_prefaces_has_not_begun() -> None:
    with pytest.raises(BrokenError):
        await first_of(A, B, after=PREFACES, ends=True)


async def test_what_was_kept_can_be_read_in_between() -> None:
    relay = Relay()
    await relay.begin(chunk(b"one"), keep_bytes=100)

    assert relay.response is not None
    assert relay.response.kept() == b"one"
    relay.upstream.data_received(END)
    await turn()


async def test_a_break_before_the_relay_leaves_the_answer_unbegun() -> None:
    upstream = ClientConnection(ClientLimits(), Shelf())
    transport = MemoryTransport(upstream)
    task = asyncio.create_task(upstream.exchange(b"", None, is_head=False, on_sent=None))
    await turn()
    upstream.data_received(UPSTREAM_HEAD)
    response = await task
    transport.receive_eof()
    relay = Relay()
    requests: list[Request] = []
    RequestReader(ServerLimits(), requests.append).feed(b"GET / HTTP/1.0\r\n\r\n")
    responder = Responder(relay.server, requests[0], relay.serving)

    with pytest.raises(BrokenError):
        await response.relay(responder, 200, [])
    assert not responder.started
