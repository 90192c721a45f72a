"""``python -m benchmarks.router_overhead``: what a router costs, beside vllm-router and none.

All systems stand before the same mock engines and get the same loads, one after the other in each
round, in an order that turns; CPU is that of the router's processes alone. vllm-router comes in two
policies: ``cache_aware``, its default and like ours a placement by content, and ``round_robin``,
the cheapest. With the phases apart, latency is added to one direct request, so it has leg 1 in it.
"""

import argparse
import math
import shlex
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, get_args

import msgspec

from benchmarks import systems
from benchmarks.figures import spread
from benchmarks.load import PreparedLoad, prepared
from benchmarks.machine import describe_machine
from benchmarks.processes import busy_seconds, cpu_seconds_of
from benchmarks.report import Goal, publish, say, table
from benchmarks.samples import Sample, Spending, add_latency, ratio, sample, summary
from benchmarks.scenarios import Scenario, scenarios
from benchmarks.systems import Engines, Mode, Router, RunningRouter

ENGINE_COUNT = 4
DIRECT = "direct"

VLLM_POLICIES = ("round_robin", "cache_aware")
CPU_RATIO_GOAL = 0.8


class Bench:
    """The running systems and what was measured of them."""

    def __init__(self, engines: Engines, routers: Sequence[RunningRouter]) -> None:
        self._engines = engines
        self._routers = {each.router.name: each for each in routers}
        self.samples: list[Sample] = []

    def run_round(self, number: int, chosen: Sequence[Scenario]) -> None:
        """Measure every system once in each of *chosen*, another one first in every round."""
        names = [DIRECT, *self._routers]
        turn = number % len(names)
        for scenario in chosen:
            self._engines.pace(scenario.event_seconds)
            for name in names[turn:] + names[:turn]:
                self.samples.append(self._measure(name, scenario, number))

    def _measure(self, name: str, scenario: Scenario, round_number: int) -> Sample:
        router = self._routers.get(name)
        ports = [router.port] if router else self._engines.ports
        load = msgspec.structs.replace(scenario.load, ports=ports, seed=round_number)
        with prepared(load) as ready:
            before = self._spending(router, ready)
            result = ready.run()
            after = self._spending(router, ready)
        spent = Spending(*(end - start for start, end in zip(before, after, strict=True)))
        identity = (name, scenario.name, round_number)
        return sample(identity, result, spent, counts_events=scenario.counts_events)

    def _spending(
        self, router: RunningRouter | None, load: PreparedLoad
    ) -> tuple[float, float, float]:
        """Return what router, engines and others spent since the machine was started."""
        of_router = router.process.cpu_seconds() if router else 0.0
        of_engines = self._engines.process.cpu_seconds()
        others = busy_seconds() - of_router - of_engines - cpu_seconds_of(load.pid)
        return of_router if router else math.nan, of_engines, others


def main() -> int:
    parsed = _parser().parse_args()
    machine = describe_machine()
    chosen = scenarios(seconds=1.0 if parsed.quick else 3.0)
    routers = _routers(parsed)
    with systems_running(routers) as bench:
        for number in range(parsed.rounds or (2 if parsed.quick else 5)):
            bench.run_round(number, chosen)
            say(f"round {number + 1} is done")
    samples = add_latency(bench.samples, DIRECT)
    say(render(samples, routers, chosen))
    others = spread([each.others_cores for each in samples])
    say(f"\nothers used {others.median:.2f} cores meanwhile, {others.highest:.2f} at the most\n")
    results = {
        "machine": machine,
        "others_cores": others,
        "commands": {router.name: shlex.join(router.command[1:]) for router in routers},
        "figures": {
            name: {each.name: summary(samples, name, each.name) for each in chosen}
            for name in [DIRECT, *(router.name for router in routers)]
        },
        "samples": samples,
    }
    return publish("router_overhead", results, goals(samples, routers, chosen), parsed.json)


@contextmanager
def systems_running(routers: Sequence[Router]) -> Iterator[Bench]:
    """Run engines and *routers* meanwhile; an idle router takes next to no CPU."""
    with tempfile.TemporaryDirectory() as logs, ExitStack() as stack:
        engines = stack.enter_context(systems.engines_running(ENGINE_COUNT, Path(logs)))
        yield Bench(
            engines,
            [
                stack.enter_context(systems.router_running(router, engines, Path(logs)))
                for router in routers
            ],
        )


def render(samples: Sequence[Sample], routers: Sequence[Router], chosen: Sequence[Scenario]) -> str:
    """Render the medians as one Markdown table for each scenario."""
    names = [DIRECT, *(router.name for router in routers)]
    parts = []
    for scenario in chosen:
        rows = [_row(samples, name, scenario) for name in names]
        unit = "chunk" if scenario.counts_events else "request"
        counts = (f"CPU µs a {unit}", f"{unit}s a second")
        headers = (scenario.name, *counts, "p50 added ms", "p99 added ms", "failures")
        parts.append(table(headers, rows))
    return "\n\n".join(parts)


def goals(
    samples: Sequence[Sample], routers: Sequence[Router], chosen: Sequence[Scenario]
) -> list[Goal]:
    """Compare ours with each of theirs in the same mode."""
    return [
        goal
        for ours in routers
        for theirs in routers
        if _is_ours(ours) and not _is_ours(theirs) and ours.mode == theirs.mode
        for scenario in chosen
        for goal in _goals(samples, ours.name, theirs.name, scenario)
    ]


def _goals(samples: Sequence[Sample], ours: str, theirs: str, scenario: Scenario) -> Iterator[Goal]:
    about = f"{ours} : {theirs}, {scenario.name}"
    cpu = ratio(samples, ours, theirs, scenario.name, "cpu_us")
    yield Goal(f"CPU, {about}", cpu, CPU_RATIO_GOAL)
    if scenario.kind == "requests, paced":
        added = [summary(samples, name, scenario.name)["p99_added_us"] for name in (ours, theirs)]
        milliseconds = [each.median / 1000 for each in added]
        yield Goal(f"p99 added, {about}", milliseconds[0], milliseconds[1], "ms")


def _row(samples: Sequence[Sample], name: str, scenario: Scenario) -> tuple[Any, ...]:
    figures = summary(samples, name, scenario.name)
    failures = sum(
        sum(each.failures.values())
        for each in samples
        if (each.system, each.scenario) == (name, scenario.name)
    )
    medians = [figures["cpu_us"].median, figures["per_second"].median]
    medians += [figures[added].median / 1000 for added in ("p50_added_us", "p99_added_us")]
    return (name, *medians, failures)


def _routers(parsed: argparse.Namespace) -> list[Router]:
    executable = parsed.vllm_router or systems.install_vllm_router()
    arguments = shlex.split(parsed.twofold)
    return [
        router
        for mode in parsed.mode or get_args(Mode)
        for router in [
            *([] if parsed.without_twofold else [systems.twofold(mode, arguments)]),
            *(systems.vllm_router(executable, policy, mode) for policy in VLLM_POLICIES),
        ]
    ]


def _is_ours(router: Router) -> bool:
    return router.command[0] == sys.executable


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two short rounds")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--mode", choices=get_args(Mode), action="append")
    parser.add_argument("--vllm-router", type=Path, help="its executable; else pip installs it")
    parser.add_argument("--twofold", default="", help="more arguments for our router")
    parser.add_argument("--without-twofold", action="store_true", help="their figures only")
    return parser


if __name__ == "__main__":
    sys.exit(main())
