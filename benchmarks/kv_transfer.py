"""``python -m benchmarks.kv_transfer``: blocks of a KV cache from one process to another.

Bare NIXL, NIXL as vLLM's connector calls it, and our transports read the same blocks of a peer,
one after the other in each round, in an order that turns; each has two processes of its own.
``scattered`` blocks lie anywhere, ``in a row`` one behind the other. Speed is from the call to the
end of the last transfer, without anything of an engine around it.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from benchmarks.figures import Spread, ratios, spread
from benchmarks.kv_contenders import BARE, GLOO, OURS
from benchmarks.kv_transfer_cases import GEOMETRIES, Case
from benchmarks.kv_transfer_paced import PACED
from benchmarks.kv_transfer_turns import SIDES, Sample, Turn, take_turn
from benchmarks.machine import describe_machine
from benchmarks.report import Goal, publish, say, table

USUAL = [name for name in SIDES if name != GLOO]
"""Gloo is the stand-in for NCCL, and no transport to choose."""
GIGA = 1e9
RATIO_GOAL = 1 / 0.9
"""Of our seconds and bare NIXL's: nine tenths of its bandwidth."""
MEMORY_BYTES = 5 << 30
"""Of each of both processes; 4,096 blocks of the 70B model."""
MOST_BYTES = 12 << 30
"""Moved at once; eight reads of 4,096 small blocks."""
QUICK_MEMORY_BYTES = 1536 << 20
QUICK_MOST_BYTES = 1536 << 20


def main() -> int:
    parsed = _parser().parse_args()
    machine = describe_machine(("nixl", "numpy"))
    memory_bytes = QUICK_MEMORY_BYTES if parsed.quick else MEMORY_BYTES
    most_bytes = QUICK_MOST_BYTES if parsed.quick else MOST_BYTES
    names = [name for name in SIDES if name in parsed.contenders]
    samples: list[Sample] = []
    for geometry in GEOMETRIES:
        block_count = geometry.block_count(memory_bytes)
        for number in range(parsed.rounds or (3 if parsed.quick else 7)):
            first = number % len(names)
            for name in names[first:] + names[:first]:
                samples += take_turn(Turn(name, geometry, number, block_count, most_bytes))
        say(f"{geometry.name}: done")
    say(render(samples, names))
    results = {"machine": machine, "figures": figures(samples, names), "samples": samples}
    return publish("kv_transfer", results, goals(samples), parsed.json)


def render(samples: Sequence[Sample], names: Sequence[str]) -> str:
    """Render a table for each geometry: GB/s of each, and ours by bare NIXL's."""
    baselines = [name for name in (BARE, PACED) if name in names]
    parts = []
    for geometry in dict.fromkeys(each.case.geometry for each in samples):
        chosen = [case for case in _cases_of(samples) if case.geometry == geometry]
        rows = [
            (
                f"{case.at_once} x {case.blocks} {case.order}",
                f"{_of(samples, OURS, case)[0].transfer_bytes / (1 << 20):,.0f}",
                *(speed(samples, name, case).median for name in names),
                *(1 / slowness(samples, case, name) for name in baselines),
            )
            for case in chosen
        ]
        against = (f"{OURS} : {name}" for name in baselines)
        headers = (f"{geometry}: blocks", "MiB", *names, *against)
        parts.append(table(headers, rows))
    return "\n\n".join(parts) + "\n\nGB/s, medians over the rounds\n"


def figures(samples: Sequence[Sample], names: Sequence[str]) -> dict[str, dict[str, Spread]]:
    return {
        str(case): {name: speed(samples, name, case) for name in names}
        for case in _cases_of(samples)
    }


def goals(samples: Sequence[Sample]) -> list[Goal]:
    return [
        Goal(f"seconds, {OURS} : {BARE}, {case}", slowness(samples, case), RATIO_GOAL)
        for case in _cases_of(samples)
    ]


def speed(samples: Sequence[Sample], name: str, case: Case) -> Spread:
    """Return GB/s over the rounds."""
    chosen = _of(samples, name, case)
    return spread([each.transfer_bytes / each.seconds / GIGA for each in chosen])


def slowness(samples: Sequence[Sample], case: Case, baseline: str = BARE) -> float:
    """Return the median over the rounds of our seconds by the *baseline*'s."""
    pairs = [[each.seconds for each in _of(samples, who, case)] for who in (OURS, baseline)]
    return median(ratios(*pairs))


def _of(samples: Sequence[Sample], name: str, case: Case) -> list[Sample]:
    return [each for each in samples if (each.contender, each.case) == (name, case)]


def _cases_of(samples: Sequence[Sample]) -> list[Case]:
    return list(dict.fromkeys(each.case for each in samples))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="three rounds with less memory")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--contenders", nargs="+", choices=SIDES, default=USUAL)
    parser.add_argument("--json", type=Path)
    return parser


if __name__ == "__main__":
    sys.exit(main())
