import io
import json
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from twofold_cli.processes import ProcessId
from twofold_cli.state import (
    ClusterPhase,
    ClusterState,
    ComponentState,
    Phase,
    StateDirectory,
    WorkerState,
)
from twofold_cli.status import Status, as_json, show_status
from twofold_cluster.identity import Role
from twofold_cluster.worker import Load

STATE = ClusterState(
    supervisor=ProcessId(1, 2.0),
    mark="abc",
    service="local",
    model="/models/tiny",
    served_name="tiny",
    host="127.0.0.1",
    port=8000,
    redis_url="redis://127.0.0.1:1",
    grpc_address="127.0.0.1:2",
    started_at=3.0,
    phase=ClusterPhase.READY,
    components=(ComponentState(name="router", phase=Phase.READY),),
    workers=(
        WorkerState(worker_id="d-0", role=Role.DECODE, phase=Phase.STARTING, message="[a b]"),
    ),
)
LOADS = {"d-0": Load(running_count=2, waiting_count=1)}


@pytest.mark.parametrize(
    ("phase", "exit_code"),
    [(ClusterPhase.READY, 0), (ClusterPhase.DEGRADED, 1), (ClusterPhase.STARTING, 1)],
)
def test_the_exit_code_tells_the_phase(phase: ClusterPhase, exit_code: int) -> None:
    assert Status(msgspec.structs.replace(STATE, phase=phase), {}).exit_code == exit_code


def test_no_cluster_has_an_exit_code_of_its_own() -> None:
    assert Status(None, {}).exit_code == 3
    assert json.loads(as_json(Status(None, {}))) == {"phase": "not running"}


def test_machines_get_the_endpoint_and_each_workers_load() -> None:
    told = json.loads(as_json(Status(STATE, LOADS, {"d-0": "127.0.0.1:5601"})))

    assert told["endpoint"] == "http://127.0.0.1:8000"
    assert told["workers"][0]["load"]["running_count"] == 2
    assert told["workers"][0]["kv_transfer"] == "127.0.0.1:5601"
    assert json.loads(as_json(Status(STATE, {})))["workers"][0]["load"] is None


def test_people_get_components_and_workers_with_what_they_say(tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), width=80)

    with console.capture() as captured:
        show_status(Status(STATE, LOADS), StateDirectory(tmp_path), console)

    assert "tiny is ready at http://127.0.0.1:8000/v1" in captured.get()
    assert "2+1" in captured.get()
    assert "d-0: [a b]" in captured.get()
