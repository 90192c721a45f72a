"""What the routers are compared in: for each length of prompt at the limit and at a rate."""

from typing import Literal

import msgspec

from benchmarks.load import Load, Step

PROMPT_LENGTHS = {200: (64, 200.0), 12_000: (32, 80.0), 100_000: (16, 20.0)}
"""Prompt tokens: requests at once in the closed loop, requests a second of the open one.

The rates are far below what any of the systems can on two cores, so that latency is the path's
and not a queue's.
"""

STREAMS = 128
EVENT_SECONDS = 0.02
FASTEST_EVENTS = 1000
OPEN_LOOP_CONNECTIONS = 256

Kind = Literal["requests, saturated", "requests, paced", "chunks, saturated", "chunks, paced"]


class Scenario(msgspec.Struct, frozen=True):
    """One load, the same for all systems."""

    kind: Kind
    load: Load
    event_seconds: float = 0.0
    """The engines' time between two events."""

    @property
    def name(self) -> str:
        if self.counts_events:
            return f"{self.kind}, {STREAMS} streams"
        return f"{self.kind}, {self.load.prompt_tokens:,} tokens"

    @property
    def counts_events(self) -> bool:
        """Whether the cost is looked for in each event, not in each request."""
        return self.load.stream


def scenarios(seconds: float) -> list[Scenario]:
    """Make the scenarios, of about *seconds* each, paced streams of twice that.

    Their ports are still to be set.
    """
    return [
        scenario
        for prompt_tokens, (at_once, rate) in PROMPT_LENGTHS.items()
        for scenario in _requests(prompt_tokens, at_once, rate, seconds)
    ] + _chunks(seconds)


def _requests(prompt_tokens: int, at_once: int, rate: float, seconds: float) -> list[Scenario]:
    saturated = Load(
        ports=[], steps=[Step(seconds)], connections=at_once, prompt_tokens=prompt_tokens
    )
    paced = Load(
        ports=[],
        steps=[Step(seconds, rate)],
        connections=OPEN_LOOP_CONNECTIONS,
        prompt_tokens=prompt_tokens,
    )
    return [Scenario("requests, saturated", saturated), Scenario("requests, paced", paced)]


def _chunks(seconds: float) -> list[Scenario]:
    return [
        Scenario("chunks, saturated", _streams(FASTEST_EVENTS, spread_seconds=0.0)),
        Scenario(
            "chunks, paced",
            _streams(round(2 * seconds / EVENT_SECONDS), spread_seconds=EVENT_SECONDS),
            EVENT_SECONDS,
        ),
    ]


def _streams(event_count: int, *, spread_seconds: float) -> Load:
    """Have every stream once, so that their count and not the time ends it."""
    return Load(
        ports=[],
        steps=[Step(60.0)],
        connections=STREAMS,
        request_limit=STREAMS,
        max_tokens=event_count,
        stream=True,
        spread_seconds=spread_seconds,
        warm_up_requests=0,
    )
