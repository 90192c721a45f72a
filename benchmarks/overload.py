"""``python -m benchmarks.overload``: ten times the load that the engines can take.

The mock engines prefill one prompt after the other, so their capacity is known and a queue makes
everyone late. A ramp finds the peak of the goodput (first bytes within the SLO, a second); then ten
times the capacity; then, without a pause, half of it, to see how soon all are on time again.
"""

import argparse
import shlex
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.footprint import Watch, growth, mib_per_minute
from benchmarks.load import (
    OK,
    REFUSED,
    UNSENT,
    Load,
    LoadResult,
    Request,
    Step,
    first_byte_after,
    prepared,
)
from benchmarks.machine import describe_machine
from benchmarks.report import Goal, publish, say, table
from benchmarks.systems import (
    RunningRouter,
    add_router_arguments,
    engines_running,
    router_running,
    router_under_test,
)

PREFILLING_ENGINES = 8
SECONDS_PER_TOKEN = 0.00002
PROMPT_TOKENS = 4000
"""Long enough that what a router adds to a body does not change the engines' capacity."""
CAPACITY = PREFILLING_ENGINES / (SECONDS_PER_TOKEN * PROMPT_TOKENS)
"""Requests a second that the engines can prefill."""
EVENTS = 8
EVENT_SECONDS = 0.02
SLO_SECONDS = 2.0
CONNECTIONS = 4000

RAMP = (0.6, 0.8, 0.9, 1.0, 1.1, 1.3)
OVERLOAD = 10.0
LIGHT = 0.5

LOST_GOODPUT_GOAL = 0.1
GROWTH_GOAL = 1.1
RECOVERY_SECONDS_GOAL = 5.0


def main() -> int:
    parsed = _parser().parse_args()
    machine = describe_machine()
    ramp_seconds, overload_seconds, light_seconds = (5, 10, 8) if parsed.quick else (20, 60, 20)
    engine_flags = ["--prefill-seconds-per-token", str(SECONDS_PER_TOKEN)]
    if parsed.refuse_after_seconds is not None:
        engine_flags += ["--refuse-after-seconds", str(parsed.refuse_after_seconds)]
    engine_count = PREFILLING_ENGINES * (2 if parsed.mode == "disaggregated" else 1)
    with tempfile.TemporaryDirectory() as folder:
        logs = Path(folder)
        with (
            engines_running(engine_count, logs, engine_flags) as engines,
            router_running(router_under_test(parsed), engines, logs) as router,
        ):
            engines.pace(EVENT_SECONDS)
            ramp = {
                share: _ramp_goodput(router, share, ramp_seconds, seed)
                for seed, share in enumerate(RAMP)
            }
            steps = [
                Step(overload_seconds, OVERLOAD * CAPACITY),
                Step(light_seconds, LIGHT * CAPACITY),
            ]
            with prepared(_load(router, steps, seed=len(RAMP))) as load:
                watch = Watch(router.process)
                result = load.run(watch.look)
    overloaded = [each for each in watch.seen if each.at < overload_seconds]
    results = {
        "machine": machine,
        "router": shlex.join(router.router.command[1:]),
        **assess(result, ramp, overload_seconds),
        "memory": {"growth": growth(overloaded), "mib_per_minute": mib_per_minute(overloaded)},
        "footprints": watch.seen,
    }
    say(render(results))
    return publish("overload", results, goals(results), parsed.json)


def assess(result: LoadResult, ramp: dict[float, float], overload_seconds: float) -> dict[str, Any]:
    """Say what the two steps of *result* came to; *ramp*: goodput by share of the capacity."""
    in_overload = [each for each in result.requests if each.start < overload_seconds]
    after = [each for each in result.requests if each.start >= overload_seconds]
    peak = max(ramp.values())
    kept = goodput(in_overload, overload_seconds)
    return {
        "capacity": CAPACITY,
        "slo_seconds": SLO_SECONDS,
        "ramp": {f"{share:.1f}": figure for share, figure in ramp.items()},
        "peak_goodput": peak,
        "goodput": kept,
        "goodput_share": kept / peak,
        "offered": len(in_overload) / overload_seconds,
        "outcomes": outcomes(in_overload),
        "recovery_outcomes": outcomes(after),
        "recovery_seconds": recovery_seconds(after, overload_seconds),
    }


def goodput(requests: Sequence[Request], seconds: float) -> float:
    """Return how many first bytes a second came in time, within *seconds* from the start.

    First bytes and not arrivals are counted within the time: else a queue at its end, which the
    engines have not paid for yet, would lift the goodput over the capacity.
    """
    counted = [each for each in requests if is_on_time(each) and (each.first_byte or 0) < seconds]
    return len(counted) / seconds


def is_on_time(request: Request) -> bool:
    return request.outcome == OK and first_byte_after(request) <= SLO_SECONDS


def recovery_seconds(requests: Sequence[Request], since: float) -> float:
    """Return when, after *since*, the last request began that was not on time."""
    return max((each.start - since for each in requests if not is_on_time(each)), default=0.0)


def outcomes(requests: Sequence[Request]) -> dict[str, int]:
    """Count the outcomes, the late ones apart."""
    counts: dict[str, int] = {}
    for each in requests:
        late = each.outcome == OK and not is_on_time(each)
        name = "200, late" if late else each.outcome
        counts[name] = counts.get(name, 0) + 1
    return counts


def goals(results: dict[str, Any]) -> list[Goal]:
    proper = {OK, "200, late", REFUSED, UNSENT}
    improper = sum(n for name, n in results["outcomes"].items() if name not in proper)
    return [
        Goal("goodput lost, of its peak", 1 - results["goodput_share"], LOST_GOODPUT_GOAL),
        Goal("growth of the memory", results["memory"]["growth"], GROWTH_GOAL),
        Goal("answers that are neither 200 nor 429 with Retry-After", improper, 0),
        Goal("recovery", results["recovery_seconds"], RECOVERY_SECONDS_GOAL, "s"),
    ]


def render(results: dict[str, Any]) -> str:
    rows = [(f"{share} x capacity", figure) for share, figure in results["ramp"].items()]
    rows.append((f"{OVERLOAD:.0f} x capacity", results["goodput"]))
    parts = [table(("load", "goodput a second"), rows)]
    parts += [f"{name}: {results[name]}" for name in ("outcomes", "recovery_outcomes", "memory")]
    return "\n\n".join(parts)


def _ramp_goodput(router: RunningRouter, share: float, seconds: float, seed: int) -> float:
    with prepared(_load(router, [Step(seconds, share * CAPACITY)], seed)) as load:
        return goodput(load.run().requests, seconds)


def _load(router: RunningRouter, steps: list[Step], seed: int) -> Load:
    return Load(
        ports=[router.port],
        steps=steps,
        connections=CONNECTIONS,
        prompt_tokens=PROMPT_TOKENS,
        shared_share=0.0,
        max_tokens=EVENTS,
        stream=True,
        slo_ttft_seconds=SLO_SECONDS,
        seed=seed,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="10 s of overload")
    parser.add_argument("--json", type=Path)
    parser.add_argument(
        "--refuse-after-seconds", type=float, help="engines refuse what would wait longer"
    )
    add_router_arguments(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
