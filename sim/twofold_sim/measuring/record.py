"""One run as it is kept: what was run, and what it gave."""

from collections.abc import Iterable, Sequence

import msgspec

from twofold_sim.measuring.measures import Measures, Slo
from twofold_sim.measuring.samples import Samples
from twofold_sim.workloads import LongPrompts

Setting = str | int | float | bool | None


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """One policy, number of workers, QPS and seed."""

    policy: str
    workload: str
    """A synthetic one says so in its name."""
    workers: int
    """Those that prefill."""
    decode_workers: int = 0
    """0: the prefill pool alone, where a request ends with its first token."""
    qps: float
    seed: int = 0
    slo: Slo
    setup: dict[str, Setting] = {}
    """What else the run was told, by name; with the unit at the end of the name."""
    long_prompts: LongPrompts | None = None
    """Those of the workload that were cut or left out."""
    measures: Measures
    virtual_seconds: float | None = None
    """From the first arrival to the end of the run."""
    wall_seconds: float | None = None
    """That the run took here."""
    samples: Samples | None = None


def notes_on(records: Sequence[Record]) -> list[str]:
    """Say what was cut or left out of the workloads of *records*, and which were too short."""
    long_prompts = dict.fromkeys(filter(None, (record.long_prompts for record in records)))
    return [*map(str, long_prompts), *_shortfalls(records)]


def _shortfalls(records: Iterable[Record]) -> list[str]:
    """Say, once for each number, of which of *records* fewer requests were measured than asked."""
    said = {}
    for record in records:
        count, asked = record.measures.everyone.request_count, record.setup.get("requests")
        if isinstance(asked, int) and count < asked:
            said[count] = (
                f"{count:,} requests are measured of the {asked:,} that were asked for: there are "
                f"no more of {record.workload}"
            )
    return list(said.values())
