"""Records sorted into what belongs into one picture."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from twofold_sim.measuring import Record, Slo
from twofold_sim.measuring.conditions import (
    Conditions,
    conditions_of,
    differences,
    slo_text,
)


@dataclass(frozen=True, slots=True)
class Scene:
    """Runs that differ in policy, QPS and seed only; there is at least one."""

    title: str
    slug: str
    """Of file names; no two scenes have the same."""
    records: Sequence[Record]

    @property
    def policies(self) -> list[str]:
        """Return the policies in order of their first record."""
        return list(dict.fromkeys(record.policy for record in self.records))

    @property
    def qps(self) -> list[float]:
        return sorted({record.qps for record in self.records})

    @property
    def slo(self) -> Slo:
        return self.records[0].slo

    def runs(self, policy: str, qps: float) -> list[Record]:
        """Return the runs of all seeds."""
        return [each for each in self.records if (each.policy, each.qps) == (policy, qps)]

    def run(self, policy: str, qps: float) -> Record | None:
        """Return the run of the first seed."""
        return min(self.runs(policy, qps), key=lambda record: record.seed, default=None)


def scenes(records: Iterable[Record]) -> list[Scene]:
    """Sort *records* into scenes, in order of the first record of each."""
    found: dict[Conditions, list[Record]] = {}
    for record in records:
        found.setdefault(conditions_of(record), []).append(record)
    made: list[Scene] = []
    slugs: set[str] = set()
    for (conditions, group), other in zip(found.items(), differences(list(found)), strict=True):
        workload, workers = conditions.workload, conditions.workers_text()
        slug = unique = _slug(f"{workload} {workers}")
        number = 1
        while unique in slugs:
            number += 1
            unique = f"{slug}-{number}"
        slugs.add(unique)
        title = ", ".join(filter(None, (workload, workers, slo_text(conditions.slo), other)))
        made.append(Scene(title, unique, group))
    return made


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
