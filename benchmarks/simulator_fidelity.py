"""``python -m benchmarks.simulator_fidelity``: the simulated engine beside the real one.

Starts one real vLLM engine (with ``--pair`` a prefill and a decode engine), calibrates a profile,
and then sends it another workload: Poisson arrivals, lengths of prompts and answers spread evenly
over their logarithms, half of what the engine can take. The simulated engine gets the same requests
at the same moments. Compared are the p50 and p90 of TTFT and TPOT.

The two engines of a pair share the machine's cores, which those of a cluster do not: how much they
slow each other down is measured too, and simulated.

Others must leave the machine alone meanwhile; how much they did not is in the results.
"""

import argparse
import asyncio
import math
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import psutil

from benchmarks.figures import quantile
from benchmarks.local_cluster import running_cluster
from benchmarks.machine import describe_machine
from benchmarks.processes import busy_seconds, cpu_seconds_of
from benchmarks.report import Goal, publish, say, table
from benchmarks.simulated_serving import Request, Served, simulate
from benchmarks.slowdowns import measure_slowdowns
from twofold_router.http import ClientLimits, open_client
from twofold_sim.calibrating import (
    Answer,
    CalibrationSettings,
    Endpoint,
    PromptMaker,
    calibrate,
)
from twofold_sim.calibrating.command import render as render_calibration
from twofold_sim.profiles import Profile, load_profile, save_profile

MODEL = "smollm2"
MAX_BATCHED_TOKENS = 2048
MAX_SEQUENCES = 128
"""What vLLM takes by default on a CPU."""

PROMPT_TOKENS = (32, 800)
OUTPUT_TOKENS = (8, 64)
LOAD = 0.5
"""Of the requests a second that the engine can take."""

ERROR_GOAL = 0.15
SHARES = (0.5, 0.9)


@dataclass(frozen=True)
class Cluster:
    urls: list[str]
    """Of the engines, that of the prefill engine first."""
    supervisor_pid: int


def main() -> int:
    parsed = _parser().parse_args()
    machine = describe_machine()
    with cluster_running(pair=parsed.pair) as cluster:
        results = asyncio.run(_measure(cluster, parsed))
    results = {"machine": machine, **results}
    say(render(results))
    return publish("simulator_fidelity", results, goals(results), parsed.json)


async def _measure(cluster: Cluster, parsed: argparse.Namespace) -> dict[str, Any]:
    calibration_seconds, workload_seconds = (60.0, 60.0) if parsed.quick else (150.0, 150.0)
    async with open_client(ClientLimits()) as client:
        prefill, *rest = (Endpoint(client, url, MODEL) for url in cluster.urls)
        decode = rest[0] if rest else None
        if parsed.profile is None:
            settings = CalibrationSettings(
                name="smollm2-cpu",
                seconds=calibration_seconds,
                max_prompt_tokens=3000,
                max_batch=16,
                max_batched_tokens=MAX_BATCHED_TOKENS,
                max_sequences=MAX_SEQUENCES,
            )
            others = Others(cluster.supervisor_pid)
            calibration = await calibrate(prefill, settings, decode)
            say(render_calibration(calibration))
            say(f"others took {others.cores():.2f} cores")
            profile = calibration.profile
        else:
            profile = load_profile(parsed.profile)
        if parsed.save is not None:
            save_profile(profile, parsed.save)
        slowdowns = (1.0, 1.0)
        if decode is not None:
            slowdowns = await measure_slowdowns(prefill, decode)
            say(f"slower beside the other: {slowdowns[0]:.2f} and {slowdowns[1]:.2f} times")
        planned = workload(
            profile, workload_seconds, parsed.seed, pair=decode is not None, slowdowns=slowdowns
        )
        others = Others(cluster.supervisor_pid)
        requests = await send(planned, prefill, decode, parsed.seed)
        others_cores = others.cores()
    simulated = simulate(profile, requests, pair=decode is not None, slowdowns=slowdowns)
    return {
        "profile": msgspec.to_builtins(profile),
        "pair": decode is not None,
        "slowdowns": slowdowns,
        "others_cores": others_cores,
        "requests": [msgspec.to_builtins(request) for request in requests],
        "simulated": [msgspec.to_builtins(served) for served in simulated],
        "compared": compare(requests, simulated),
    }


@contextmanager
def cluster_running(*, pair: bool) -> Iterator[Cluster]:
    """Run one engine, or a prefill and a decode engine."""
    with running_cluster("--prefill", "1" if pair else "0") as status:
        workers = sorted(status["workers"], key=lambda each: each["role"], reverse=True)
        addresses = [worker["address"] for worker in workers]
        yield Cluster(addresses, status["supervisor"]["pid"])


