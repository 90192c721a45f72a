"""Requests are sent at their moments to a real socket, whatever becomes of those before."""

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from benchmarks.replayed import replayed
from benchmarks.replaying import NOT_ANSWERED, Replay

from twofold_sim.workloads import Prompt

STREAM = (
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    b"9\r\ndata: 1\n\n\r\ne\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"
)
FULL = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 2\r\n\r\n{}"

REQUESTS = replayed(
    [
        Prompt(at=at, prompt_tokens=10, output_tokens=1, block_ids=(number,))
        for number, at in enumerate((0.0, 0.01, 0.02))
    ],
    "m",
    8,
)
LAST = REQUESTS[-1].body[1]


@asynccontextmanager
async def server(answer: bytes, answer_to_last: bytes | None) -> AsyncIterator[int]:
    """Answer each request with *answer*, the last with *answer_to_last*, None: never."""

    served: list[asyncio.Future[None]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        over = asyncio.get_running_loop().create_future()
        served.append(over)
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                body = await reader.readuntil(b'"}]}')
                told = answer_to_last if LAST in body else answer
                if told is not None:
                    writer.write(told)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.transport.abort()
            await asyncio.sleep(0)
            over.set_result(None)

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listening:
        yield listening.sockets[0].getsockname()[1]
    await asyncio.gather(*served)


async def test_whoever_is_answered_has_the_time_to_the_first_byte() -> None:
    async with server(STREAM, STREAM) as port:
        replies = await Replay(port, REQUESTS).run(5.0)

    assert [reply.outcome for reply in replies] == ["200"] * 3
    assert [reply.at for reply in replies] == [0.0, 0.01, 0.02]
    assert all(0.0 < reply.ttft < 5.0 for reply in replies)


async def test_whoever_is_not_answered_is_given_up() -> None:
    async with server(STREAM, None) as port:
        replies = await Replay(port, REQUESTS).run(0.5)

    assert [reply.outcome for reply in replies] == ["200", "200", NOT_ANSWERED]
    assert replies[-1].ttft == math.inf


async def test_a_refusal_is_never_on_time() -> None:
    async with server(STREAM, FULL) as port:
        replies = await Replay(port, REQUESTS).run(5.0)

    assert [reply.outcome for reply in replies] == ["200", "200", "503"]
    assert replies[-1].ttft == math.inf


async def test_a_router_that_is_gone_is_an_outcome() -> None:
    async with server(STREAM, STREAM) as port:
        pass
    replies = await Replay(port, REQUESTS).run(5.0)

    assert [reply.outcome for reply in replies] == ["no connection"] * 3
