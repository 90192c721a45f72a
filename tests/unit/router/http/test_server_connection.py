"""A client's connection: order, bounds, and every way to end, by a clock that is moved by hand."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twofold_router.http.errors import ClientGoneError
from twofold_router.http.limits import ServerLimits
from twofold_router.http.refusals import RefusedError
from twofold_router.http.request import Request
from twofold_router.http.responding import Responder
from twofold_router.http.server_connection import ServerConnection
from twofold_router.http.serving import Serving, WantsBody
from twofold_router.http.testing import MemoryTransport

LIMITS = ServerLimits(
    header_bytes=1000,
    body_bytes=1000,
    header_seconds=10,
    body_seconds=20,
    idle_seconds=30,
    write_seconds=40,
    linger_seconds=5,
    linger_bytes=500,
    refused_bytes=5000,
    pipelined_count=2,
    connection_count=2,
    write_buffer_bytes=1000,
)

GET = b"GET /get HTTP/1.1\r\nHost: x\r\n\r\n"
LAST = b"GET /get HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
POST = b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi"
CHUNKED = (
    b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"
)

Handler = Callable[[Request, Responder], Coroutine[Any, Any, None]]


class Clock:
    """Seconds that pass when told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


async def turn() -> None:
    """Let what is ready run."""
    for _ in range(5):
        await asyncio.sleep(0)


async def echo(request: Request, responder: Responder) -> None:
    responder.send(200, [], request.body or request.path.encode())


def refusal(refused: RefusedError) -> tuple[list[tuple[bytes, bytes]], bytes]:
    kind = refused.kind.name.encode()
    return [(b"x-kind", kind), (b"x-path", refused.path.encode())], refused.message.encode()


@dataclass
class Site:
    """A server of one connection, or of several."""

    handler: Handler = echo
    limits: ServerLimits = LIMITS
    clock: Clock = field(default_factory=Clock)
    wants_body: WantsBody = lambda _request: True

    def __post_init__(self) -> None:
        self.serving = Serving(self.handler, self.limits, refusal, self.clock, self.wants_body)
        self.serving.date_line = b""

    def connect(self) -> tuple[ServerConnection, MemoryTransport]:
        connection = ServerConnection(self.serving)
        return connection, MemoryTransport(connection)

    async def pass_time(self, seconds: float) -> None:
        self.clock.now += seconds
        self.serving.sweep()
        self.serving.date_line = b""
        await turn()


class Waiting:
    """A handler that answers when told, and remembers how it ended."""

    def __init__(self) -> None:
        self.responders: list[Responder] = []
        self.cancelled_count = 0

    async def __call__(self, _request: Request, responder: Responder) -> None:
        self.responders.append(responder)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled_count += 1
            raise


@asynccontextmanager
async def ended(site: Site) -> AsyncIterator[None]:
    """End what is left of *site*'s handlers."""
    try:
        yield
    finally:
        for responder in list(site.serving.tasks):
            site.serving.cancel(responder)
        await turn()


