"""``python -m benchmarks.placement_quality --traces FOLDER``: which policy keeps how many on time.

DualMap's published experiment (arXiv 2602.06502) in virtual time: workers that prefill only at
0.00016 seconds a token, SLO 5 seconds, 500 requests to warm up and then 4,000 that are measured;
beside it what the paper does not have, with those of the policies that were the best of the others
anywhere in its experiment. A seed takes another part of the trace, generates another synthetic
workload, and decides all that chance does.

With ``--json FILE`` what is in the file already is not run again, so that a long run can be made in
pieces (``--stop-after SECONDS``). Whoever changes a policy begins with another file.
"""

import argparse
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median

import msgspec

from benchmarks.figures import spread
from benchmarks.machine import describe_machine
from benchmarks.report import Goal, goal_table, say, table
from twofold_sim.measuring import Record, Slo
from twofold_sim.measuring.goodput import GOOD_SHARE, goodput
from twofold_sim.policies import ABLATIONS, SIM_POLICIES
from twofold_sim.virtual import PrefillPool, Reporting, Requests, Setup, run
from twofold_sim.workloads import OnLong, at_qps

OURS = "twofold"
KNOWN = {**SIM_POLICIES, **ABLATIONS}
CONVERSATION = "mooncake_conversation.jsonl"
AGENT = "synthetic-agent"
LONGEST_TOKENS = 20_480
SECONDS_PER_TOKEN = 0.00016

LEAST_GAIN = 1.15
LEAST_AT_HALF = 0.85
MOST_BEHIND = 0.02

HOPELESS = 0.02
"""A policy that has fewer on time is not asked to serve more a second."""

CONVERSATION_QPS = (5.0, 5.5, 6.0, 6.5, 7.0, 7.5, 8.0, 9.0, 10.0, 12.0)
AGENT_QPS = (11.0, 12.0, 13.0, 14.0, 15.0, 16.0, 18.0, 20.0, 24.0, 30.0)
_FEW_CONVERSATION = (6.5, 7.0, 7.5, 8.0, 9.5)
_FEW_AGENT = (13.0, 14.0, 15.0, 17.0, 24.0)

CONTENDERS = (OURS, "min-ttft", "preble", "preble-pending", "sglang-cache-aware")
"""Those that were the best of the others at some QPS of DualMap's experiment."""

PER_TOKEN = Slo(ttft_seconds=2.5, ttft_seconds_per_token=2 * SECONDS_PER_TOKEN)
"""Twice what a prompt takes alone, and half of the flat SLO; as much as that on average."""


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """One of the experiments."""

    says: str
    workload: str
    qps: tuple[float, ...]
    setup: Setup = Setup(cluster=PrefillPool(workers=8))
    count: int = 4000
    on_long: OnLong = "truncate"
    policies: tuple[str, ...] = CONTENDERS

    def requests(self, traces: Path) -> Requests:
        is_trace = self.workload == CONVERSATION
        return Requests(
            workload=str(traces / self.workload) if is_trace else self.workload,
            count=self.count,
            warm_up_count=500,
            max_prompt_tokens=LONGEST_TOKENS,
            on_long=self.on_long,
        )


def _both(
    name: str,
    says: str,
    setup: Setup,
    *,
    scale: float = 1.0,
    counts: tuple[int, int] = (4000, 4000),
    policies: tuple[str, ...] = CONTENDERS,
    conversation_qps: Sequence[float] = _FEW_CONVERSATION,
    agent_qps: Sequence[float] = _FEW_AGENT,
) -> dict[str, Part]:
    """Make an experiment on both workloads."""
    of_each = ((CONVERSATION, conversation_qps, counts[0]), (AGENT, agent_qps, counts[1]))
    return {
        f"{'conversation' if workload == CONVERSATION else AGENT}{name}": Part(
            says=says,
            workload=workload,
            qps=tuple(scale * rate for rate in qps),
            setup=setup,
            count=count,
            policies=policies,
        )
        for workload, qps, count in of_each
    }


_EIGHT = PrefillPool(workers=8)
_STALE = Reporting(least_delay_seconds=0.05, most_delay_seconds=1.0)
PARTS: Mapping[str, Part] = {
    **_both(
        "",
        "8 workers",
        Setup(cluster=_EIGHT),
        policies=tuple(SIM_POLICIES),
        conversation_qps=CONVERSATION_QPS,
        agent_qps=AGENT_QPS,
    ),
    "conversation-drop": Part(
        says="8 workers; longer prompts are dropped, not truncated",
        workload=CONVERSATION,
        qps=(8.0, 9.0, 10.0, 11.0, 12.0, 14.0, 18.0),
        on_long="drop",
    ),
    **_both(
        "-64",
        "64 workers",
        Setup(cluster=PrefillPool(workers=64)),
        scale=8.0,
        counts=(11_500, 11_500),
        conversation_qps=(7.0, 8.0, 9.5, 11.0, 13.0),
    ),
    **_both(
        "-stale",
        "8 workers, two routers; load reports are 50 ms to 1 s old",
        Setup(cluster=_EIGHT, reporting=_STALE, replicas=2),
        conversation_qps=(4.5, 5.5, *_FEW_CONVERSATION),
        agent_qps=(9.0, 11.0, *_FEW_AGENT),
    ),
    **_both(
        "-mispredicted",
        "8 workers; prefills take up to 20 % less or more than predicted",
        Setup(cluster=_EIGHT, misprediction=0.2),
    ),
    **_both(
        "-unequal",
        "8 workers at 1.3, 1, 1 and 0.7 of the speed",
        Setup(cluster=_EIGHT, speeds=(1.3, 1.0, 1.0, 0.7)),
    ),
    **_both(
        "-per-token",
        "8 workers; SLO 2.5 s and 0.32 ms for each prompt token",
        Setup(cluster=_EIGHT, slo=PER_TOKEN),
    ),
    **_both(
        "-ablation",
        "8 workers; each part of the policy switched off alone",
        Setup(cluster=_EIGHT),
        policies=(OURS, *ABLATIONS),
    ),
}


