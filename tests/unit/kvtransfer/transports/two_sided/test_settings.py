"""The settings of the two-sided transport."""

from typing import Any

import pytest

from twofold_kvtransfer.transports.sockets.settings import InvalidSocketSettingsError
from twofold_kvtransfer.transports.two_sided import Limits, TwoSidedSettings


@pytest.mark.parametrize(
    "change",
    [
        {"host": ""},
        {"host": "0.0.0.0"},
        {"host": "::"},
        {"port": -1},
        {"port": 65536},
        {"connect_seconds": 0},
        {"idle_seconds": -1},
        {"max_transfers_per_pair": 0},
        {"max_accepted_lines": 0},
    ],
)
def test_a_setting_that_cannot_work_is_named(change: dict[str, Any]) -> None:
    with pytest.raises(InvalidSocketSettingsError, match=next(iter(change))):
        TwoSidedSettings(**change)


def test_the_limits_are_those_that_were_set() -> None:
    assert TwoSidedSettings(connect_seconds=3, idle_seconds=4).limits == Limits(3, 4)
