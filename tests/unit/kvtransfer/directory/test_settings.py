import math
from pathlib import Path

import pytest

from twofold_engine.settings import MAX_DIRECTORY_HOLDINGS
from twofold_kvtransfer.directory import DirectorySettings, InvalidDirectorySettingsError


@pytest.mark.parametrize("name", ["max_holdings", "ttl_seconds", "max_rebuilds"])
@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf])
def test_a_bound_that_bounds_nothing_is_refused_by_name(name: str, value: float) -> None:
    with pytest.raises(InvalidDirectorySettingsError, match=name):
        DirectorySettings(**{name: value})  # type: ignore[arg-type]


def test_the_resource_says_the_limits_that_the_code_has() -> None:
    root = Path(__file__).parents[4]
    (row,) = [
        line
        for line in (root / "docs/resources.md").read_text().splitlines()
        if "observability.directoryHoldings" in line
    ]
    crd = (root / "deploy/crds/llmservices.yaml").read_text()

    assert f"Default: {DirectorySettings().max_holdings:,} " in row
    assert f"maximum: {MAX_DIRECTORY_HOLDINGS}\n" in crd
