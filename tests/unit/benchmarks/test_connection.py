import asyncio
from collections.abc import Sequence

import pytest
from benchmarks.connection import Connection, Exchange

STREAM = (
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    b"9\r\ndata: 1\n\n\r\n9\r\ndata: 2\n\n\r\ne\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"
)


class FakeTransport(asyncio.Transport):
    def writelines(self, list_of_data: object) -> None:
        pass

    def abort(self) -> None:
        pass


async def exchange(pieces: Sequence[bytes], *, is_stream: bool = True) -> Exchange:
    connection = Connection(asyncio.get_running_loop())
    connection.connection_made(FakeTransport())
    seen = Exchange(is_stream=is_stream)
    sending = asyncio.create_task(connection.send([b"request"], seen))
    await asyncio.sleep(0)
    for piece in pieces:
        connection.data_received(piece)
    connection.connection_lost(None)
    await sending
    return seen


@pytest.mark.parametrize("cut", range(1, len(STREAM)))
async def test_events_are_counted_wherever_the_stream_is_cut(cut: int) -> None:
    seen = await exchange([STREAM[:cut], STREAM[cut:]])

    assert seen.event_count == 3
    assert seen.outcome == "200"


async def test_a_stream_that_breaks_off_is_cut() -> None:
    assert (await exchange([STREAM[:-5]])).outcome == "cut"
    assert (await exchange([])).outcome == "no answer"


async def test_a_stream_needs_its_last_event() -> None:
    without = STREAM.replace(b"e\r\ndata: [DONE]\n\n\r\n", b"")

    assert (await exchange([without])).outcome == "not ended by [DONE]"


@pytest.mark.parametrize(
    ("header", "outcome"),
    [(b"Retry-After: 1\r\n", "429"), (b"", "429 without Retry-After")],
)
async def test_a_refusal_says_when_to_come_again(header: bytes, outcome: str) -> None:
    answer = b"HTTP/1.1 429 Too Many Requests\r\n" + header + b"Content-Length: 2\r\n\r\n{}"

    assert (await exchange([answer])).outcome == outcome