def answer(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


async def test_requests_are_answered_in_order() -> None:
    connection, transport = Site().connect()

    connection.data_received(GET + POST)
    await turn()

    assert transport.take() == answer(b"/get") + answer(b"hi")
    assert not transport.is_closing()


async def test_the_next_handler_starts_after_the_answer_before() -> None:
    handler = Waiting()
    site = Site(handler)
    connection, transport = site.connect()
    async with ended(site):
        connection.data_received(GET + GET)
        await turn()
        count_before = len(handler.responders)
        handler.responders[0].send(200, [], b"1")
        await turn()

        assert count_before == 1
        assert len(handler.responders) == 2
        assert transport.take() == answer(b"1")


@given(
    requests=st.lists(st.sampled_from([GET, POST, CHUNKED]), min_size=1, max_size=8),
    data=st.data(),
)
def test_cuts_change_no_answer(requests: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(requests)
    edges = sorted({0, len(stream), *data.draw(st.lists(st.integers(0, len(stream))))})

    async def serve() -> bytes:
        connection, transport = Site().connect()
        for begin, end in pairwise(edges):
            connection.data_received(stream[begin:end])
            if data.draw(st.booleans()):
                await turn()
        for _ in requests:
            await turn()
        return transport.take()

    wanted = b"".join(answer(b"/get" if each is GET else b"hi") for each in requests)
    assert asyncio.run(serve()) == wanted


async def test_reading_pauses_when_enough_was_read_ahead() -> None:
    handler = Waiting()
    site = Site(handler)
    connection, transport = site.connect()
    async with ended(site):
        connection.data_received(GET * 3)
        await turn()
        was_paused = transport.is_reading_paused
        handler.responders[0].send(200, [], b"")
        await turn()

        assert was_paused
        assert not transport.is_reading_paused


async def test_a_flood_of_requests_is_held_as_bytes_and_answered_in_order() -> None:
    site = Site()
    connection, transport = site.connect()
    connection.data_received(GET * 1000)
    ahead = len(connection._ahead)

    while site.serving.tasks:
        await turn()

    assert ahead < 300
    assert not transport.is_reading_paused
    assert transport.take() == answer(b"/get") * 1000


async def test_the_last_request_ends_the_connection() -> None:
    connection, transport = Site().connect()

    connection.data_received(LAST + GET)
    await turn()

    head = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\nconnection: close\r\n\r\n"
    assert transport.take() == head + b"/get"
    assert transport.has_ended
    assert not transport.is_closing()


async def test_a_bad_request_is_answered_after_those_before_it() -> None:
    connection, transport = Site().connect()

    connection.data_received(GET + b"nonsense\r\n\r\n")
    await turn()

    sent = transport.take()
    assert sent.startswith(answer(b"/get") + b"HTTP/1.1 400 Bad Request\r\nx-kind: BAD_REQUEST\r\n")
    assert b"connection: close\r\n" in sent
    assert transport.has_ended


async def test_a_refused_client_is_listened_to_until_it_has_read() -> None:
    site = Site()
    connection, transport = site.connect()
    connection.data_received(b"nonsense\r\n\r\n")

    connection.data_received(b"x" * 500)
    was_open = not transport.is_closing()
    transport.receive_eof()
    await turn()

    assert was_open
    assert transport.is_closing()
    assert not transport.is_aborted
    assert not site.serving.connections


async def test_lingering_is_bounded_in_bytes() -> None:
    connection, transport = Site().connect()
    connection.data_received(b"nonsense\r\n\r\n")

    connection.data_received(b"x" * 501)

    assert transport.is_aborted


async def test_lingering_is_bounded_in_time() -> None:
    site = Site()
    connection, transport = site.connect()
    connection.data_received(LAST)
    await turn()

    await site.pass_time(4.9)
    was_open = not transport.is_closing()
    await site.pass_time(0.1)

    assert was_open
    assert transport.is_aborted


async def test_what_follows_a_refusal_is_bounded_while_an_answer_is_given() -> None:
    handler = Waiting()
    site = Site(handler)
    connection, transport = site.connect()
    async with ended(site):
        connection.data_received(GET + b"nonsense\r\n\r\n")
        connection.data_received(b"x" * 501)
        await turn()
        was_paused = transport.is_reading_paused
        handler.responders[0].send(200, [], b"1")

        assert was_paused
        assert transport.take().startswith(answer(b"1") + b"HTTP/1.1 400 ")
        assert not transport.is_reading_paused


@pytest.mark.parametrize(
    ("data", "seconds", "kind"),
    [
        (b"G", 10, b"TOO_SLOW"),
        (GET + b"G", 10, b"TOO_SLOW"),
        (POST[:-1], 20, b"TOO_SLOW"),
        (GET + POST[:-1], 20, b"TOO_SLOW"),
        (b"", 30, None),
        (b"\r\n", 30, None),
        (GET, 30, None),
    ],
)
async def test_who_is_slow_is_told_and_who_is_idle_is_not(
    data: bytes, seconds: float, kind: bytes | None
) -> None:
    site = Site()
    connection, transport = site.connect()
    if data:
        connection.data_received(data)
    await turn()
    transport.take()

    await site.pass_time(seconds - 0.1)
    sent_early, was_closed_early = transport.take(), transport.is_closing()
    await site.pass_time(0.1)
    sent = transport.take()

    assert sent_early == b""
    assert not was_closed_early
    if kind is None:
        assert sent == b""
        assert transport.is_closing()
    else:
        assert sent.startswith(b"HTTP/1.1 408 ")
        assert (b"\r\nx-path: /echo" in sent) == (b"POST" in data)
        assert transport.has_ended


REFUSED: list[tuple[bytes, bytes]] = [
    (b"POST /v1?a HTTP/1.1\r\nHost: x\r\nContent-Length: 1001\r\n\r\n", b"/v1"),
    (
        b"POST /v1 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3e9\r\n" + b"x" * 1001,
        b"/v1",
    ),
    (b"POST /v1 HTTP/1.1\r\nHost: x\r\nExpect: much\r\n\r\n", b"/v1"),
    (b"POST /v1 HTTP/1.1\r\nHost: x\r\nb: " + b"x" * 100_000, b"/v1"),
    (
        b"GET /1 HTTP/1.1\r\nHost: x\r\n\r\nPOST /v1 HTTP/1.1\r\nHost: x\r\nExpect: much\r\n\r\n",
        b"/v1",
    ),
    (b"nonsense\r\n\r\n", b""),
]


@pytest.mark.parametrize(("sent", "path"), REFUSED)
async def test_a_refusal_knows_what_was_asked_for(sent: bytes, path: bytes) -> None:
    connection, transport = Site().connect()
    connection.data_received(sent)
    await turn()

    assert b"\r\nx-path: %b\r\n" % path in transport.take()


async def test_bytes_of_a_slow_header_do_not_extend_its_time() -> None:
    site = Site()
    connection, transport = site.connect()
    for byte in b"GET / HT":
        connection.data_received(bytes([byte]))
        await site.pass_time(1.3)

    assert transport.take().startswith(b"HTTP/1.1 408 ")


async def test_an_answer_may_take_its_time() -> None:
    handler = Waiting()
    site = Site(handler)
    connection, transport = site.connect()
    async with ended(site):
        connection.data_received(GET)
        await site.pass_time(1_000_000)
        handler.responders[0].send(200, [], b"late")

        assert transport.take() == answer(b"late")


async def test_the_body_is_called_for_when_it_may_come() -> None:
    head = POST[:-2].replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n")
    connection, transport = Site().connect()

    connection.data_received(head)
    called = transport.take()
    connection.data_received(b"hi")
    await turn()

    assert called == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert transport.take() == answer(b"hi")


async def test_a_body_that_comes_uncalled_is_not_called_for() -> None:
    head = POST[:-2].replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n")
    connection, transport = Site().connect()

    connection.data_received(head + b"h")
    connection.data_received(b"i")
    await turn()

    assert transport.take() == answer(b"hi")


async def test_a_body_is_not_called_for_within_an_answer() -> None:
    handler = Waiting()
    site = Site(handler)
    connection, transport = site.connect()
    async with ended(site):
        head = POST[:-2].replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n")
        connection.data_received(GET + head)
        await turn()
        sent_early = transport.take()
        handler.responders[0].send(200, [], b"1")

        assert sent_early == b""
        assert transport.take() == answer(b"1") + b"HTTP/1.1 100 Continue\r\n\r\n"


async def test_a_body_that_is_too_large_is_not_called_for() -> None:
    connection, transport = Site().connect()

    connection.data_received(
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1001\r\nExpect: 100-continue\r\n\r\n"
    )

    assert transport.take().startswith(b"HTTP/1.1 413 ")


def wants_none(_request: Request) -> bool:
    return False


UNWANTED = b"POST /e HTTP/1.1\r\nHost: x\r\nContent-Length: 900\r\n"
TOLD = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n/e"


@pytest.mark.parametrize(
    "sent", [UNWANTED + b"\r\n", UNWANTED + b"Expect: 100-continue\r\n\r\n", UNWANTED + b"\r\nxy"]
)
async def test_what_needs_no_body_is_answered_without_it(sent: bytes) -> None:
    connection, transport = Site(wants_body=wants_none).connect()

    connection.data_received(sent)
    await turn()

    assert transport.take() == TOLD
    assert transport.has_ended


async def test_an_unwanted_body_is_discarded_within_a_bodys_limits() -> None:
    site = Site(wants_body=wants_none)
    connection, transport = site.connect()
    connection.data_received(UNWANTED + b"\r\n")
    await turn()

    connection.data_received(b"x" * (LIMITS.body_bytes + LIMITS.linger_bytes))
    await site.pass_time(LIMITS.body_seconds - 1)
    was_open = not transport.is_closing()
    connection.data_received(b"x")

    assert was_open
    assert transport.is_aborted


TOO_LARGE = b"POST /e HTTP/1.1\r\nHost: x\r\nContent-Length: 9000\r\n\r\n"
CHUNK_TOO_LARGE = CHUNKED.partition(b"2\r\n")[0] + b"7d0\r\n" + b"x" * 2000


@pytest.mark.parametrize("sent", [TOO_LARGE, CHUNK_TOO_LARGE])
async def test_a_body_that_is_too_large_is_discarded_within_limits(sent: bytes) -> None:
    site = Site()
    connection, transport = site.connect()
    connection.data_received(sent)
    await turn()

    connection.data_received(b"x" * LIMITS.refused_bytes)
    await site.pass_time(LIMITS.body_seconds - 1)
    was_open = not transport.is_closing()
    connection.data_received(b"x")

    assert was_open
    assert transport.is_aborted


async def test_a_body_that_is_too_large_is_waited_for_no_longer_than_any() -> None:
    site = Site()
    connection, transport = site.connect()
    connection.data_received(TOO_LARGE)
    await turn()

    await site.pass_time(LIMITS.body_seconds)

    assert transport.is_aborted


async def test_an_unwanted_body_is_waited_for_no_longer_than_any() -> None:
    site = Site(wants_body=wants_none)
    connection, transport = site.connect()
    connection.data_received(UNWANTED + b"\r\n")
    await turn()

    await site.pass_time(LIMITS.body_seconds)

    assert transport.is_aborted


async def test_an_unwanted_body_is_answered_in_its_turn() -> None:
    connection, transport = Site(wants_body=wants_none).connect()

    connection.data_received(GET + UNWANTED + b"\r\nx")
    connection.data_received(b"x" * 900 + GET)
    await turn()

    assert transport.take() == answer(b"/get") + TOLD


async def test_a_body_is_asked_about_once() -> None:
    asked: list[str] = []

    def wants(request: Request) -> bool:
        asked.append(request.path)
        return True

    connection, transport = Site(wants_body=wants).connect()
    for byte in POST + POST:
        connection.data_received(bytes([byte]))
    connection.data_received(POST)  # whole, and nothing to ask
    await turn()

    assert transport.take() == answer(b"hi") * 3
    assert asked == ["/echo", "/echo"]


@pytest.mark.parametrize("how", ["eof", "loss"])
async def test_a_client_that_leaves_cancels_its_handler(how: str) -> None:
    handler = Waiting()
    site = Site(handler)
    connection, transport = site.connect()
    connection.data_received(GET + GET)
    await turn()

    if how == "eof":
        transport.receive_eof()
    else:
        transport.lose(ConnectionResetError())
    await turn()

    assert handler.cancelled_count == len(handler.responders) == 1
    assert handler.responders[0].gone
    assert not site.serving.tasks
    assert not site.serving.connections


async def test_a_handler_that_never_ran_is_forgotten_too() -> None:
    handler = Waiting()
    site = Site(handler)
    connection, _ = site.connect()
    connection.data_received(GET)
    connection.connection_lost(ConnectionResetError())
    await turn()

    assert not handler.responders
    assert not site.serving.tasks


async def test_writing_to_who_has_left_raises_or_does_nothing() -> None:
    handler = Waiting()
    site = Site(handler)
    connection, transport = site.connect()
    connection.data_received(GET)
    await turn()
    (responder,) = handler.responders
    responder.start(200, [])
    transport.lose(ConnectionResetError())
    await turn()

    responder.write(b"x")
    responder.abort()
    assert transport.late_count == 0
    with pytest.raises(ClientGoneError):
        responder.finish()
    with pytest.raises(ClientGoneError):
        await responder.drain()


async def test_what_a_handler_does_after_its_answer_is_not_cancelled() -> None:
    done = asyncio.Event()
    may_end = asyncio.Event()

    async def handler(_request: Request, responder: Responder) -> None:
        responder.send(200, [], b"")
        await may_end.wait()
        done.set()

    site = Site(handler)
    connection, transport = site.connect()
    connection.data_received(GET)
    await turn()
    transport.receive_eof()
    await turn()
    may_end.set()
    await turn()

    assert done.is_set()
    assert not site.serving.tasks


async def test_a_failing_handler_is_answered_500(caplog: pytest.LogCaptureFixture) -> None:
    async def handler(_request: Request, _responder: Responder) -> None:
        raise RuntimeError("a bug")

    connection, transport = Site(handler).connect()
    connection.data_received(GET)
    await turn()

    assert transport.take().startswith(b"HTTP/1.1 500 ")
    assert "a bug" in caplog.text


async def test_a_handler_that_gives_no_answer_is_answered_500(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def handler(_request: Request, _responder: Responder) -> None:
        pass

    connection, transport = Site(handler).connect()
    connection.data_received(GET)
    await turn()

    assert transport.take().startswith(b"HTTP/1.1 500 ")
    assert caplog.records[0].levelno == logging.ERROR


@pytest.mark.parametrize("fails", [False, True])
async def test_a_begun_answer_never_ends_as_if_it_were_whole(fails: bool) -> None:
    async def handler(_request: Request, responder: Responder) -> None:
        responder.start(200, [])
        responder.write(b"part")
        if fails:
            raise RuntimeError("a bug")

    connection, transport = Site(handler).connect()
    connection.data_received(GET)
    await turn()

    assert transport.is_aborted
    assert not transport.take().endswith(b"0\r\n\r\n")


async def stream(_request: Request, responder: Responder) -> None:
    responder.start(200, [(b"a", b"b")])
    responder.write(b"one")
    responder.write(b"")
    responder.write(b"twenty-two characters.")
    responder.finish()


async def test_a_stream_is_chunked() -> None:
    connection, transport = Site(stream).connect()
    connection.data_received(GET)
    await turn()

    head = b"HTTP/1.1 200 OK\r\na: b\r\ntransfer-encoding: chunked\r\n\r\n"
    body = b"3\r\none\r\n16\r\ntwenty-two characters.\r\n0\r\n\r\n"
    assert transport.take() == head + body
    assert not transport.has_ended


async def test_a_stream_to_http_1_0_ends_with_its_connection() -> None:
    connection, transport = Site(stream).connect()
    connection.data_received(b"GET / HTTP/1.0\r\n\r\n")
    await turn()

    head = b"HTTP/1.1 200 OK\r\na: b\r\nconnection: close\r\n\r\n"
    assert transport.take() == head + b"onetwenty-two characters."
    assert transport.has_ended


async def test_head_is_answered_without_a_body() -> None:
    connection, transport = Site(stream).connect()
    connection.data_received(GET.replace(b"GET /", b"HEAD /"))
    await turn()
    streamed = transport.take()
    connection, transport = Site().connect()
    connection.data_received(GET.replace(b"GET /", b"HEAD /"))
    await turn()

    assert streamed == b"HTTP/1.1 200 OK\r\na: b\r\ntransfer-encoding: chunked\r\n\r\n"
    assert transport.take() == b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n"


@pytest.mark.parametrize("status", [204, 304])
@pytest.mark.parametrize("is_streamed", [False, True])
async def test_some_statuses_have_no_body(status: int, is_streamed: bool) -> None:
    async def handler(_request: Request, responder: Responder) -> None:
        if is_streamed:
            responder.start(status, [])
            responder.write(b"x")
            responder.finish()
        else:
            responder.send(status, [], b"x")

    connection, transport = Site(handler).connect()
    connection.data_received(GET)
    await turn()

    sent = transport.take()
    assert sent.startswith(b"HTTP/1.1 %d " % status)
    assert sent.count(b"\r\n") == 2
    assert sent.endswith(b"\r\n\r\n")


async def test_a_header_with_a_line_break_is_a_bug_and_not_sent(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def handler(_request: Request, responder: Responder) -> None:
        responder.send(200, [(b"a", b"b\r\nset-cookie: c")], b"")

    connection, transport = Site(handler).connect()
    connection.data_received(GET)
    await turn()

    sent = transport.take()
    assert sent.startswith(b"HTTP/1.1 500 ")
    assert b"set-cookie" not in sent
    assert "line break" in caplog.text


async def test_drain_waits_for_the_client() -> None:
    drained = asyncio.Event()

    async def handler(_request: Request, responder: Responder) -> None:
        responder.start(200, [])
        responder.write(b"x" * 2000)
        await responder.drain()
        drained.set()
        responder.finish()

    connection, transport = Site(handler).connect()
    transport.stalled = True
    connection.data_received(GET)
    await turn()
    was_drained = drained.is_set()
    transport.flush()
    await turn()

    assert not was_drained
    assert transport.take().endswith(b"0\r\n\r\n")


async def test_a_client_that_does_not_read_is_left() -> None:
    handler = Waiting()
    site = Site(handler)
    connection, transport = site.connect()
    connection.data_received(GET)
    await turn()
    transport.stalled = True
    handler.responders[0].start(200, [])
    handler.responders[0].write(b"x" * 2000)

    await site.pass_time(39.9)
    was_open = not transport.is_closing()
    await site.pass_time(0.1)

    assert was_open
    assert transport.is_aborted
    assert handler.cancelled_count == 1


async def test_a_client_that_does_not_read_is_left_also_in_its_next_request() -> None:
    handler = Waiting()
    site = Site(handler)
    connection, transport = site.connect()
    async with ended(site):
        connection.data_received(GET + GET)
        await turn()
        transport.stalled = True
        handler.responders[0].send(200, [], b"x" * 2000)
        await turn()
        await site.pass_time(40)

        assert transport.is_aborted
        assert handler.cancelled_count == 1


class Telling:
    """A handler that sends 2,000 bytes, and remembers whether they were taken."""

    def __init__(self) -> None:
        self.taken: list[bool] = []

    async def __call__(self, _request: Request, responder: Responder) -> None:
        responder.send(200, [], b"x" * 2000)
        try:
            await responder.taken()
        finally:
            self.taken.append(not responder.gone)


@pytest.mark.parametrize("request_", [GET, LAST])
async def test_a_whole_answer_that_is_not_read_in_time_was_not_taken(request_: bytes) -> None:
    handler = Telling()
    site = Site(handler)
    connection, transport = site.connect()
    transport.stalled = True
    connection.data_received(request_)
    await turn()
    before = list(handler.taken)
    await site.pass_time(40)

    assert transport.is_aborted
    assert (before, handler.taken) == ([], [False])
    assert not site.serving.tasks


@pytest.mark.parametrize("request_", [GET, LAST])
async def test_a_whole_answer_that_is_read_late_was_taken(request_: bytes) -> None:
    handler = Telling()
    site = Site(handler)
    connection, transport = site.connect()
    transport.stalled = True
    connection.data_received(request_)
    await turn()
    before = list(handler.taken)
    transport.flush()
    transport.lose(ConnectionResetError())
    await turn()

    assert (before, handler.taken) == ([], [True])


async def test_a_client_that_reads_again_gets_its_time_back() -> None:
    handler = Waiting()
    site = Site(handler)
    connection, transport = site.connect()
    async with ended(site):
        connection.data_received(GET)
        await turn()
        transport.stalled = True
        handler.responders[0].start(200, [])
        handler.responders[0].write(b"x" * 2000)
        await site.pass_time(39)
        transport.flush()
        await site.pass_time(1000)

        assert not transport.is_closing()


@pytest.mark.parametrize("request_", [GET, LAST])
async def test_a_client_that_reads_slowly_is_left_only_when_it_reads_no_more(
    request_: bytes,
) -> None:
    handler = Waiting()
    site = Site(handler)
    connection, transport = site.connect()
    async with ended(site):
        connection.data_received(request_)
        await turn()
        transport.stalled = True
        handler.responders[0].send(200, [], b"x" * 4000)
        for _ in range(3):
            transport.trickle(100)
            await site.pass_time(40)
        was_open = not transport.is_closing()
        await site.pass_time(40)

        assert was_open
        assert transport.is_aborted


async def test_the_rest_of_a_last_answer_is_not_lost_to_a_client_that_reads_slowly() -> None:
    handler = Waiting()
    site = Site(handler)
    connection, transport = site.connect()
    async with ended(site):
        connection.data_received(LAST)
        await turn()
        transport.stalled = True
        handler.responders[0].send(200, [], b"x" * 500)
        await site.pass_time(5)
        transport.trickle(100)
        await site.pass_time(39.9)
        was_open = not transport.is_closing()
        transport.flush()
        await site.pass_time(0.1)

        assert was_open
        assert transport.take().endswith(b"x" * 500)
        assert transport.is_aborted


async def test_one_connection_too_many_is_told_and_two_hundred_are_not() -> None:
    site = Site()
    for _ in range(2):
        site.connect()

    _, told = site.connect()
    told_later = [site.connect()[1] for _ in range(200)]

    assert told.take().startswith(b"HTTP/1.1 503 ")
    assert told.has_ended
    assert told_later[-1].is_aborted


async def test_draining_closes_what_is_idle_and_lets_answers_end() -> None:
    handler = Waiting()
    site = Site(handler)
    idle, idle_transport = site.connect()
    busy, busy_transport = site.connect()
    async with ended(site):
        busy.data_received(GET + GET)
        await turn()
        site.serving.is_draining = True
        idle.begin_drain()
        busy.begin_drain()
        was_open = not busy_transport.is_closing()
        handler.responders[0].send(200, [], b"1")
        await turn()

        assert idle_transport.is_closing()
        assert was_open
        assert b"connection: close" in busy_transport.take()
        assert busy_transport.has_ended
        assert len(handler.responders) == 1


async def test_draining_lets_a_request_come_in_whole() -> None:
    site = Site()
    connection, transport = site.connect()
    connection.data_received(POST[:-1])
    site.serving.is_draining = True
    connection.begin_drain()
    connection.data_received(POST[-1:])
    await turn()

    assert transport.take().endswith(b"connection: close\r\n\r\nhi")


async def test_what_follows_a_last_request_is_bounded_while_it_is_answered() -> None:
    handler = Waiting()
    site = Site(handler)
    connection, transport = site.connect()
    async with ended(site):
        connection.data_received(LAST)
        connection.data_received(b"x" * 501)

        assert transport.is_reading_paused


async def test_who_half_closes_within_an_answer_is_not_waited_for() -> None:
    handler = Waiting()
    site = Site(handler)
    connection, transport = site.connect()
    connection.data_received(GET)
    await turn()
    transport.stalled = True
    handler.responders[0].start(200, [])
    transport.receive_eof()
    await turn()

    assert transport.is_aborted


async def test_who_half_closes_after_its_answer_still_gets_it() -> None:
    site = Site()
    connection, transport = site.connect()
    transport.stalled = True
    connection.data_received(GET)
    await turn()
    transport.receive_eof()
    await turn()
    transport.flush()
    await turn()

    assert transport.take() == answer(b"/get")
    assert not transport.is_aborted
    assert not site.serving.connections


async def test_a_last_answer_has_its_time_to_be_read() -> None:
    handler = Waiting()
    site = Site(handler)
    connection, transport = site.connect()
    async with ended(site):
        connection.data_received(LAST)
        await turn()
        transport.stalled = True
        handler.responders[0].send(200, [], b"x" * 2000)
        await site.pass_time(39.9)
        was_open = not transport.is_closing()
        transport.flush()
        await site.pass_time(4.9)
        is_open = not transport.is_closing()
        await site.pass_time(0.1)

        assert was_open
        assert is_open
        assert transport.is_aborted


async def test_draining_ends_a_stream_that_had_begun_with_its_connection() -> None:
    handler = Waiting()
    site = Site(handler)
    connection, transport = site.connect()
    async with ended(site):
        connection.data_received(GET)
        await turn()
        handler.responders[0].start(200, [])
        site.serving.is_draining = True
        connection.begin_drain()
        handler.responders[0].finish()

        assert transport.take().endswith(b"0\r\n\r\n")
        assert transport.has_ended


async def test_who_drains_for_a_client_that_leaves_is_told() -> None:
    handler = Waiting()
    site = Site(handler)
    connection, transport = site.connect()
    connection.data_received(GET)
    await turn()
    transport.stalled = True
    handler.responders[0].start(200, [])
    handler.responders[0].write(b"x" * 2000)
    task = asyncio.create_task(handler.responders[0].drain())
    await turn()
    transport.lose(ConnectionResetError())

    with pytest.raises(ClientGoneError):
        await task
