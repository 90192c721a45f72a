"""The flag that gives a worker: what it may be, and that each mistake is named."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twofold_cluster.identity import Role
from twofold_router.static_workers import (
    InvalidWorkerFlagError,
    parse_worker_flag,
    parse_worker_flags,
)

BOTH = "both=http://10.0.0.1:8000"


@pytest.mark.parametrize(
    ("flag", "role", "origin", "worker_id"),
    [
        ("prefill=http://10.0.0.1:8000", Role.PREFILL, "http://10.0.0.1:8000", "10.0.0.1:8000"),
        (
            "decode=http://Node-7.Local:81/",
            Role.DECODE,
            "http://node-7.local:81",
            "node-7.local:81",
        ),
        ("both=HTTP://localhost", Role.BOTH, "http://localhost:80", "localhost:80"),
        ("both=http://localhost:", Role.BOTH, "http://localhost:80", "localhost:80"),
        ("both=http://[::1]:8000", Role.BOTH, "http://[::1]:8000", "[::1]:8000"),
    ],
)
def test_a_flag_gives_a_role_and_a_normal_origin(
    flag: str, role: Role, origin: str, worker_id: str
) -> None:
    worker = parse_worker_flag(flag)

    assert worker == (role, origin, "", "")
    assert worker.worker_id == worker_id
    assert parse_worker_flag(f"{role}={origin}") == worker


@pytest.mark.parametrize(
    ("flag", "reason"),
    [
        ("http://10.0.0.1:8000", "it must be ROLE=URL"),
        ("http://a?b=c", "role is 'http://a?b'"),
        ("prefiller=http://a", "role is 'prefiller', and must be one of prefill, decode, both"),
        ("=http://a", "role is ''"),
        ("PREFILL=http://a", "role is 'PREFILL'"),
        ("both=10.0.0.1:8000", "begin with http://"),
        ("both=localhost:8000", "begin with http://"),
        ("both=http:10.0.0.1", "begin with http://"),
        ("both=", "begin with http://"),
        ("both= http://a", "begin with http://"),
        ("both=https://a", "https is not supported"),
        ("both=http://a/v1", "without a path"),
        ("both=http://a//", "without a path"),
        ("both=http://a?b", "without a path"),
        ("both=http://a?", "without a path"),
        ("both=http://a/#b", "without a path"),
        ("both=http://", "is not a host name"),
        ("both=http://:8000", "is not a host name"),
        ("both=http://a b", "is not a host name"),
        ("both=http://a\\b", "is not a host name"),
        ("both=http://höst", "is not a host name"),
        ("both=http://a:0", "is not a host name or an address, and a port"),
        ("both=http://a:65536", "the URL is none: Port out of range"),
        ("both=http://a:b", "the URL is none: Port could not"),
        ("both=http://[::1", "the URL is none: Invalid IPv6"),
        ("both=http://a,", "'' is no option; there are kv-events and kv-events-replay"),
        ("both=http://a,tcp://a:1", "'tcp://a:1' is no option"),
        ("both=http://a,kv-events=tcp://a:1,kv-events=tcp://a:2", "kv-events is given twice"),
        ("both=http://a,kv-events-replay=tcp://a:1", "of no use without kv-events"),
        ("both=http://a,kv-events", "kv-events must be tcp://HOST:PORT"),
        ("both=http://a,kv-events=a:1", "kv-events must be tcp://HOST:PORT"),
        ("both=http://a,kv-events=ipc://a:1", "kv-events must be tcp://HOST:PORT"),
        ("both=http://a,kv-events=tcp://*:1", "as the router reaches the engine"),
        ("both=http://a,kv-events=tcp://a", "kv-events must be tcp://HOST:PORT"),
        ("both=http://a,kv-events=tcp://a:0", "kv-events must be tcp://HOST:PORT"),
        ("both=http://a,kv-events=tcp://a:65536", "Port out of range"),
        ("both=http://a,kv-events=tcp://a:1/", "kv-events must be tcp://HOST:PORT"),
        ("both=http://a,kv-events=tcp://a:1,kv-events-replay=b", "kv-events-replay must be tcp://"),
        ("both=http://a,kv-events=tcp://a:1,kv-events-replay=tcp://a:1", "the same as kv-events"),
    ],
)
def test_what_is_wrong_with_a_flag_is_said_with_the_flag(flag: str, reason: str) -> None:
    with pytest.raises(InvalidWorkerFlagError) as raised:
        parse_worker_flag(flag)

    assert str(raised.value).startswith(f"--worker {flag!r}: ")
    assert reason in str(raised.value)


@pytest.mark.parametrize(
    "user",
    ["me:sec,secret", "", "me", "me:secret", ":secret", "me:secret@", "m/e:secret", "m\ne:secret"],
)
def test_a_user_is_refused_and_the_password_is_not_repeated(user: str) -> None:
    with pytest.raises(InvalidWorkerFlagError) as raised:
        parse_worker_flag(f"both=http://{user}@a")

    assert str(raised.value).startswith("--worker 'both=http://***@a': ")
    assert "secret" not in str(raised.value)


@given(st.text(max_size=30))
def test_any_other_text_is_refused_and_nothing_else_breaks(text: str) -> None:
    try:
        worker = parse_worker_flag(f"both=http://{text}")
    except InvalidWorkerFlagError:
        return
    assert worker.origin.isascii()
    assert worker.origin.isprintable()
    assert not set(worker.origin.removeprefix("http://")) & set("/?#@ \\")


@pytest.mark.parametrize("again", [BOTH, "prefill=http://10.0.0.1:8000/"])
def test_a_url_that_is_given_twice_is_refused_with_both_flags(again: str) -> None:
    with pytest.raises(InvalidWorkerFlagError) as raised:
        parse_worker_flags([BOTH, again])

    assert f"--worker {again!r}: {BOTH!r} gives the same worker" in str(raised.value)


@pytest.mark.parametrize("again", ["kv-events=tcp://a:2,kv-events-replay=tcp://a:1"])
def test_an_endpoint_that_is_given_twice_is_refused_with_both_flags(again: str) -> None:
    first, second = "both=http://a,kv-events=tcp://a:1", f"both=http://b,{again}"
    with pytest.raises(InvalidWorkerFlagError) as raised:
        parse_worker_flags([first, second])

    assert str(raised.value) == f"--worker {second!r}: tcp://a:1 is in {first!r} already"


@pytest.mark.parametrize("flags", [[], ["prefill=http://a", "prefill=http://b"]])
def test_without_a_worker_that_decodes_a_router_does_not_start(flags: list[str]) -> None:
    with pytest.raises(InvalidWorkerFlagError, match="no --worker decodes"):
        parse_worker_flags(flags)


@pytest.mark.parametrize(
    ("options", "events", "replay"),
    [
        ("kv-events=tcp://10.0.0.1:5557", "tcp://10.0.0.1:5557", ""),
        ("kv-events=TCP://Node-7:5557", "tcp://node-7:5557", ""),
        (
            "kv-events=tcp://[::1]:1,kv-events-replay=tcp://[::1]:2",
            "tcp://[::1]:1",
            "tcp://[::1]:2",
        ),
        ("kv-events-replay=tcp://a:2,kv-events=tcp://a:1", "tcp://a:1", "tcp://a:2"),
    ],
)
def test_a_flag_may_name_the_endpoints_of_kv_events(options: str, events: str, replay: str) -> None:
    worker = parse_worker_flag(f"{BOTH},{options}")

    assert (worker.kv_events, worker.kv_events_replay) == (events, replay)
    assert worker.origin == "http://10.0.0.1:8000"


def test_flags_keep_their_order() -> None:
    workers = parse_worker_flags(["prefill=http://b", "decode=http://a"])

    assert [(worker.role, worker.worker_id) for worker in workers] == [
        (Role.PREFILL, "b:80"),
        (Role.DECODE, "a:80"),
    ]
