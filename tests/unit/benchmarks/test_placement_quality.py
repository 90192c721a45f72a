"""What the runs of a part say of its goals."""

import json
import sys
from pathlib import Path

import pytest
from benchmarks.placement_quality import OURS, goals_of, main

from twofold_sim.measuring import Record, Served, Slo, measure


def record(policy: str, qps: float, on_time: int) -> Record:
    served = [
        Served(number=number, at=0.0, prompt_tokens=10, ttft_seconds=1.0 if number < on_time else 9)
        for number in range(10)
    ]
    return Record(
        policy=policy,
        workload="w",
        workers=8,
        qps=qps,
        seed=0,
        slo=Slo(),
        measures=measure(served, Slo()),
    )


def test_the_gain_is_that_of_the_goodputs() -> None:
    records = [record(OURS, 4.0, 10), record(OURS, 8.0, 9), record(OURS, 9.0, 2)]
    records += [record("preble", 4.0, 9), record("preble", 8.0, 3)]

    gain, _, behind = goals_of("part", records)

    assert gain.figure == 0.5
    assert behind.figure == pytest.approx(-0.1)


def test_who_is_late_at_the_lowest_rate_already_may_be_as_good_just_below_it() -> None:
    records = [record(OURS, 8.0, 9), record(OURS, 10.0, 0), record("preble", 8.0, 8)]

    gain, _, _ = goals_of("part", records)

    assert gain.figure == 1.0
    assert not gain.met


def test_the_file_has_each_run_with_the_machine_and_the_versions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "quality.json"
    asked = [
        "--parts",
        "synthetic-agent-unequal",
        "--quick",
        "--stop-after",
        "0",
        "--json",
        str(path),
    ]
    monkeypatch.setattr(sys, "argv", ["placement_quality", "--traces", str(tmp_path), *asked])

    assert main() == 3  # stopped after one run

    document = json.loads(path.read_text())
    assert {"processor", "python", "msgspec"} <= document["machine"].keys()
    assert [run["record"]["policy"] for run in document["runs"]] == [OURS]
