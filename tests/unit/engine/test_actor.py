"""Where the actor of a worker has it listen, and says that it is."""

import socket
from pathlib import Path

import pytest

from twofold_cluster.identity import Role, WorkerId
from twofold_engine.actor import POD_ENV, PORT_ENV, EngineActor
from twofold_engine.pools.wanting import EngineSpec, Pool
from twofold_engine.settings import WorkerSettings


def actor_in(tmp_path: Path) -> EngineActor:
    settings = WorkerSettings(
        service="s", worker_id=WorkerId("w"), role=Role.DECODE, model="m", served_name="m"
    )
    pool = Pool(Role.DECODE, "1", 1, EngineSpec(model="m", served_name="m"))
    return EngineActor(settings, str(tmp_path), "127.0.0.1", "vllm", "manager", pool)


def port_of(tmp_path: Path) -> int:
    return actor_in(tmp_path)._process._settings.port


def test_a_worker_listens_where_its_pod_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setenv(PORT_ENV, str(port))

        assert port_of(tmp_path) == 0, "another has it: any is better than none"
    assert port_of(tmp_path) == port


def test_a_worker_alone_listens_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PORT_ENV, raising=False)

    assert port_of(tmp_path) == 0


async def test_a_worker_is_known_by_its_pod_whatever_its_machine_is_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(POD_ENV, "chat-1a2b-decode-worker-x7")
    assert (await actor_in(tmp_path).adopt("manager")).node == "chat-1a2b-decode-worker-x7"

    monkeypatch.delenv(POD_ENV)
    assert (await actor_in(tmp_path).adopt("manager")).node == socket.gethostname()
