"""A connection to a worker: what it believes, and when it is kept."""

import asyncio

import pytest

from twofold_router.http.client_connection import ClientConnection
from twofold_router.http.errors import AnswerTooLargeError, BrokenError
from twofold_router.http.limits import ClientLimits
from twofold_router.http.response import Response
from twofold_router.http.testing import MemoryTransport

LIMITS = ClientLimits(read_ahead_bytes=100)

HEAD = b"POST / HTTP/1.1\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\n"
ANSWER = OK + b"Content-Length: 5\r\n\r\nhello"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


class Shelf:
    """A pool of one connection that tells what became of it."""

    def __init__(self) -> None:
        self.kept_count = 0
        self.is_forgotten = False

    def keep(self, _connection: ClientConnection) -> None:
        self.kept_count += 1

    def forget(self, _connection: ClientConnection) -> None:
        self.is_forgotten = True


class Line:
    """A connection, its pool, and what stands for the worker."""

    def __init__(self) -> None:
        self.shelf = Shelf()
        self.connection = ClientConnection(LIMITS, self.shelf)
        self.transport = MemoryTransport(self.connection)
        self.sent_count = 0

    async def ask(self, body: bytes | list[bytes] | None = b"ask") -> asyncio.Task[Response]:
        task = asyncio.create_task(
            self.connection.exchange(HEAD, body, is_head=False, on_sent=self._count)
        )
        await turn()
        return task

    async def answered(self, data: bytes) -> Response:
        task = await self.ask()
        self.connection.data_received(data)
        return await task

    def _count(self) -> None:
        self.sent_count += 1


async def turn() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.mark.parametrize("body", [b"ask", [b"a", b"sk"], b"x" * 100_000, None])
async def test_a_request_is_sent_whole_and_told_once(body: bytes | list[bytes] | None) -> None:
    line = Line()
    task = await line.ask(body)
    line.connection.data_received(ANSWER)
    await task

    whole = body if isinstance(body, bytes) else b"".join(body or [])
    assert line.transport.take() == HEAD + whole
    assert line.sent_count == 1


async def test_a_request_is_told_when_the_worker_has_taken_all_of_it() -> None:
    line = Line()
    line.transport.stalled = True
    task = await line.ask()
    told_before = line.sent_count
    line.transport.flush()
    told_after = line.sent_count
    line.connection.data_received(ANSWER)
    await task
    line.transport.stalled = True
    again = await line.ask()
    line.transport.flush()
    line.connection.data_received(ANSWER)
    await again

    assert (told_before, told_after, line.sent_count) == (0, 1, 2)


@pytest.mark.parametrize("how", ["cancel", "loss", "answer"])
async def test_a_request_that_was_cut_is_never_told(how: str) -> None:
    line = Line()
    line.transport.stalled = True
    task = await line.ask()
    if how == "cancel":
        task.cancel()
    elif how == "loss":
        line.transport.lose(ConnectionResetError("reset"))
    else:
        line.connection.data_received(ANSWER)
    await asyncio.gather(task, return_exceptions=True)
    line.connection.resume_writing()

    assert line.sent_count == 0
    assert line.transport.is_aborted


async def test_a_whole_answer_leaves_the_connection_to_others() -> None:
    line = Line()
    response = await line.answered(ANSWER)
    kept_before_it_is_read = line.shelf.kept_count

    assert await response.read(5) == b"hello"
    response.close()
    again = await line.answered(ANSWER)
    assert await again.read(5) == b"hello"
    assert kept_before_it_is_read == 1
    assert line.shelf.kept_count == 2
    assert not line.transport.is_closing()


@pytest.mark.parametrize(
    "answer",
    [
        ANSWER + b"x",
        ANSWER + ANSWER,
        ANSWER.replace(b"OK\r\n", b"OK\r\nConnection: close\r\n"),
        b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    ],
)
async def test_a_connection_in_doubt_is_not_kept(answer: bytes) -> None:
    line = Line()
    response = await line.answered(answer)

    assert await response.read(5) == b"hello"
    assert line.transport.is_aborted
    assert line.shelf.kept_count == 0


