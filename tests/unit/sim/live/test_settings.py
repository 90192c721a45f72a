"""Which engines cannot be started."""

import os
from typing import Any

import pytest

from twofold_cluster.identity import WorkerId
from twofold_sim.live.gate import GateLimits
from twofold_sim.live.settings import InvalidEngineError, KvEventSettings, MembershipSettings
from twofold_sim.live.supervised import Reporter
from twofold_sim.live.testing import quick_engine

NAN, INFINITE = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("port", (-1, 65_536)),
        ("side_channel_port", (-1, 99_999)),
        ("speed", (0.0, -1.0, NAN, INFINITE, 1e-300, 1e300)),
        ("lease_seconds", (0.0, -1.0, NAN, INFINITE)),
        ("drain_seconds", (-1.0, NAN, INFINITE)),
        ("host", ("", "a" * 64 + ".example")),
    ],
)
def test_a_setting_that_no_engine_can_have_is_refused_by_its_name(
    name: str, values: tuple[Any, ...]
) -> None:
    for value in values:
        with pytest.raises(InvalidEngineError, match=rf"^{name} "):
            quick_engine(**{name: value})


def test_the_bounds_of_the_settings_are_still_good() -> None:
    quick_engine(port=0, side_channel_port=65_535, speed=1e6, lease_seconds=0.01, drain_seconds=0.0)
    quick_engine(port=65_535, speed=1e-6, lease_seconds=86_400.0, limits=GateLimits(1, 1))


@pytest.mark.parametrize("name", ["max_unprefilled", "max_in_flight"])
@pytest.mark.parametrize("limit", [-1, -3])
def test_a_limit_below_none_is_refused(name: str, limit: int) -> None:
    with pytest.raises(InvalidEngineError, match=f"{name} must not be negative, and is {limit}"):
        quick_engine(limits=GateLimits(**{name: limit}))


@pytest.mark.parametrize("count", [0, -1, 10**20])
def test_a_buffer_of_no_or_of_too_many_events_is_refused(count: int) -> None:
    with pytest.raises(InvalidEngineError, match="kv_events_buffer must be 1 to"):
        KvEventSettings(buffer_count=count)


@pytest.mark.parametrize("url", ["foo://x", "redis://127.0.0.1:99999", "127.0.0.1:6379", ""])
def test_a_redis_that_can_be_nowhere_is_refused(url: str) -> None:
    with pytest.raises(InvalidEngineError, match="redis must be the URL of a Redis"):
        MembershipSettings(worker_id=WorkerId("w"), redis=url)


def test_a_refused_redis_does_not_tell_its_password() -> None:
    with pytest.raises(InvalidEngineError) as raised:
        MembershipSettings(worker_id=WorkerId("w"), redis="foo://:secret@x:1")

    assert "secret" not in str(raised.value)


def test_nobody_is_told_of_events_at_a_descriptor_that_is_closed() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    os.close(writing)

    with pytest.raises(InvalidEngineError, match=f"events_fd {writing}"):
        Reporter(writing)
