"""``python -m benchmarks.live_comparison``: our router and vllm-router before the same engines.

Simulated engines serve over HTTP, at real speed or faster; each router in turn gets the same
requests at the same moments, and fresh engines with empty caches. There are 8 engines that do both
phases, or 4 that prefill and 4 that decode. Workloads: Mooncake's conversation trace, of which each
round takes another stretch, and the synthetic agent workload, from another seed in each round.
Prompts are cut to 15,872 tokens and answers to a few, so that what is compared is where prompts are
computed.

Shown are the share of the requests whose first token came within the SLO of 5 s; quantiles of TTFT;
how much of the prompts the engines had in their caches; and the skew: of the engines that prefill,
the most tokens computed by one over their mean.
"""

import argparse
import asyncio
import itertools
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, get_args

import msgspec
import uvloop

from benchmarks.live_samples import (
    OURS,
    SLO_SECONDS,
    Sample,
    Workload,
    assess,
    goals,
    hit_rate,
    line,
    render,
    skew,
)
from benchmarks.machine import describe_machine
from benchmarks.mock_answers import MODEL
from benchmarks.processes import (
    MeasuredProcess,
    busy_seconds,
    free_ports,
    running,
    wait_until_ready,
)
from benchmarks.replayed import ReplayedRequest, replayed
from benchmarks.replaying import Replay, Replied
from benchmarks.report import publish, say
from benchmarks.sim_engines import SimEngines, sim_engines_running
from benchmarks.systems import Mode, Router, install_vllm_router, twofold, vllm_router
from twofold_sim.workloads import Prompt, at_qps, first, no_longer_than, open_workload

ENGINE_COUNT = 8
PROFILE = "llama2-70b-h100-tp8"
"""Fitted to published measurements. Its blocks are of 16 tokens, which vllm-router's kv_aware
demands."""
BLOCK_TOKENS = "16"
MAX_PROMPT_TOKENS = 15_872
"""Whole blocks that fit into the model of the profile, whose context is 16,384 tokens, with the
answer and what a chat adds."""
MAX_OUTPUT_TOKENS = 8

TRACE = "mooncake_conversation.jsonl"
SYNTHETIC = "synthetic-agent"
SYNTHETIC_SKIPPED = 2_000
"""Requests at its beginning, when few of its agents are at work yet."""

QPS: dict[tuple[Workload, Mode], tuple[float, float]] = {
    ("conversation", "aggregated"): (9.0, 11.5),
    ("conversation", "disaggregated"): (4.5, 5.75),
    ("synthetic-agent", "aggregated"): (16.0, 20.0),
    ("synthetic-agent", "disaggregated"): (8.0, 10.0),
}
"""In the engines' time: about 0.8 of what the prefilling engines could take if all of them shared
one cache, and all of it."""

OURS_UNTOLD = f"{OURS}, told no SLO"
NO_SLO_SECONDS = 3600.0
"""So late nobody is: deadlines are in the order of the arrivals then."""
VLLM_POLICIES = ("cache_aware", "kv_aware", "consistent_hash", "power_of_two", "round_robin")
SYSTEMS = (OURS, *VLLM_POLICIES, OURS_UNTOLD)

READY_SECONDS = 60.0
_READY = msgspec.json.encode(
    {"model": MODEL, "max_tokens": 1, "messages": [{"role": "user", "content": "Ready?"}]}
)


class Plan(msgspec.Struct, frozen=True):
    """One run of one system. Times are in the engines' seconds."""

    system: str
    workload: Workload
    mode: Mode
    qps: float
    round: int


class Measured(msgspec.Struct, frozen=True):
    """A replay, and what the router and the whole machine spent on it."""

    replies: list[Replied]
    seconds: float
    router_seconds: float
    busy_seconds: float


def main() -> int:
    parsed = _parser().parse_args()
    machine = describe_machine()
    executable = install_vllm_router()
    samples = [sample for file in parsed.add for sample in _read(file)]
    with tempfile.TemporaryDirectory() as folder:
        for plan in _plans(parsed):
            samples.append(_run(plan, executable, Path(folder), parsed))
            say(line(samples[-1]))
    say("\n" + render(samples) + "\n")
    results = {"machine": machine, "speed": parsed.speed, "samples": samples}
    return publish("live_comparison", results, goals(samples), parsed.json)


