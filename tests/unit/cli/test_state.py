import os
from pathlib import Path

import msgspec
import pytest

from twofold_cli.errors import CannotStartError
from twofold_cli.processes import ProcessId
from twofold_cli.state import ClusterPhase, ClusterState, StateDirectory

STATE = ClusterState(
    supervisor=ProcessId(1, 2.0),
    mark="abc",
    service="local",
    model="/models/tiny",
    served_name="tiny",
    host="0.0.0.0",
    port=8000,
    redis_url="redis://127.0.0.1:1",
    grpc_address="127.0.0.1:2",
    started_at=3.0,
)


@pytest.fixture
def directory(tmp_path: Path) -> StateDirectory:
    directory = StateDirectory(tmp_path / "state")
    directory.create()
    return directory


def test_what_is_written_is_read(directory: StateDirectory) -> None:
    directory.write(STATE)
    ready = msgspec.structs.replace(STATE, phase=ClusterPhase.READY)
    directory.write(ready)

    assert directory.read() == ready


def test_nothing_and_what_another_version_wrote_are_no_state(directory: StateDirectory) -> None:
    assert directory.read() is None
    (directory.path / "state.json").write_text('{"supervisor": 1}')

    assert directory.read() is None


def test_a_directory_that_was_never_made_has_no_state_and_no_lock(tmp_path: Path) -> None:
    directory = StateDirectory(tmp_path / "never")

    assert directory.read() is None
    assert not directory.is_locked()


def test_a_second_one_is_told_where_the_first_is(directory: StateDirectory) -> None:
    directory.write(STATE)

    with (
        directory.locked(),
        pytest.raises(CannotStartError, match=r"at http://127\.0\.0\.1:8000, serving tiny; stop"),
        directory.locked(),
    ):
        pass


def test_the_lock_ends_with_its_holder(directory: StateDirectory) -> None:
    with directory.locked():
        assert directory.is_locked()

    assert not directory.is_locked()


def test_whoever_inherits_the_lock_holds_it_on(directory: StateDirectory) -> None:
    with directory.locked() as lock:
        inherited = os.dup(lock)

    assert directory.is_locked()
    os.close(inherited)
    assert not directory.is_locked()


@pytest.mark.parametrize(
    ("host", "endpoint"),
    [
        ("127.0.0.1", "http://127.0.0.1:8000"),
        ("0.0.0.0", "http://127.0.0.1:8000"),
        ("", "http://127.0.0.1:8000"),
        ("::", "http://[::1]:8000"),
        ("::1", "http://[::1]:8000"),
        ("machine", "http://machine:8000"),
    ],
)
def test_the_endpoint_is_one_that_a_client_can_use(host: str, endpoint: str) -> None:
    assert msgspec.structs.replace(STATE, host=host).endpoint == endpoint
