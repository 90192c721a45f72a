"""A load to put on a router, what it found, and the process that makes it."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from os import getpid
from select import select
from subprocess import PIPE, Popen

import msgspec

from benchmarks.figures import quantile

READY = b"ready\n"
GO = b"go\n"
OK = "200"
REFUSED = "429"
LEFT = "left"
UNSENT = "unsent"

PREPARING_SECONDS = 120.0
FINISHING_SECONDS = 60.0
TICK_SECONDS = 1.0


class LoadError(Exception):
    """The load generator ended or hung."""


class Step(msgspec.Struct, frozen=True):
    """A time with one rate of arrivals."""

    seconds: float
    requests_per_second: float | None = None
    """Of a Poisson process; None: a closed loop, where an answer begets the next request."""


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """Which requests to send, and when."""

    ports: list[int]
    """Connections go to them in turn."""
    steps: list[Step]
    """One after the other, without a pause."""
    connections: int
    """At most so many at once; as many requests run at once in a closed loop."""
    request_limit: int | None = None
    """A closed loop ends after so many."""
    prompt_tokens: int = 200
    shared_share: float = 0.25
    max_tokens: int = 16
    stream: bool = False
    slo_ttft_seconds: float | None = None
    leave_share: float = 0.0
    """So many of the clients go away at a random moment,"""
    leave_within_seconds: float = 0.0
    """counted from the request."""
    spread_seconds: float = 0.0
    """The slots of a closed loop begin within this time, not all at once."""
    request_seconds: float = 60.0
    warm_up_requests: int = 64
    seed: int = 1

    @property
    def seconds(self) -> float:
        """No request begins later than this."""
        return sum(step.seconds for step in self.steps)


class Request(msgspec.Struct, array_like=True, frozen=True):
    """One request, in seconds from the start of the load."""

    start: float
    first_byte: float | None
    """Of the body."""
    outcome: str
    """The status; or why there was no whole answer."""


class LoadResult(msgspec.Struct, frozen=True):
    """What the load generator saw."""

    seconds: float
    """From the first request to the end of the last."""
    event_count: int
    requests: list[Request]

    def outcomes(self) -> dict[str, int]:
        counts: dict[str, int] = {}
        for request in self.requests:
            counts[request.outcome] = counts.get(request.outcome, 0) + 1
        return counts

    def succeeded(self) -> list[Request]:
        return [request for request in self.requests if request.outcome == OK]

    def first_byte_seconds(self, share: float) -> float:
        """Return a quantile of the time to the first byte of those that were served."""
        return quantile(list(map(first_byte_after, self.succeeded())), share)


def first_byte_after(request: Request) -> float:
    """Return the seconds that a served *request* waited."""
    assert request.first_byte is not None
    return request.first_byte - request.start


class PreparedLoad:
    """A load generator that has its prompts and its connections, and waits for the word."""

    def __init__(self, popen: Popen[bytes], load: Load) -> None:
        self._popen = popen
        self._load = load

    @property
    def pid(self) -> int:
        return self._popen.pid

    def run(self, on_tick: Callable[[], None] = lambda: None) -> LoadResult:
        """Put the load on, with *on_tick* about every second meanwhile.

        Raises:
            LoadError: the generator ended or took much longer than it may.
        """
        assert self._popen.stdin is not None
        self._popen.stdin.write(GO)
        self._popen.stdin.flush()
        limit = self._load.seconds + self._load.request_seconds + FINISHING_SECONDS
        line = self._read_line(limit, on_tick)
        return msgspec.json.decode(line, type=LoadResult)

    def await_ready(self) -> None:
        line = self._read_line(PREPARING_SECONDS, lambda: None)
        if line != READY:
            raise LoadError(f"the load generator said {line[:200]!r} instead of ready")

    def _read_line(self, limit_seconds: float, on_tick: Callable[[], None]) -> bytes:
        assert self._popen.stdout is not None
        deadline = time.monotonic() + limit_seconds
        while not select([self._popen.stdout], [], [], TICK_SECONDS)[0]:
            if time.monotonic() > deadline:
                raise LoadError(f"nothing from the load generator within {limit_seconds:.0f} s")
            on_tick()
        if not (line := self._popen.stdout.readline()):
            raise LoadError(f"the load generator ended with code {self._popen.wait()}")
        return line


@contextmanager
def prepared(load: Load) -> Iterator[PreparedLoad]:
    """Start a load generator, and wait until it is ready.

    Raises:
        LoadError: it is not.
    """
    module = [sys.executable, "-m", "benchmarks.load_generator"]
    command = [sys.executable, "-m", "twofold_cli.child", str(getpid()), "--", *module]
    with Popen(command, stdin=PIPE, stdout=PIPE) as popen:
        try:
            assert popen.stdin is not None
            popen.stdin.write(msgspec.json.encode(load) + b"\n")
            popen.stdin.flush()
            ready = PreparedLoad(popen, load)
            ready.await_ready()
            yield ready
        finally:
            popen.kill()
