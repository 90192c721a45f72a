import io
from pathlib import Path

import msgspec
from rich.console import Console

from twofold_cli.banner import banner, curl
from twofold_cli.processes import ProcessId
from twofold_cli.showing import LiveTable, changes
from twofold_cli.state import ClusterState, ComponentState, Phase, WorkerState
from twofold_cluster.identity import Role

LOGS = Path("/state/logs")
LOADING = WorkerState(
    worker_id="decode-0", role=Role.DECODE, phase=Phase.STARTING, message="loading [weights]"
)
STATE = ClusterState(
    supervisor=ProcessId(1, 2.0),
    mark="abc",
    service="local",
    model="/models/it's",
    served_name="it's",
    host="127.0.0.1",
    port=8000,
    redis_url="redis://127.0.0.1:1",
    grpc_address="127.0.0.1:2",
    started_at=3.0,
    components=(ComponentState(name="pool manager", phase=Phase.READY),),
    workers=(LOADING,),
)


def with_worker(worker: WorkerState) -> ClusterState:
    return msgspec.structs.replace(STATE, workers=(worker,))


def test_everything_is_new_at_first_and_nothing_the_second_time() -> None:
    assert changes(None, STATE) == [
        "pool manager: ready",
        "decode-0: starting (loading [weights])",
    ]
    assert changes(STATE, STATE) == []


def test_a_message_is_a_change_only_where_messages_count() -> None:
    further = with_worker(msgspec.structs.replace(LOADING, message="compiling"))

    assert changes(STATE, further) == ["decode-0: starting (compiling)"]
    assert changes(STATE, further, phases_only=True) == []


def test_a_death_is_told_with_its_reason_and_its_count() -> None:
    dead = msgspec.structs.replace(LOADING, phase=Phase.DEAD, message="killed", restarts=2)

    assert changes(STATE, with_worker(dead), phases_only=True) == [
        "decode-0: dead (killed), restarts: 2"
    ]


def test_a_worker_that_vanished_is_told() -> None:
    empty = msgspec.structs.replace(STATE, workers=())

    assert changes(STATE, empty) == ["decode-0: gone"]


def test_the_table_shows_a_message_as_it_is() -> None:
    console = Console(file=io.StringIO(), width=100)
    table = LiveTable()
    table.show(STATE)

    with console.capture() as captured:
        console.print(table)

    assert "loading [weights]" in captured.get()


def test_the_command_to_copy_survives_a_shell() -> None:
    assert '"it\'"\'"\'s"' in curl(STATE)
    assert curl(STATE) in banner(STATE, LOGS, detached=True)


def test_the_command_takes_a_key_where_the_router_wants_one() -> None:
    keyed = msgspec.structs.replace(STATE, wants_keys=True)

    assert '-H "authorization: Bearer $TWOFOLD_API_KEY"' in curl(keyed)
    assert any(
        "with an API key in $TWOFOLD_API_KEY" in line for line in banner(keyed, LOGS, detached=True)
    )
    assert "TWOFOLD_API_KEY" not in "".join(banner(STATE, LOGS, detached=True))


def test_how_to_stop_depends_on_where_it_runs() -> None:
    assert "  stop     twofold down" in banner(STATE, LOGS, detached=True)
    assert any("Ctrl-C" in line for line in banner(STATE, LOGS, detached=False))