async def test_an_answer_before_its_request_was_sent_is_read_but_the_last() -> None:
    line = Line()
    line.transport.stalled = True
    response = await line.answered(ANSWER)

    assert await response.read(5) == b"hello"
    assert line.transport.is_aborted
    assert line.shelf.kept_count == 0


@pytest.mark.parametrize("data", [b"HTTP/1.1 408 Too slow\r\n\r\n", b"\r\n", b"x"])
async def test_bytes_nobody_asked_for_end_an_idle_connection(data: bytes) -> None:
    line = Line()
    await line.answered(ANSWER)
    line.connection.data_received(data)
    await turn()

    assert line.transport.is_aborted
    assert line.shelf.is_forgotten


async def test_the_workers_close_ends_an_idle_connection() -> None:
    line = Line()
    await line.answered(ANSWER)
    line.transport.receive_eof()
    await turn()

    assert line.shelf.is_forgotten


@pytest.mark.parametrize("how", ["eof", "loss", "nonsense"])
async def test_no_answer_is_broken(how: str) -> None:
    line = Line()
    task = await line.ask()
    if how == "eof":
        line.transport.receive_eof()
    elif how == "loss":
        line.transport.lose(ConnectionResetError("reset"))
    else:
        line.connection.data_received(b"nonsense\r\n")

    with pytest.raises(BrokenError):
        await task
    await turn()
    assert line.transport.is_closing()
    assert line.shelf.is_forgotten


@pytest.mark.parametrize("how", ["eof", "loss", "nonsense"])
async def test_half_an_answer_is_broken(how: str) -> None:
    line = Line()
    response = await line.answered(CHUNKED + b"5\r\nhello\r\n")
    task = asyncio.create_task(response.read(100))
    await turn()
    if how == "eof":
        line.transport.receive_eof()
    elif how == "loss":
        line.transport.lose(ConnectionResetError("reset"))
    else:
        line.connection.data_received(b"nonsense\r\n")

    with pytest.raises(BrokenError):
        await task
    assert line.transport.is_closing()
    assert line.shelf.kept_count == 0


async def test_the_end_of_the_connection_may_be_the_answers() -> None:
    line = Line()
    response = await line.answered(OK + b"\r\nhel")
    line.connection.data_received(b"lo")
    line.transport.receive_eof()

    assert await response.read(5) == b"hello"
    assert line.transport.is_aborted


async def test_a_reset_is_no_end_of_an_answer() -> None:
    line = Line()
    response = await line.answered(OK + b"\r\nhel")
    line.transport.lose(ConnectionResetError("reset"))
    await turn()

    with pytest.raises(BrokenError, match="reset"):
        await response.read(5)


@pytest.mark.parametrize("answer", [ANSWER, CHUNKED + b"5\r\nhello\r\n0\r\n\r\n"])
async def test_an_answer_may_be_too_large(answer: bytes) -> None:
    line = Line()
    response = await line.answered(answer)

    with pytest.raises(AnswerTooLargeError):
        await response.read(4)


async def test_a_large_answer_is_aborted_before_its_end() -> None:
    line = Line()
    response = await line.answered(CHUNKED)
    task = asyncio.create_task(response.read(4))
    await turn()
    line.connection.data_received(b"5\r\nhello\r\n")

    with pytest.raises(AnswerTooLargeError):
        await task
    assert line.transport.is_aborted


async def test_the_first_piece_is_waited_for_and_stays() -> None:
    line = Line()
    response = await line.answered(CHUNKED)
    task = asyncio.create_task(response.first())
    await turn()
    was_done = task.done()
    line.connection.data_received(b"3\r\nhel\r\n")
    first = await task
    line.connection.data_received(b"2\r\nlo\r\n0\r\n\r\n")

    assert not was_done
    assert first == b"hel"
    assert await response.first() == b"hel"
    assert await response.read(5) == b"hello"