class Run(msgspec.Struct, frozen=True):
    """A record, and the experiment that it is of."""

    part: str
    record: Record


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """What is found again in ``--json FILE``."""

    runs: list[Run]


class Document(Kept, frozen=True, kw_only=True):
    """What ``--json FILE`` holds."""

    benchmark: str = "placement_quality"
    command: str
    machine: dict[str, str]
    """Where that command ran. The figures are of virtual time; only ``wall_seconds`` depend on it,
    and those of runs that were found in the file may be another machine's."""
    goals: list[Goal] = []


def main() -> int:
    parsed = _parser().parse_args()
    machine = describe_machine(("msgspec", "xxhash"))
    seeds = [0] if parsed.quick else list(range(parsed.seeds))
    parts = {name: _asked_for(PARTS[name], parsed) for name in parsed.parts}
    runs = _read(parsed.json)
    until = time.monotonic() + parsed.stop_after
    is_complete = True
    try:
        for name, part in parts.items():
            known = [each.record for each in runs if each.part == name]
            for record in missing(part, part.requests(parsed.traces), known, seeds):
                runs.append(Run(name, record))
                _tell(name, record)
                if time.monotonic() > until:
                    is_complete = False
                    break
            if not is_complete:
                break
    finally:
        # Some of the rates say nothing of a goodput.
        goals = [
            goal
            for name in parts
            for goal in goals_of(name, _records(runs, name))
            if is_complete and parsed.qps is None
        ]
        if parsed.json is not None:
            command = " ".join([Path(sys.executable).name, "-m", *sys.argv])
            document = Document(command=command, machine=machine, runs=runs, goals=goals)
            parsed.json.write_bytes(msgspec.json.encode(document))
    if not is_complete:
        say("stopped; the same command goes on")
        return 3
    for name, part in parts.items():
        say(f"\n### {name}: {part.says}\n")
        say(render(part, _records(runs, name)))
    if goals:
        say(f"\n{goal_table(goals)}")
    return 0 if all(goal.met for goal in goals) else 1


def missing(
    part: Part, requests: Requests, known: Sequence[Record], seeds: Sequence[int]
) -> Iterator[Record]:
    """Run what of *part* is not *known*, and yield it."""
    shares = {
        (record.policy, record.seed, record.qps): record.measures.everyone.on_time_share
        for record in known
    }
    for seed in seeds:
        prompts = None
        for policy in part.policies:
            for qps in part.qps:
                share = shares.get((policy, seed, qps))
                if share is None:
                    if prompts is None:
                        prompts = requests.take(seed)
                    setup = msgspec.structs.replace(part.setup, seed=seed)
                    arriving = at_qps(prompts, qps)
                    record = run(requests, arriving, policy, KNOWN[policy], setup, qps)
                    share = record.measures.everyone.on_time_share
                    yield msgspec.structs.replace(record, samples=None)
                if share < HOPELESS:
                    break


def goals_of(name: str, records: Sequence[Record]) -> list[Goal]:
    """Compare ours with the best of the others; nothing for an ablation."""
    shares = _shares(records)
    others = [policy for policy in shares if policy != OURS and policy in SIM_POLICIES]
    if not others or OURS not in shares:
        return []
    best = {
        qps: max(median(shares[other].get(qps, [0.0])) for other in others) for qps in shares[OURS]
    }
    ours = {qps: median(values) for qps, values in shares[OURS].items()}
    # Whoever has too few on time at the lowest rate already might keep one that is hardly lower.
    best_goodput = max(_goodput(shares[other]) for other in others) or min(best)
    gain = Goal(
        f"{name}: goodput of the best other over {OURS}'s",
        best_goodput / max(_goodput(shares[OURS]), 1e-9),
        1 / LEAST_GAIN,
    )
    half = _where(best, 0.5)
    at_half = Goal(
        f"{name}: late of {OURS} where the best other has half on time",
        float("nan") if half is None else 1 - _at(ours, half),
        1 - LEAST_AT_HALF,
    )
    behind = Goal(
        f"{name}: most that the best other is above {OURS}",
        max(best[qps] - ours[qps] for qps in ours),
        MOST_BEHIND,
    )
    return [gain, at_half, behind]


