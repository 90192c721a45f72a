"""A service on a Ray cluster outside of Kubernetes, with real routers, managers and workers."""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import msgspec
import pytest
from tests.integration.conftest import Valkey

from twofold_sim.live.testing import QUICK

from .access import entrance_of
from .control_plane import ControlPlane, free_ports, tied
from .houses import House
from .kubectl import Kubectl, Manifest
from .kubelet import Kubelet
from .name_proxy import NameProxy
from .operators import Chart
from .services import sim

pytest.importorskip("ray")

QUESTION = "Who is there? " * 400
TOKEN = "0123456789abcdef" * 4
TOKEN_SECRET: Manifest = {
    "apiVersion": "v1",
    "kind": "Secret",
    "metadata": {"name": "ray"},
    "stringData": {"auth_token": TOKEN},
}


class Asking:
    """Somebody who asks all the time."""

    def __init__(self, kubelet: Kubelet) -> None:
        self._kubelet = kubelet
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.statuses: list[int] = []

    def __enter__(self) -> "Asking":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def ask(self) -> httpx.Response:
        messages = [{"role": "user", "content": QUESTION}]
        body = {"model": "sim", "messages": messages, "max_tokens": 4}
        url = f"http://127.0.0.1:{self._kubelet.port_of('sim-router')}/v1/chat/completions"
        return httpx.post(url, json=body, timeout=90)

    def _run(self) -> None:
        while not self._ended.wait(0.05):
            self.statuses.append(self.ask().status_code)


def test_a_chat_is_answered_and_a_rollout_loses_no_request(
    running_house: House, kubelet: Kubelet, ray_address: str, profile: Path
) -> None:
    running_house.apply(TOKEN_SECRET)
    ray = {"address": ray_address, "authSecret": {"name": "ray", "key": "auth_token"}}
    on_ray = {"ray": ray, "sim": {"profile": str(profile)}}
    first = running_house.make_ready(sim(**on_ray))["status"]["revision"]
    with Asking(kubelet) as asking:
        answer = asking.ask()
        running_house.apply(sim(**on_ray, maxModelLen=4096))
        second = running_house.wait_for_rollout(other_than=first)
        last = asking.ask()

    assert answer.status_code == 200
    assert answer.headers["x-twofold-mode"] == "disaggregated"
    assert set(asking.statuses) == {200}, "of all that were asked meanwhile"
    assert last.status_code == 200
    assert second != first
    running_house.delete()


def test_another_redis_reaches_workers_and_routers_and_loses_no_request(
    running_house: House, kubelet: Kubelet, ray_address: str, profile: Path, other_valkey: Valkey
) -> None:
    running_house.apply(TOKEN_SECRET)
    ray = {"address": ray_address, "authSecret": {"name": "ray", "key": "auth_token"}}
    service = sim(ray=ray, sim={"profile": str(profile)})
    first = running_house.make_ready(service)["status"]["revision"]
    with Asking(kubelet) as asking:
        asking.ask()
        running_house.move_redis(other_valkey.url)
        running_house.wait_for_rollout(other_than=first)
        last = asking.ask()

    assert set(asking.statuses) == {200}, "of all that were asked meanwhile"
    assert last.headers["x-twofold-mode"] == "disaggregated"
    running_house.delete()


@pytest.fixture
def directory() -> Iterator[Path]:
    """A path so short that Ray's sockets have room below it."""
    path = Path(tempfile.mkdtemp(prefix="tw-", dir="/tmp"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def profile(directory: Path) -> Path:
    path = directory / "quick.json"
    path.write_bytes(msgspec.json.encode(QUICK))
    return path


@pytest.fixture
def ray_address(directory: Path) -> Iterator[str]:
    """A Ray cluster of one node that wants a token, and offers what pins pools to workers."""
    import ray.util

    port, client_port = free_ports(2)
    command = [
        *(str(Path(sys.executable).with_name("ray")), "start", "--head", "--block"),
        *(f"--port={port}", f"--ray-client-server-port={client_port}"),
        *("--min-worker-port=0", "--max-worker-port=0", f"--temp-dir={directory}/ray"),
        *("--num-cpus=8", '--resources={"twofold_prefill": 4, "twofold_decode": 4}'),
        *("--object-store-memory=80000000", "--include-dashboard=false", "--disable-usage-stats"),
    ]
    environment = {**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN}
    with (directory / "ray.log").open("wb") as log:
        process = subprocess.Popen(
            tied(command), env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    try:
        yield f"{ray.util.get_node_ip_address()}:{port}"
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(60)
        process.kill()
        process.wait()


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[Valkey]:
    with _valkey_in(tmp_path) as server:
        yield server


@pytest.fixture
def other_valkey(tmp_path: Path) -> Iterator[Valkey]:
    with _valkey_in(tmp_path / "other") as server:
        yield server


@contextlib.contextmanager
def _valkey_in(directory: Path) -> Iterator[Valkey]:
    directory.mkdir(exist_ok=True)
    server = Valkey(directory)
    try:
        server.start()
        yield server
    finally:
        server.close()


@pytest.fixture
def kubelet(
    control_plane: ControlPlane, quarters: tuple[Kubectl, NameProxy], directory: Path
) -> Iterator[Kubelet]:
    kubectl, proxy = quarters
    entrance = entrance_of(control_plane.kubeconfig)
    with Kubelet(entrance, kubectl.namespace, proxy, directory) as kubelet:
        yield kubelet


@pytest.fixture
def running_house(
    quarters: tuple[Kubectl, NameProxy],
    ray_address: str,
    valkey: Valkey,
    kubelet: Kubelet,
    tmp_path: Path,
) -> Iterator[House]:
    """A house whose pods run."""
    kubectl, proxy = quarters
    chart = Chart(kubectl)
    with House(kubectl, chart, kubelet, proxy.url, tmp_path, valkey.url) as house:
        yield house