def workload(
    profile: Profile,
    seconds: float,
    seed: int,
    *,
    pair: bool,
    slowdowns: tuple[float, float] = (1.0, 1.0),
) -> list[tuple[float, int, int]]:
    """Plan arrivals, prompt tokens and output tokens, at a share of what *profile* can take."""
    random = Random(f"workload {seed}")
    sizes = [
        (_log_uniform(random, *PROMPT_TOKENS), _log_uniform(random, *OUTPUT_TOKENS))
        for _ in range(5000)
    ]
    at_once = [Request(0.0, prompt, output, 0.0, 0.0) for prompt, output in sizes[:200]]
    all_served = simulate(profile, at_once, pair=pair, slowdowns=slowdowns)
    took = max(
        request.at + served.ttft + served.tpot * (request.output_tokens - 1)
        for request, served in zip(at_once, all_served, strict=True)
    )
    rate = LOAD * len(at_once) / took
    planned = []
    at = random.expovariate(rate)
    for prompt, output in sizes:
        if at > seconds:
            break
        planned.append((at, prompt, output))
        at += random.expovariate(rate)
    return planned


async def send(
    planned: Sequence[tuple[float, int, int]],
    prefill: Endpoint,
    decode: Endpoint | None,
    seed: int,
) -> list[Request]:
    """Send what was *planned* at its moments; to a pair both legs, one after the other."""
    prompts = PromptMaker(Random(f"prompts {seed}"))
    for tokens in (100, 1000):
        prompt = prompts.make(tokens)
        prompts.learn(prompt, (await prefill.complete(prompt, 1)).prompt_tokens)
    texts = [prompts.make(tokens) for _, tokens, _ in planned]
    now = asyncio.get_running_loop().time
    began_at = now()

    async def one(at: float, text: str, output: int) -> Request:
        await asyncio.sleep(began_at + at - now())
        sent_at = now()
        if decode is None:
            answer: Answer = await prefill.complete(text, output)
        else:
            answer = await decode.complete(text, output, await prefill.prefill(text))
        return Request(
            at=sent_at - began_at,
            prompt_tokens=answer.prompt_tokens,
            output_tokens=answer.generated_tokens,
            ttft=answer.token_times[0] - sent_at,
            tpot=answer.tpot,
        )

    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(one(at, text, output))
            for (at, _, output), text in zip(planned, texts, strict=True)
        ]
    return [task.result() for task in tasks]


def compare(
    requests: Sequence[Request], simulated: Sequence[Served]
) -> dict[str, dict[str, float]]:
    """Return each figure of both, and the error of the simulated one."""
    compared = {}
    for figure in ("ttft", "tpot"):
        counted = [
            (getattr(request, figure), getattr(served, figure))
            for request, served in zip(requests, simulated, strict=True)
            if figure == "ttft" or request.output_tokens > 1
        ]
        for share in SHARES:
            real, modelled = (quantile(column, share) for column in zip(*counted, strict=True))
            compared[f"{figure} p{share * 100:.0f}"] = {
                "real": real,
                "simulated": modelled,
                "error": modelled / real - 1,
            }
    return compared


def goals(results: dict[str, Any]) -> list[Goal]:
    kind = "pair" if results["pair"] else "one engine"
    return [
        Goal(f"{kind}: error of {name}", abs(figures["error"]), ERROR_GOAL)
        for name, figures in results["compared"].items()
    ]


def render(results: dict[str, Any]) -> str:
    rows = [
        (name, figures["real"] * 1000, figures["simulated"] * 1000, f"{figures['error']:+.1%}")
        for name, figures in results["compared"].items()
    ]
    return "\n\n".join(
        [
            f"{len(results['requests'])} requests; others took {results['others_cores']:.2f} cores",
            table(("", "real ms", "simulated ms", "error"), rows),
        ]
    )


class Others:
    """What processes beside this one and the cluster take of the machine."""

    def __init__(self, supervisor_pid: int) -> None:
        supervisor = psutil.Process(supervisor_pid)
        children = supervisor.children(recursive=True)
        self._pids = [os.getpid(), supervisor_pid, *(child.pid for child in children)]
        self._began_at = time.monotonic()
        self._before = self._seconds()

    def cores(self) -> float:
        return (self._seconds() - self._before) / (time.monotonic() - self._began_at)

    def _seconds(self) -> float:
        return busy_seconds() - sum(map(cpu_seconds_of, self._pids))


def _log_uniform(random: Random, least: int, most: int) -> int:
    return round(math.exp(random.uniform(math.log(least), math.log(most))))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="60 s each instead of 150 s")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--pair", action="store_true", help="a prefill and a decode engine")
    parser.add_argument("--profile", help="take this profile instead of calibrating one")
    parser.add_argument("--save", type=Path, help="write the profile here")
    parser.add_argument("--seed", type=int, default=1)
    return parser


if __name__ == "__main__":
    sys.exit(main())
