"""``python -m benchmarks.soak``: many streams for long, a tenth of whose clients go away.

First the same load for a short while, so that pools and caches are filled; what the router holds
after it, at rest, is the start that it has to come back to.
"""

import argparse
import shlex
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.exposition import total
from benchmarks.footprint import Footprint, Watch, growth, mib_per_minute
from benchmarks.load import LEFT, OK, Load, Step, prepared
from benchmarks.machine import describe_machine
from benchmarks.processes import ask
from benchmarks.report import Goal, publish, say, table
from benchmarks.systems import (
    Engines,
    RunningRouter,
    add_router_arguments,
    engines_running,
    router_running,
    router_under_test,
)

ENGINE_COUNT = 4
STREAMS = 500
EVENTS = 50
EVENT_SECONDS = 0.1
LEAVE_SHARE = 0.1

COUNTS = ("twofold_router_in_flight", "twofold_router_queued")
REST_SECONDS = 30.0
"""How long the counts may take to come to rest."""
POLL_SECONDS = 0.5

GROWTH_GOAL = 1.05
SPARE_DESCRIPTORS = STREAMS // 10
"""A pool may keep a few connections more than at the start. Thousands of clients go away, so a
leak would be of thousands."""


class Rest(msgspec.Struct, frozen=True):
    """What is held when nobody asks for anything."""

    footprint: Footprint
    counts: dict[str, float | None]
    """By the router's metrics; None where it has no such metric."""
    engines_running: float
    """Requests that the engines still think they serve."""


def main() -> int:
    parsed = _parser().parse_args()
    machine = describe_machine()
    fill_seconds, seconds = (5.0, 20.0) if parsed.quick else (30.0, 600.0)
    with tempfile.TemporaryDirectory() as folder:
        logs = Path(folder)
        with (
            engines_running(ENGINE_COUNT, logs) as engines,
            router_running(router_under_test(parsed), engines, logs) as router,
        ):
            engines.pace(EVENT_SECONDS)
            watch = Watch(router.process)
            _put_load(router, fill_seconds, seed=0, watch=Watch(router.process))
            start = come_to_rest(router, engines, watch)
            watch.seen.clear()
            outcomes = _put_load(router, seconds, seed=1, watch=watch)
            seen = list(watch.seen)
            end = come_to_rest(router, engines, watch)
    results = {
        "machine": machine,
        "router": shlex.join(router.router.command[1:]),
        "outcomes": outcomes,
        "start": start,
        "end": end,
        "memory": {"growth": growth(seen), "mib_per_minute": mib_per_minute(seen)},
        "footprints": seen,
    }
    say(render(results))
    return publish("soak", results, goals(results), parsed.json)


def come_to_rest(router: RunningRouter, engines: Engines, watch: Watch) -> Rest:
    """Wait, in bounds, until nothing is counted any more, and say what is held then."""
    deadline = time.monotonic() + REST_SECONDS
    while True:
        page = ask(router.port, "GET", "/metrics")[1].decode()
        counts = {name: total(page, name) for name in COUNTS}
        running = _running(engines)
        if not (any(counts.values()) or running) or time.monotonic() > deadline:
            watch.look()
            return Rest(watch.seen[-1], counts, running)
        time.sleep(POLL_SECONDS)


def goals(results: dict[str, Any]) -> list[Goal]:
    start, end = results["start"], results["end"]
    broken = sum(n for name, n in results["outcomes"].items() if name not in (OK, LEFT))
    descriptor_limit = start.footprint.descriptors + SPARE_DESCRIPTORS
    return [
        Goal("growth of the memory", results["memory"]["growth"], GROWTH_GOAL),
        Goal("descriptors at rest", end.footprint.descriptors, descriptor_limit),
        *(
            Goal(f"{name} at rest", float("nan") if count is None else count, 0)
            for name, count in end.counts.items()
        ),
        Goal("requests left in the engines", end.engines_running, 0),
        Goal("streams that broke", broken, 0),
    ]


def render(results: dict[str, Any]) -> str:
    rows = [
        (name, rest.footprint.resident_mib, rest.footprint.descriptors, *rest.counts.values())
        for name, rest in (("start", results["start"]), ("end", results["end"]))
    ]
    parts = [table(("at rest", "MiB", "descriptors", *COUNTS), rows)]
    parts += [f"{name}: {results[name]}" for name in ("outcomes", "memory")]
    return "\n\n".join(parts)


def _put_load(router: RunningRouter, seconds: float, *, seed: int, watch: Watch) -> dict[str, int]:
    load = Load(
        ports=[router.port],
        steps=[Step(seconds)],
        connections=STREAMS,
        max_tokens=EVENTS,
        stream=True,
        leave_share=LEAVE_SHARE,
        leave_within_seconds=EVENTS * EVENT_SECONDS,
        spread_seconds=min(seconds, EVENTS * EVENT_SECONDS),
        warm_up_requests=0,
        seed=seed,
    )
    with prepared(load) as ready:
        return ready.run(watch.look).outcomes()


def _running(engines: Engines) -> float:
    pages = (ask(port, "GET", "/metrics")[1].decode() for port in engines.ports)
    return sum(total(page, "vllm:num_requests_running") or 0.0 for page in pages)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="20 s")
    parser.add_argument("--json", type=Path)
    add_router_arguments(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
