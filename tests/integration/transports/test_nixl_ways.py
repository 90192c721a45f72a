"""What UCX really takes between two processes of this machine."""

import os
import sys

import psutil
import pytest

from twofold_kvtransfer.transports.nixl.trying import (
    NoWayError,
    network_environment,
    try_way,
)
from twofold_kvtransfer.transports.nixl.ways import Kind

ENVIRONMENT = {name: text for name, text in os.environ.items() if not name.startswith("UCX_")}


def test_ucx_told_to_take_tcp_is_seen_to_take_it() -> None:
    way = try_way({**ENVIRONMENT, "UCX_TLS": "tcp", "UCX_NET_DEVICES": "lo"})

    assert (str(way), way.kind) == ("tcp/lo", Kind.TCP)


def test_ucx_left_alone_finds_a_way() -> None:
    assert try_way(ENVIRONMENT).kind is not Kind.UNKNOWN


def test_a_setting_for_logs_does_not_hide_the_way(tmp_path: object) -> None:
    told = {"UCX_LOG_FILE": f"{tmp_path}/ucx.log", "UCX_LOG_LEVEL": "fatal", "UCX_TLS": "tcp"}

    assert try_way({**ENVIRONMENT, **told}).kind is Kind.TCP


def test_why_there_is_no_way_is_told_in_ucxs_words() -> None:
    told = {"UCX_TLS": "tcp", "UCX_NET_DEVICES": "absent0:1"}

    with pytest.raises(NoWayError, match="no usable transports/devices"):
        try_way({**ENVIRONMENT, **told})


def test_what_cannot_be_tried_is_no_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")

    with pytest.raises(NoWayError, match=r"could not be tried: .*/nowhere/python"):
        try_way(ENVIRONMENT)


def test_no_process_is_left_when_it_takes_too_long() -> None:
    before = set(psutil.Process().children(recursive=True))

    with pytest.raises(NoWayError, match=r"within 0\.01 s"):
        try_way(network_environment(ENVIRONMENT), limit_seconds=0.01)

    assert set(psutil.Process().children(recursive=True)) <= before
