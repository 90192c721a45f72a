from typing import Any

import pytest

from twofold_router.settings import InvalidSettingError, RouterSettings


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("service", ""),
        ("port", 65536),
        ("port", -1),
        ("policy", "no-such"),
        ("on_no_prefill", "hope"),
        ("max_queued", -1),
        ("max_unprefilled", 0),
        ("max_body_bytes", 0),
        ("request_timeout_seconds", 0.0),
        ("connect_timeout_seconds", float("nan")),
        ("drain_timeout_seconds", float("inf")),
    ],
)
def test_a_bad_value_names_itself(name: str, value: Any) -> None:
    with pytest.raises(InvalidSettingError, match=f"{name} is {value!r}"):
        RouterSettings(**({"service": "s"} | {name: value}))


def test_the_placement_is_told_its_part() -> None:
    settings = RouterSettings("s", disaggregate=False, max_queued=7)

    assert (settings.placement().disaggregate, settings.placement().max_queued) == (False, 7)