def render(part: Part, records: Sequence[Record]) -> str:
    """Render the share on time by policy and QPS, the goodput, and what it is by length."""
    shares = _shares(records)
    headers = ("policy", *(f"{qps:g}" for qps in part.qps), f"QPS at {GOOD_SHARE:g}", "hit rate")
    middle = part.qps[len(part.qps) // 2]
    rows = []
    for policy, by_qps in shares.items():
        goodputs = [value or 0.0 for value in _goodputs(by_qps)]
        hits = [
            record.measures.everyone.hit_rate
            for record in records
            if record.policy == policy and record.qps == part.qps[0]
        ]
        cells = [_spread(by_qps[qps]) if qps in by_qps else "-" for qps in part.qps]
        goodput_cell = _spread(goodputs) if any(goodputs) else "none"
        rows.append((f"`{policy}`", *cells, goodput_cell, f"{median(hits):.2f}"))
    quarters = [
        (f"`{policy}`", *_quarters(records, policy, middle))
        for policy in shares
        if middle in shares[policy]
    ]
    by_length = table(("policy", "shortest quarter", "2nd", "3rd", "longest"), quarters)
    return (
        f"{table(headers, rows)}\n\nBy the length of the prompt, at {middle:g} a second:\n\n"
        f"{by_length}"
    )


Shares = dict[str, dict[float, list[float]]]
"""On time by policy and QPS, one for each seed."""


def _shares(records: Sequence[Record]) -> Shares:
    shares: Shares = {}
    for record in sorted(records, key=lambda record: (record.qps, record.seed)):
        by_qps = shares.setdefault(record.policy, {})
        by_qps.setdefault(record.qps, []).append(record.measures.everyone.on_time_share)
    return {policy: shares[policy] for policy in KNOWN if policy in shares}


def _goodputs(by_qps: Mapping[float, Sequence[float]]) -> list[float | None]:
    """Return the goodput of each seed."""
    count = max(map(len, by_qps.values()))
    return [
        goodput([(qps, found[seed]) for qps, found in by_qps.items() if seed < len(found)]).qps
        for seed in range(count)
    ]


def _goodput(by_qps: Mapping[float, Sequence[float]]) -> float:
    return median(value or 0.0 for value in _goodputs(by_qps))


def _quarters(records: Sequence[Record], policy: str, qps: float) -> list[str]:
    chosen = [record for record in records if record.policy == policy and record.qps == qps]
    return [
        _spread([record.measures.quartiles[number].on_time_share for record in chosen])
        for number in range(4)
    ]


def _where(curve: Mapping[float, float], share: float) -> float | None:
    """Return the QPS at which *curve* falls to *share*, on straight lines between its points."""
    for (low, above), (high, below) in pairwise(sorted(curve.items())):
        if above >= share > below:
            return low + (high - low) * (above - share) / (above - below)
    return None


def _at(curve: Mapping[float, float], qps: float) -> float:
    """Return the share at *qps*, on straight lines between the points of *curve*."""
    for (low, before), (high, after) in pairwise(sorted(curve.items())):
        if low <= qps <= high:
            return before + (after - before) * (qps - low) / (high - low)
    raise AssertionError(qps)


def _spread(values: Sequence[float]) -> str:
    found = spread(values)
    if found.lowest == found.highest:
        return f"{found.median:.2f}"
    return f"{found.median:.2f} ({found.lowest:.2f} to {found.highest:.2f})"


def _asked_for(part: Part, parsed: argparse.Namespace) -> Part:
    """Return *part* with the requests and the rates that were asked for."""
    if parsed.quick:
        part = msgspec.structs.replace(part, count=1000, qps=part.qps[2:-1:2])
    if parsed.qps is not None:
        chosen = tuple(rate for rate in part.qps if rate in parsed.qps)
        if not chosen:
            raise SystemExit(f"--qps: {part.workload} ({part.says}) has none of these rates")
        part = msgspec.structs.replace(part, qps=chosen)
    return part


def _records(runs: Sequence[Run], name: str) -> list[Record]:
    return [each.record for each in runs if each.part == name]


def _read(path: Path | None) -> list[Run]:
    if path is None or not path.exists():
        return []
    return msgspec.json.decode(path.read_bytes(), type=Kept).runs


def _tell(name: str, record: Record) -> None:
    share = record.measures.everyone.on_time_share
    where = f"{name}, {record.policy}, {record.qps:g} a second, seed {record.seed}"
    say(f"{where}: {share:.3f} on time ({record.wall_seconds:.1f} s)")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="benchmarks.placement_quality", description=__doc__)
    parser.add_argument("--traces", type=Path, required=True, help=f"the folder of {CONVERSATION}")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument(
        "--qps", nargs="+", type=float, help="of the parts' rates only these, and no goals"
    )
    parser.add_argument("--quick", action="store_true", help="fewer requests, QPS and seeds")
    parser.add_argument("--json", type=Path, help="where the figures are kept, and found again")
    parser.add_argument(
        "--stop-after", type=float, default=1e9, help="seconds; the rest is for the next time"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
