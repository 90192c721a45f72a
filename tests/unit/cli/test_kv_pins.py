import json
from pathlib import Path

import pytest
from tests.unit.cli.test_kv import console, lines

from twofold_cli.errors import BadArgumentError
from twofold_cli.kv_pins import Pinned, as_json, pin_in_cluster, show_pin
from twofold_cli.state import StateDirectory
from twofold_cluster.identity import WorkerId

PINNED = Pinned(
    worker=WorkerId("p-0"),
    request_id="cmpl-1",
    token_count=70,
    cached_token_count=64,
    left_seconds=600.0,
)


def test_people_see_what_is_kept_and_how_to_end_it() -> None:
    screen = console()

    show_pin(PINNED, screen)

    assert lines(screen) == [
        "p-0 keeps 70 tokens for 10m; 64 of them were in its cache",
        "end it with: twofold kv unpin cmpl-1 --on p-0",
    ]


def test_machines_get_the_same() -> None:
    assert json.loads(as_json(PINNED)) == {
        "worker": "p-0",
        "request_id": "cmpl-1",
        "token_count": 70,
        "cached_token_count": 64,
        "left_seconds": 600.0,
    }


@pytest.mark.parametrize("seconds", [0.0, -1.0, 86_401.0, float("nan")])
def test_nothing_is_pinned_for_no_time_or_for_too_long(tmp_path: Path, seconds: float) -> None:
    with pytest.raises(BadArgumentError, match="--seconds"):
        pin_in_cluster(StateDirectory(tmp_path), {"prompt": "Hi"}, on="p-0", seconds=seconds)