def stretch(prompts: Sequence[Prompt], count: int, number: int) -> list[Prompt]:
    """Return *count* of *prompts*, for each *number* those after the one before's; from the
    beginning again when there are not enough left."""
    stretches = max(1, len(prompts) // count)
    return first(prompts, count, skip=number % stretches * count)


def vllm_router_for(
    policy: str, mode: Mode, executable: Path, engines: SimEngines
) -> tuple[Router, list[str]]:
    """Return vllm-router, and the flags that its documentation has for *policy* beside its workers.

    kv_aware reads the engines' KV events. With the phases apart, the policies that go by prefixes
    have the decode worker chosen by load, as in its help.
    """
    router = vllm_router(executable, policy, mode)
    urls = engines.urls
    flags: list[str] = []
    if mode == "disaggregated" and policy in ("cache_aware", "kv_aware"):
        flags += ["--prefill-policy", policy, "--decode-policy", "power_of_two"]
    if policy == "kv_aware" and mode == "aggregated":
        flags += ["--kv-event-block-size", BLOCK_TOKENS, "--kv-event-model", MODEL]
        for url in urls:
            flags += ["--kv-event-source", f"{url}={engines.event_endpoint(url)}"]
    elif policy == "kv_aware":
        for url in urls[: len(urls) // 2]:
            flags += ["--pd-kv-events", f"{url}={engines.event_endpoint(url)}"]
    return router, flags


def _plans(parsed: argparse.Namespace) -> Iterator[Plan]:
    """Plan the runs so that all systems of a case follow one another, another one first in each
    round."""
    rounds = range(parsed.first_round, parsed.first_round + parsed.rounds)
    for number, workload, mode in itertools.product(rounds, parsed.workloads, parsed.modes):
        loads = QPS[workload, mode][:1] if parsed.quick else QPS[workload, mode]
        for qps in parsed.qps or loads:
            turn = number % len(parsed.systems)
            for system in parsed.systems[turn:] + parsed.systems[:turn]:
                yield Plan(system, workload, mode, qps, number)


def _run(plan: Plan, executable: Path, logs: Path, parsed: argparse.Namespace) -> Sample:
    seconds = 40.0 if parsed.quick else parsed.seconds
    requests = _requests(plan, parsed.traces, seconds, parsed.speed)
    slo_seconds = SLO_SECONDS / parsed.speed
    flags: list[str] = []
    with sim_engines_running(ENGINE_COUNT, logs, profile=PROFILE, speed=parsed.speed) as engines:
        if plan.system.startswith(OURS):
            ttft = slo_seconds if plan.system == OURS else NO_SLO_SECONDS
            router = twofold(plan.mode, ["--class", f"default:ttft={ttft}"])
        else:
            router, flags = vllm_router_for(plan.system, plan.mode, executable, engines)
        port = free_ports(1)[0]
        command = [*router.command_line(engines.ports, port), *flags]
        with running("router", command, logs) as process:
            ready = ("POST", "/v1/chat/completions", _READY)
            wait_until_ready(process, port, ready, READY_SECONDS)
            measured = _measure(process, port, requests, slo_seconds)
        prefilling = ENGINE_COUNT // 2 if plan.mode == "disaggregated" else ENGINE_COUNT
        prefilled = engines.prefilled()[:prefilling]
    return Sample(
        **msgspec.structs.asdict(plan),
        **assess(measured.replies, parsed.speed),
        hit_rate=hit_rate(prefilled),
        skew=skew(prefilled),
        router_cpu_ms=measured.router_seconds / len(requests) * 1000,
        cores=measured.busy_seconds / measured.seconds,
    )


def _measure(
    router: MeasuredProcess, port: int, requests: Sequence[ReplayedRequest], slo_seconds: float
) -> Measured:
    """Replay *requests*, and wait for those that may still be on time."""
    began_at, router_before, busy_before = time.monotonic(), router.cpu_seconds(), busy_seconds()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        replies = runner.run(Replay(port, requests).run(2 * slo_seconds))
    router.check()
    return Measured(
        replies,
        time.monotonic() - began_at,
        router.cpu_seconds() - router_before,
        busy_seconds() - busy_before,
    )


def _requests(plan: Plan, traces: Path, seconds: float, speed: float) -> list[ReplayedRequest]:
    """Make the requests of *seconds* of the clock."""
    qps = plan.qps * speed
    count = round(seconds * qps)
    prompts = _prompts(plan.workload, traces, plan.round)
    chosen = at_qps(
        no_longer_than(stretch(prompts, count, plan.round), MAX_PROMPT_TOKENS, "truncate"), qps
    )
    return replayed(chosen, MODEL, MAX_OUTPUT_TOKENS)


@lru_cache(maxsize=2)
def _prompts(workload: Workload, traces: Path, number: int) -> list[Prompt]:
    if workload == "conversation":
        return open_workload(str(traces / TRACE))
    return open_workload(SYNTHETIC, seed=number)[SYNTHETIC_SKIPPED:]


def _read(file: Path) -> list[Sample]:
    """Return the samples that an earlier run kept."""
    document: dict[str, Any] = msgspec.json.decode(file.read_bytes())
    return msgspec.convert(document["samples"], list[Sample])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--traces", type=Path, required=True, help=f"the folder with {TRACE}")
    add("--quick", action="store_true", help="40 s a run, one QPS")
    add("--json", type=Path)
    add("--speed", type=float, default=1.0, help="so many times as fast as the engines' profile")
    add("--seconds", type=float, default=150.0, help="of arrivals, in a run")
    add("--rounds", type=int, default=2)
    add("--first-round", type=int, default=0)
    add("--workloads", nargs="+", choices=get_args(Workload), default=get_args(Workload))
    add("--modes", nargs="+", choices=get_args(Mode), default=get_args(Mode))
    add("--systems", nargs="+", choices=SYSTEMS, default=SYSTEMS)
    add("--qps", nargs="+", type=float, help="in the engines' time")
    add("--add", nargs="+", type=Path, default=[], help="JSON of earlier runs, to show with this")
    return parser


if __name__ == "__main__":
    sys.exit(main())
