"""What runs were made under, so that like is compared with like."""

from collections.abc import Sequence
from typing import NamedTuple

from twofold_sim.measuring.measures import Slo
from twofold_sim.measuring.record import Record, Setting


class Conditions(NamedTuple):
    """All that a run was told but for its policy, QPS and seed."""

    workload: str
    workers: int
    decode_workers: int
    slo: Slo
    setup: tuple[tuple[str, Setting], ...]
    """By name."""

    def workers_text(self) -> str:
        """Say how many workers there are."""
        if self.decode_workers:
            return f"{self.workers} prefill and {self.decode_workers} decode workers"
        return f"{self.workers} workers"


def conditions_of(record: Record) -> Conditions:
    setup = tuple(sorted(record.setup.items()))
    return Conditions(record.workload, record.workers, record.decode_workers, record.slo, setup)


def slo_text(slo: Slo) -> str:
    """Say what is on time."""
    parts = [f"TTFT within {slo.ttft_seconds:g} s"]
    if slo.ttft_seconds_per_token:
        parts[0] += f" and {slo.ttft_seconds_per_token * 1000:g} ms for each token of the prompt"
    if slo.tpot_seconds is not None:
        parts.append(f"TPOT within {slo.tpot_seconds * 1000:g} ms")
    return ", ".join(parts)


def differences(several: Sequence[Conditions]) -> list[str]:
    """Say of each of *several* those settings that are not alike in all; the workload, the workers
    and the SLO are not among them."""
    settings = [dict(conditions.setup) for conditions in several]
    names = sorted({name for each in settings for name in each})
    varied = [name for name in names if len({each.get(name) for each in settings}) > 1]
    return [
        ", ".join(f"{name.replace('_', ' ')} {each[name]}" for name in varied if name in each)
        for each in settings
    ]
