"""The settings of a router: a bad value stops the start, and names itself."""

from pathlib import Path
from typing import Any

import pytest

from twofold_cluster.identity import Role
from twofold_router.access import Classes, parse_class
from twofold_router.settings import MIB, InvalidSettingError, RouterSettings
from twofold_router.static_workers import GivenWorker

BOTH = GivenWorker(Role.BOTH, "http://127.0.0.1:1")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("service", ""),
        ("redis_url", ""),
        ("port", 65536),
        ("port", -1),
        ("processes", 0),
        ("processes", 65),
        ("policy", "no-such"),
        ("on_no_prefill", "hope"),
        ("on_transfer_failure", "hope"),
        ("drain_delay_seconds", -1.0),
        ("max_queued", -1),
        ("min_uncached_tokens", -1),
        ("max_kept_bytes", -1),
        ("max_unprefilled_tokens", 0),
        ("block_tokens", 0),
        ("max_attempts", 0),
        ("max_body_bytes", 0),
        ("max_answer_bytes", 0),
        ("body_timeout_seconds", -1.0),
        ("request_timeout_seconds", 0.0),
        ("leg_1_timeout_seconds", 0.0),
        ("first_byte_timeout_seconds", 0.0),
        ("release_timeout_seconds", 0.0),
        ("suspect_seconds", 0.0),
        ("connect_timeout_seconds", float("nan")),
        ("drain_timeout_seconds", float("inf")),
    ],
)
def test_a_bad_value_names_itself(name: str, value: Any) -> None:
    with pytest.raises(InvalidSettingError, match=f"{name} is {value!r}"):
        RouterSettings(**({"service": "s"} | {name: value}))


def test_given_workers_need_neither_a_service_nor_redis() -> None:
    RouterSettings(workers=(BOTH,), redis_url="")
    with pytest.raises(InvalidSettingError, match="service is ''"):
        RouterSettings()


def test_workers_are_given_or_those_of_a_service_and_never_both() -> None:
    with pytest.raises(InvalidSettingError, match="service is 's', and must be empty with workers"):
        RouterSettings(service="s", workers=(BOTH,))


def test_an_engines_key_is_for_given_workers_and_stays_out_of_what_is_printed() -> None:
    settings = RouterSettings(workers=(BOTH,), engine_api_key="s3cret")
    with pytest.raises(InvalidSettingError, match="for workers that are given") as raised:
        RouterSettings(service="s", engine_api_key="s3cret")

    assert settings.engine_headers() == ((b"authorization", b"Bearer s3cret"),)
    assert RouterSettings(workers=(BOTH,)).engine_headers() == ()
    assert "s3cret" not in repr(settings) + str(raised.value)


@pytest.mark.parametrize("host", ["", "0.0.0.0", "::", "10.0.0.1", "example.org"])
def test_other_machines_need_keys(host: str) -> None:
    with pytest.raises(InvalidSettingError, match="there are no API keys"):
        RouterSettings(service="s", host=host)

    RouterSettings(service="s", host=host, insecure=True)
    RouterSettings(service="s", host=host, keys_file=Path("keys.toml"))


def test_the_placement_is_told_its_part() -> None:
    classes = Classes([parse_class("default:ttft=7")])
    told = RouterSettings(
        service="s",
        disaggregate=False,
        on_no_prefill="fail",
        max_queued=7,
        max_unprefilled_tokens=8,
        min_uncached_tokens=9,
        classes=classes,
    ).placement()

    assert (told.disaggregate, told.on_no_prefill, told.max_queued) == (False, "fail", 7)
    assert (told.max_unprefilled_tokens, told.min_uncached_tokens) == (8, 9)
    assert told.ttft_slo_seconds == 7.0


def test_the_http_layer_is_told_its_part() -> None:
    settings = RouterSettings(
        service="s", max_body_bytes=MIB, body_timeout_seconds=3.0, connect_timeout_seconds=4.0
    )

    limits = settings.server_limits()
    assert (limits.body_bytes, limits.body_seconds) == (MIB, 3.0)
    assert settings.client_limits().connect_seconds == 4.0


def test_a_block_is_told_in_tokens_and_cut_in_bytes() -> None:
    assert RouterSettings(service="s", block_tokens=16).block_bytes == 64