async def test_an_empty_answer_has_no_first_piece() -> None:
    line = Line()
    response = await line.answered(CHUNKED + b"0\r\n\r\n")

    assert await response.first() == b""


async def test_a_break_before_the_first_piece_is_told() -> None:
    line = Line()
    response = await line.answered(CHUNKED)
    task = asyncio.create_task(response.first())
    await turn()
    line.transport.receive_eof()

    with pytest.raises(BrokenError):
        await task


async def test_a_body_nobody_asks_for_is_not_read_without_bound() -> None:
    line = Line()
    response = await line.answered(CHUNKED + b"64\r\n" + b"x" * 100 + b"\r\n")
    was_paused = line.transport.is_reading_paused
    task = asyncio.create_task(response.read(200))
    await turn()
    is_paused = line.transport.is_reading_paused
    line.connection.data_received(b"64\r\n" + b"x" * 100 + b"\r\n")
    is_paused_later = line.transport.is_reading_paused
    line.connection.data_received(b"0\r\n\r\n")

    assert was_paused
    assert not is_paused
    assert not is_paused_later
    assert await task == b"x" * 200


async def test_a_kept_connection_is_read() -> None:
    line = Line()
    response = await line.answered(CHUNKED)
    response._entry.pause_reading()
    line.connection.data_received(b"0\r\n\r\n")

    assert line.shelf.kept_count == 1
    assert not line.transport.is_reading_paused


@pytest.mark.parametrize("data", [b"", OK, ANSWER])
async def test_who_is_cancelled_leaves_nothing_behind(data: bytes) -> None:
    line = Line()
    task = await line.ask()
    if data:
        line.connection.data_received(data)
    # The answer may be there, but the task has not seen it.
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await turn()

    # A whole answer left a clean connection, which others may have by now.
    assert line.transport.is_aborted == (data != ANSWER)


async def test_an_answer_that_comes_to_who_was_cancelled_ends_the_connection() -> None:
    line = Line()
    task = await line.ask()
    task.cancel()
    line.connection.data_received(ANSWER)
    with pytest.raises(asyncio.CancelledError):
        await task

    assert line.transport.is_aborted
    assert line.shelf.kept_count == 0


async def test_an_answer_unseen_by_who_was_cancelled_is_aborted() -> None:
    line = Line()
    task = await line.ask()
    line.connection.data_received(CHUNKED)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert line.transport.is_aborted


async def test_to_cancel_a_reader_aborts_the_request() -> None:
    line = Line()
    response = await line.answered(CHUNKED)
    task = asyncio.create_task(response.read(5))
    await turn()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert line.transport.is_aborted


async def test_to_close_an_unfinished_answer_aborts_the_request() -> None:
    line = Line()
    response = await line.answered(CHUNKED)
    response.close()

    assert line.transport.is_aborted


async def test_a_failing_hook_aborts_the_request() -> None:
    def fail() -> None:
        raise RuntimeError("a bug")

    line = Line()
    with pytest.raises(RuntimeError):
        await line.connection.exchange(HEAD, None, is_head=False, on_sent=fail)

    assert line.transport.is_aborted


@pytest.mark.parametrize(
    ("content_type", "is_stream"),
    [(b"text/event-stream; charset=utf-8", True), (b"Text/Event-Stream", True), (b"a/b", False)],
)
async def test_a_stream_is_known_by_its_type(content_type: bytes, is_stream: bool) -> None:
    head = OK + b"Content-Type: " + content_type + b"\r\nContent-Length: 0\r\n\r\n"
    response = await Line().answered(head)

    assert response.is_stream is is_stream


async def test_a_workers_close_does_not_wait_for_what_was_not_sent() -> None:
    line = Line()
    line.transport.stalled = True
    task = await line.ask()
    line.transport.receive_eof()

    with pytest.raises(BrokenError):
        await task
    assert line.transport.is_aborted
