"""What the benchmark of a placement's cost leaves."""

import json
import sys
from pathlib import Path

import pytest
from benchmarks import placement_cost


def test_the_file_has_every_sample_with_the_machine_and_the_versions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "cost.json"
    monkeypatch.setattr(sys, "argv", ["placement_cost", "--json", str(path)])
    small = {"POLICIES": ("twofold",), "WORKER_COUNTS": (8,), "MIRRORED_BLOCKS": 960}
    for name, value in {**small, "REQUESTS": 20}.items():
        monkeypatch.setattr(placement_cost, name, value)

    placement_cost.main()

    document = json.loads(path.read_text())
    assert {"processor", "python", "xxhash"} <= document["machine"].keys()
    [cost] = document["costs"]
    assert len(cost["whole"]) == len(cost["submit"]) == 20
    assert min(cost["whole"]) <= cost["whole_median"] <= max(cost["whole"])
