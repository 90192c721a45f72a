"""``python -m benchmarks.processes_cost``: what ``--processes N`` costs, and how even it is.

All counts of processes stand before the same mock engines and get the same loads, one after the
other in each round, in an order that turns. CPU is that of all processes of the router, and of
these the placement process alone. On a machine with fewer cores than processes, engines and load
want together, requests a second say nothing of what more cores would give; CPU a request does.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import msgspec
import psutil

from benchmarks.figures import Spread, spread
from benchmarks.load import PreparedLoad, prepared
from benchmarks.machine import describe_machine
from benchmarks.processes import busy_seconds, cpu_seconds_of
from benchmarks.report import publish, say, table
from benchmarks.samples import MICRO
from benchmarks.scenarios import Scenario, scenarios
from benchmarks.systems import Engines, RunningRouter, engines_running, router_running, twofold

ENGINE_COUNT = 4
PROCESS_COUNTS = (1, 2, 4)
KIND = "requests"


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """One measurement."""

    processes: int
    scenario: str
    round: int
    cpu_us: float
    """Of all processes of the router, a request."""
    placement_cpu_us: float
    """Of the placement process; 0 where it is also the gateway."""
    largest_share: float
    """Part of the gateways' CPU that the busiest had; 1 / processes is even."""
    per_second: float
    p50_us: float
    p99_us: float
    others_cores: float
    """What others took of the machine."""
    failures: dict[str, int]


class Spending(msgspec.Struct, frozen=True):
    """CPU seconds so far."""

    placement: float
    """Of the process that was started."""
    gateways: list[float]
    """Of its children."""
    known: float
    """Of engines and load."""
    machine: float


def main() -> int:
    parsed = _parser().parse_args()
    machine = describe_machine()
    seconds = 1.0 if parsed.quick else 3.0
    chosen = [each for each in scenarios(seconds) if each.kind.startswith(KIND)]
    with tempfile.TemporaryDirectory() as logs, ExitStack() as stack:
        engines = stack.enter_context(engines_running(ENGINE_COUNT, Path(logs)))
        routers = {
            count: stack.enter_context(
                router_running(
                    twofold("aggregated", ("--processes", str(count))), engines, Path(logs)
                )
            )
            for count in PROCESS_COUNTS
        }
        samples = _measure_all(
            engines, routers, chosen, parsed.rounds or (2 if parsed.quick else 5)
        )
    say(render(samples, chosen))
    others = spread([each.others_cores for each in samples])
    say(f"\nothers used {others.median:.2f} cores meanwhile, {others.highest:.2f} at the most\n")
    results = {"machine": machine, "others_cores": others, "samples": samples}
    return publish("processes_cost", results, [], parsed.json)


def measure(
    engines: Engines, router: RunningRouter, count: int, scenario: Scenario, round_number: int
) -> Sample:
    """Put the load of *scenario* on *router*, which has *count* processes."""
    load = msgspec.structs.replace(scenario.load, ports=[router.port], seed=round_number)
    with prepared(load) as ready:
        before = _spending(engines, router, ready)
        result = ready.run()
        after = _spending(engines, router, ready)
    served = max(1, len(result.succeeded()))
    placement = after.placement - before.placement
    gateways = [
        end - start for start, end in zip(before.gateways, after.gateways, strict=True)
    ] or [placement]
    of_placement = placement if count > 1 else 0.0
    known = after.known - before.known + of_placement + sum(gateways)
    return Sample(
        processes=count,
        scenario=scenario.name,
        round=round_number,
        cpu_us=(of_placement + sum(gateways)) / served * MICRO,
        placement_cpu_us=of_placement / served * MICRO,
        largest_share=max(gateways) / sum(gateways),
        per_second=served / result.seconds,
        p50_us=result.first_byte_seconds(0.5) * MICRO,
        p99_us=result.first_byte_seconds(0.99) * MICRO,
        others_cores=max(0.0, after.machine - before.machine - known) / result.seconds,
        failures={key: n for key, n in result.outcomes().items() if key != "200"},
    )


def render(samples: Sequence[Sample], chosen: Sequence[Scenario]) -> str:
    """Render the medians as one Markdown table for each scenario."""
    costs = ("CPU µs a request", "of it placement", "requests a second")
    others = ("p50 ms", "p99 ms", "busiest gateway", "failures")
    return "\n\n".join(
        table(
            (f"{scenario.name}: processes", *costs, *others),
            [_row(_of(samples, count, scenario), count) for count in PROCESS_COUNTS],
        )
        for scenario in chosen
    )


def _row(samples: Sequence[Sample], count: int) -> tuple[object, ...]:
    def median(figure: str) -> float:
        values: Spread = spread([getattr(each, figure) for each in samples])
        return values.median

    return (
        str(count),
        median("cpu_us"),
        median("placement_cpu_us"),
        median("per_second"),
        median("p50_us") / 1000,
        median("p99_us") / 1000,
        median("largest_share"),
        sum(sum(each.failures.values()) for each in samples),
    )


def _of(samples: Sequence[Sample], count: int, scenario: Scenario) -> list[Sample]:
    return [each for each in samples if (each.processes, each.scenario) == (count, scenario.name)]


def _measure_all(
    engines: Engines,
    routers: dict[int, RunningRouter],
    chosen: Sequence[Scenario],
    rounds: int,
) -> list[Sample]:
    """Measure all, another count first in every round."""
    samples: list[Sample] = []
    counts = list(routers)
    for number in range(rounds):
        turn = number % len(counts)
        for scenario in chosen:
            engines.pace(scenario.event_seconds)
            samples += (
                measure(engines, routers[count], count, scenario, number)
                for count in counts[turn:] + counts[:turn]
            )
        say(f"round {number + 1} is done")
    return samples


def _spending(engines: Engines, router: RunningRouter, load: PreparedLoad) -> Spending:
    children = psutil.Process(router.process.pid).children()
    return Spending(
        cpu_seconds_of(router.process.pid),
        [cpu_seconds_of(child.pid) for child in children],
        engines.process.cpu_seconds() + cpu_seconds_of(load.pid),
        busy_seconds(),
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two short rounds")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--json", type=Path)
    return parser


if __name__ == "__main__":
    sys.exit(main())
