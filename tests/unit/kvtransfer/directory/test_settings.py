import math

import pytest

from twofold_kvtransfer.directory import DirectorySettings, InvalidDirectorySettingsError


@pytest.mark.parametrize("name", ["max_holdings", "ttl_seconds", "max_rebuilds"])
@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf])
def test_a_bound_that_bounds_nothing_is_refused_by_name(name: str, value: float) -> None:
    with pytest.raises(InvalidDirectorySettingsError, match=name):
        DirectorySettings(**{name: value})  # type: ignore[arg-type]
