"""Workloads by name."""

from pathlib import Path

import pytest

from twofold_sim.workloads import SYNTHETIC, WorkloadError, name_of, open_workload


def test_what_is_made_up_says_so_in_its_name() -> None:
    assert all(name.startswith("synthetic-") for name in SYNTHETIC)


@pytest.mark.parametrize("name", SYNTHETIC)
def test_a_name_makes_as_many_as_told(name: str) -> None:
    assert len(open_workload(name, count=20, seed=1)) == 20
    assert open_workload(name, count=20, seed=1) != open_workload(name, count=20, seed=2)
    assert name_of(name) == name


def test_anything_else_is_the_path_of_a_trace(tmp_path: Path) -> None:
    path = tmp_path / "short.csv"
    path.write_text("Timestamp,Request tokens,Response tokens\n1,5,5\n2,5,5\n")

    assert len(open_workload(str(path), count=1)) == 1
    assert len(open_workload(str(path))) == 2
    assert name_of(str(path)) == "short"
    with pytest.raises(WorkloadError):
        open_workload("synthetic")
