"""What is written of the dashboards and the alerts is what the repository has."""

from pathlib import Path

import pytest
from deploy.dashboards.writing import files

ROOT = Path(__file__).parents[3]
FILES = files()


@pytest.mark.parametrize("path", FILES, ids=str)
def test_a_generated_file_is_fresh(path: Path) -> None:
    assert (ROOT / path).read_text() == FILES[path], "run scripts/generate"


@pytest.mark.parametrize("folder", ["deploy/grafana", "helm/twofold/dashboards"])
def test_no_dashboard_is_left_over(folder: str) -> None:
    found = {path.relative_to(ROOT) for path in (ROOT / folder).iterdir()}

    assert found == {path for path in FILES if path.parent == Path(folder)}


def test_the_chart_has_the_same_bytes() -> None:
    chart = {path.name: FILES[path] for path in FILES if path.parts[0] == "helm"}
    others = {path.name: FILES[path] for path in FILES if path.parts[0] == "deploy"}

    assert len(chart) == 5
    assert chart == others
