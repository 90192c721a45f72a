"""``python -m benchmarks.load_generator``: make the load that standard input describes.

A line of JSON (``load.Load``) comes in; when prompts and connections are there, ``ready`` goes out;
at ``go`` the load begins; a line of JSON (``load.LoadResult``) ends it.
"""

import asyncio
import sys
import time
from random import Random

import msgspec
import uvloop

from benchmarks.connection import Exchange
from benchmarks.connections import Connections
from benchmarks.load import LEFT, READY, UNSENT, Load, LoadResult, Request
from benchmarks.mock_answers import MODEL
from benchmarks.prompts import Prompts

WARM_UP_CONNECTIONS = 64
"""More at once would fill a router's queue before the measurement."""


class LoadGenerator:
    """Makes one load and writes down what came of it."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._loop = asyncio.get_running_loop()
        # A load that can be repeated, with the same arrivals however soon the answers come.
        self._random = Random(load.seed)
        self._arrivals = Random(load.seed)
        self._connections = Connections(load.ports)
        self._busy_count = 0
        self._started_at = 0.0
        self._begun_count = 0
        self._event_count = 0
        self._requests: list[Request] = []
        slo = load.slo_ttft_seconds
        self._prompts = Prompts(
            self._random,
            model=MODEL,
            prompt_tokens=load.prompt_tokens,
            shared_share=load.shared_share,
            fields=f'"max_tokens":{load.max_tokens},"stream":{str(load.stream).lower()},',
        )
        self._head = (
            "POST /v1/chat/completions HTTP/1.1\r\nHost: benchmark\r\n"
            "Content-Type: application/json\r\nAccept: */*\r\n"
            f"Content-Length: {self._prompts.body_bytes}\r\n"
            + (f"x-llm-d-slo-ttft-ms: {slo * 1000:.0f}\r\n" if slo is not None else "")
            + "\r\n"
        ).encode()

    async def warm_up(self) -> None:
        """Have connections, and a router that has seen such requests."""
        slots = min(self._load.connections, WARM_UP_CONNECTIONS)
        async with asyncio.TaskGroup() as tasks:
            for _ in range(slots):
                tasks.create_task(self._repeat(-(-self._load.warm_up_requests // slots)))
        self._requests.clear()
        self._event_count = 0

    async def run(self) -> LoadResult:
        self._started_at = time.perf_counter()
        step_end = self._started_at
        async with asyncio.TaskGroup() as requests:
            for step in self._load.steps:
                step_end += step.seconds
                if step.requests_per_second is None:
                    await self._closed_loop(step_end)
                else:
                    await self._open_loop(step.requests_per_second, step_end, requests)
        seconds = time.perf_counter() - self._started_at
        return LoadResult(seconds, self._event_count, self._requests)

    async def _repeat(self, count: int) -> None:
        for _ in range(count):
            await self._request(leave_after=None)

    async def _closed_loop(self, end: float) -> None:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(self._load.connections):
                begin_after = self._random.uniform(0, self._load.spread_seconds)
                tasks.create_task(self._slot(begin_after, end))

    async def _slot(self, begin_after: float, end: float) -> None:
        await asyncio.sleep(begin_after)
        limit = self._load.request_limit
        while time.perf_counter() < end and (limit is None or self._begun_count < limit):
            self._begun_count += 1
            await self._request(self._leave_after())

    async def _open_loop(self, rate: float, end: float, requests: asyncio.TaskGroup) -> None:
        """Begin *requests* until *end*; whoever comes after waits for them."""
        next_at = time.perf_counter()
        while (next_at := next_at + self._arrivals.expovariate(rate)) < end:
            await asyncio.sleep(next_at - time.perf_counter())
            if self._busy_count >= self._load.connections:
                self._requests.append(Request(self._now(), None, UNSENT))
            else:
                requests.create_task(self._request(self._leave_after()))
        await asyncio.sleep(end - time.perf_counter())

    async def _request(self, leave_after: float | None) -> None:
        start = self._now()
        exchange = Exchange(is_stream=self._load.stream)
        outcome: str | None = None
        self._busy_count += 1
        try:
            async with asyncio.timeout(leave_after or self._load.request_seconds):
                parts = [self._head, *self._prompts.next_body()]
                await self._connections.send(parts, exchange)
        except TimeoutError:
            outcome = "timeout" if leave_after is None else LEFT
        except OSError:
            outcome = "no connection"
        finally:
            self._busy_count -= 1
        first_byte = None
        if exchange.first_byte_at is not None:
            first_byte = round(exchange.first_byte_at - self._started_at, 6)
        self._event_count += exchange.event_count
        self._requests.append(Request(round(start, 6), first_byte, outcome or exchange.outcome))

    def _leave_after(self) -> float | None:
        if self._random.random() >= self._load.leave_share:
            return None
        return self._random.uniform(0.001, self._load.leave_within_seconds)

    def _now(self) -> float:
        return time.perf_counter() - self._started_at


async def generate(load: Load) -> None:
    """Make *load* between the words of standard input and output."""
    generator = LoadGenerator(load)
    await generator.warm_up()
    _say(READY)
    await asyncio.to_thread(sys.stdin.buffer.readline)
    _say(msgspec.json.encode(await generator.run()) + b"\n")


def main() -> None:
    load = msgspec.json.decode(sys.stdin.buffer.readline(), type=Load)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(generate(load))


def _say(line: bytes) -> None:
    sys.stdout.buffer.write(line)
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
