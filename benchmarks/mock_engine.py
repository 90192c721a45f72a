"""``python -m benchmarks.mock_engine``: engines without a model, one for each port.

They speak as much of vLLM's HTTP as a router uses, and cost little: the body is searched and not
decoded, the answers are made beforehand. A request's ``max_tokens`` is the number of its events.
``POST /mock/pace`` with seconds in the body sets the time between two events of all engines.
"""

import argparse
import asyncio
import math
import re
from dataclasses import dataclass
from typing import cast

import httptools
import uvloop

from benchmarks import mock_answers
from benchmarks.prompts import BYTES_PER_TOKEN

SEARCHED_BYTES = 2048
"""A router may sort the fields of a body, but the long one, the prompt, stands between the others;
so they are all found at its two ends."""

_STREAM = re.compile(rb'"stream"\s*:\s*true')
_INCLUDE_USAGE = re.compile(rb'"include_usage"\s*:\s*true')
_LEG_2 = re.compile(rb'"do_remote_prefill"\s*:\s*true')
_LEG_1 = re.compile(rb'"do_remote_decode"\s*:\s*true')
_MAX_TOKENS = re.compile(rb'"max(?:_completion)?_tokens"\s*:\s*(\d+)')

_EVENT = mock_answers.event_frame()
_LAST_EVENT = mock_answers.event_frame(b'"stop"')
_NOT_FOUND = mock_answers.response(b'{"detail":"Not Found"}', b"404 Not Found")


@dataclass(slots=True)
class Behaviour:
    """What all engines of the process share."""

    seconds_per_prompt_token: float = 0.0
    refuse_after_seconds: float = math.inf
    """Refuse what would wait longer than this for its prefill."""
    pace_seconds: float = 0.0


class MockEngine:
    """One engine: its prefills stand in one line, its streams run side by side."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self.running = 0
        self._prefilling_until = 0.0

    def prefill_end(self, prompt_tokens: int, now: float) -> float | None:
        """Return when a prompt that joins the line now is prefilled; None: too long a line."""
        start = max(now, self._prefilling_until)
        if start - now > self.behaviour.refuse_after_seconds:
            return None
        self._prefilling_until = start + prompt_tokens * self.behaviour.seconds_per_prompt_token
        return self._prefilling_until


class EngineProtocol(asyncio.Protocol):
    """One connection of a client that does not pipeline."""

    def __init__(self, engine: MockEngine, loop: asyncio.AbstractEventLoop) -> None:
        self._engine = engine
        self._loop = loop
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport
        self._timer: asyncio.Handle | None = None
        self._is_serving = False
        self._is_full = False
        self._has_waiting_event = False
        self._path = b""
        self._head = b""
        self._tail = b""
        self._body_bytes = 0
        self._events_left = 0
        self._usage = b""
        self._next_event_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._finish()

    def pause_writing(self) -> None:
        self._is_full = True

    def resume_writing(self) -> None:
        self._is_full = False
        if self._has_waiting_event:
            self._has_waiting_event = False
            self._write_event()

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        self._path = url

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        if len(self._head) < SEARCHED_BYTES:
            self._head += body[:SEARCHED_BYTES]
        long_enough = body if len(body) >= SEARCHED_BYTES else self._tail + body
        self._tail = long_enough[-SEARCHED_BYTES:]

    def on_message_complete(self) -> None:
        if self._path in (b"/v1/chat/completions", b"/v1/completions"):
            self._serve()
        else:
            self._transport.write(self._plain_answer())
            self._begin()

    def _begin(self) -> None:
        self._path = b""
        self._head = b""
        self._tail = b""
        self._body_bytes = 0

    def _plain_answer(self) -> bytes:
        if self._path == b"/mock/pace":
            self._engine.behaviour.pace_seconds = float(self._head)
        if self._path in (b"/health", b"/mock/pace"):
            return mock_answers.response(b"")
        if self._path == b"/v1/models":
            return mock_answers.models()
        if self._path == b"/metrics":
            return mock_answers.metrics(self._engine.running)
        return _NOT_FOUND

    def _serve(self) -> None:
        prompt_tokens = self._body_bytes // BYTES_PER_TOKEN
        is_prefilled = _LEG_2.search(self._head + self._tail) is not None
        now = self._loop.time()
        ready_at = now if is_prefilled else self._engine.prefill_end(prompt_tokens, now)
        if ready_at is None:
            self._transport.write(mock_answers.busy())
            self._begin()
            return
        self._is_serving = True
        self._engine.running += 1
        if ready_at > now:
            self._timer = self._loop.call_at(ready_at, self._answer, prompt_tokens)
        else:
            self._answer(prompt_tokens)

    def _answer(self, prompt_tokens: int) -> None:
        searched = self._head + self._tail
        if _STREAM.search(searched) is None:
            gives_blocks = _LEG_1.search(searched) is not None
            self._transport.write(mock_answers.completion(prompt_tokens, gives_blocks=gives_blocks))
            self._finish()
            return
        found = _MAX_TOKENS.search(searched)
        self._events_left = int(found[1]) if found else 16
        wants_usage = _INCLUDE_USAGE.search(searched) is not None
        self._usage = mock_answers.usage_frame(prompt_tokens) if wants_usage else b""
        self._next_event_at = self._loop.time()
        self._transport.write(mock_answers.STREAM_HEAD)
        self._write_event()

    def _write_event(self) -> None:
        if self._is_full:
            self._has_waiting_event = True
            return
        self._events_left -= 1
        if self._events_left <= 0:
            self._transport.writelines(
                [_LAST_EVENT, self._usage, mock_answers.DONE_FRAME, mock_answers.LAST_FRAME]
            )
            self._finish()
            return
        self._transport.write(_EVENT)
        self._schedule()

    def _schedule(self) -> None:
        pace_seconds = self._engine.behaviour.pace_seconds
        if pace_seconds:
            self._next_event_at += pace_seconds
            self._timer = self._loop.call_at(self._next_event_at, self._write_event)
        else:
            self._timer = self._loop.call_soon(self._write_event)

    def _finish(self) -> None:
        if self._is_serving:
            self._is_serving = False
            self._engine.running -= 1
        self._begin()


async def serve(ports: list[int], behaviour: Behaviour) -> None:
    """Serve an engine on each of *ports* until the process is ended."""
    loop = asyncio.get_running_loop()
    for port in ports:
        engine = MockEngine(behaviour)

        def connected(engine: MockEngine = engine) -> EngineProtocol:
            return EngineProtocol(engine, loop)

        await loop.create_server(connected, "127.0.0.1", port, backlog=4096)
    await loop.create_future()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, action="append", required=True)
    parser.add_argument("--prefill-seconds-per-token", type=float, default=0.0)
    parser.add_argument("--refuse-after-seconds", type=float, default=math.inf)
    parsed = parser.parse_args()
    behaviour = Behaviour(parsed.prefill_seconds_per_token, parsed.refuse_after_seconds)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(parsed.port, behaviour))


if __name__ == "__main__":
    main()
