import argparse
from dataclasses import replace

import pytest

from twofold_cluster.identity import Incarnation, Role, WorkerId
from twofold_engine.settings import REDIS_ENV, WorkerSettings
from twofold_engine.simulated import sim_argv
from twofold_sim.live.running import add_engine_parser

SETTINGS = WorkerSettings(
    service="s",
    worker_id=WorkerId("w"),
    role=Role.DECODE,
    model="/models/m",
    served_name="m",
    incarnation=Incarnation("1"),
    redis="redis://h:1",
    host="10.0.0.1",
    max_unprefilled=3,
    max_in_flight=5,
    lease_seconds=7,
    node="n",
    zone="z",
    kv_events=True,
    standby=True,
    events_fd=8,
    parent_pid=9,
    engine_args=("--profile", "dualmap"),
)


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_engine_parser(parser.add_subparsers())
    return parser.parse_args(argv)


def test_the_simulator_reads_what_a_worker_is_to_be() -> None:
    read = parse(sim_argv(SETTINGS))

    assert (read.service, read.worker_id, read.role) == ("s", "w", Role.DECODE)
    assert (read.model, read.incarnation, read.standby) == ("m", "1", True)
    assert (read.host, read.port, read.node, read.zone) == ("10.0.0.1", [0], "n", "z")
    assert (read.max_unprefilled, read.max_in_flight, read.lease_seconds) == (3, 5, 7.0)
    assert (read.events_fd, read.parent_pid, read.kv_events) == (8, 9, True)
    assert read.profile == "dualmap"


def test_where_redis_is_goes_by_the_environment_since_it_may_hold_a_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(REDIS_ENV, "redis://:secret@h:1")

    assert not any("redis" in word for word in sim_argv(SETTINGS))
    assert parse(sim_argv(SETTINGS)).redis == "redis://:secret@h:1"


def test_what_the_user_tells_the_engine_comes_last() -> None:
    told = replace(SETTINGS, engine_args=("--profile", "p", "--model=other"))

    assert parse(sim_argv(told)).model == "other"
