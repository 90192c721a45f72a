"""A service on a Ray cluster outside of Kubernetes, with real routers, managers and workers."""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest
from tests.integration.conftest import Valkey

from twofold_sim.live.testing import QUICK

from .access import entrance_of
from .asking import Asking, Door, events
from .conftest import need_helm
from .control_plane import ControlPlane, free_ports, tied
from .houses import House
from .kubectl import Kubectl, Manifest
from .kubelet import Kubelet
from .name_proxy import NameProxy
from .named import NamedCluster
from .namespaces import namespace_of
from .operators import Chart
from .outside import OutsideHouse
from .programs import LOOPBACK
from .services import sim
from .shadows import GATE, Shadows

pytest.importorskip("ray")

QUESTION = "Who is there? " * 400
TOKEN = "0123456789abcdef" * 4
TOKEN_SECRET: Manifest = {
    "apiVersion": "v1",
    "kind": "Secret",
    "metadata": {"name": "ray"},
    "stringData": {"auth_token": TOKEN},
}


@dataclass(frozen=True)
class Site:
    """A namespace where pods of the operator's Deployments run as processes."""

    kubectl: Kubectl
    proxy: NameProxy
    pods: Kubelet | Shadows
    door: Door
    image: str | None = None
    """Which the cluster's own pods sleep in; None: it has none."""


def test_a_chat_is_answered_and_a_rollout_loses_no_request(
    running_house: House, site: Site, ray_address: str, profile: Path
) -> None:
    running_house.apply(TOKEN_SECRET)
    ray = {"address": ray_address, "authSecret": {"name": "ray", "key": "auth_token"}}
    on_ray = {"ray": ray, "sim": {"profile": str(profile)}}
    first = running_house.make_ready(sim(**on_ray))["status"]["revision"]
    with Asking(site.door, QUESTION) as asking:
        answer = site.door.chat(QUESTION)
        stream = site.door.chat(QUESTION, stream=True)
        running_house.apply(sim(**on_ray, maxModelLen=4096))
        second = running_house.wait_for_rollout(other_than=first)
        last = site.door.chat(QUESTION)

    assert answer.status_code == 200
    assert answer.headers["x-twofold-mode"] == "disaggregated"
    assert len(events(stream)) > 2, "in pieces"
    assert events(stream)[-1] == "[DONE]"
    assert set(asking.statuses) == {200}, "of all that were asked meanwhile"
    assert last.status_code == 200
    assert second != first
    running_house.delete()


def test_another_redis_reaches_workers_and_routers_and_loses_no_request(
    running_house: House, site: Site, ray_address: str, profile: Path, other_valkey: Valkey
) -> None:
    running_house.apply(TOKEN_SECRET)
    ray = {"address": ray_address, "authSecret": {"name": "ray", "key": "auth_token"}}
    service = sim(ray=ray, sim={"profile": str(profile)})
    first = running_house.make_ready(service)["status"]["revision"]
    with Asking(site.door, QUESTION) as asking:
        site.door.chat(QUESTION)
        running_house.move_redis(other_valkey.url)
        running_house.wait_for_rollout(other_than=first)
        last = site.door.chat(QUESTION)

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
def local_site(
    control_plane: ControlPlane,
    quarters: tuple[Kubectl, NameProxy],
    ray_address: str,
    directory: Path,
) -> Iterator[Site]:
    """A namespace of this machine's own server, which leads to the processes behind a Service.

    It leads nobody to loopback: on a machine without another address they are asked themselves.
    The processes end before Ray does.
    """
    import ray.util

    kubectl, proxy = quarters
    entrance, address = entrance_of(control_plane.kubeconfig), ray.util.get_node_ip_address()
    with Kubelet(entrance, kubectl.namespace, proxy, directory, address) as kubelet:
        door = Door.of_service(entrance, kubectl.namespace, "sim")
        yield Site(kubectl, proxy, kubelet, _door_of(kubelet) if address == LOOPBACK else door)


@pytest.fixture
def sleepers(named_cluster: NamedCluster, request: pytest.FixtureRequest) -> str | None:
    """The image of the cluster's own pods; None: nobody there makes pods of Deployments."""
    need_helm()
    if not named_cluster.has_controllers:
        return None
    image: str = request.getfixturevalue("sleeping_image")
    return image


@pytest.fixture
def named_site(
    named_cluster: NamedCluster, sleepers: str | None, ray_address: str, directory: Path
) -> Iterator[Site]:
    """A namespace of the cluster that the user names, whose pods are real if it has controllers.

    Whatever is sent goes from process to process on this machine: the cluster reaches none of them,
    and need not. The processes end before Ray does.
    """
    named_cluster.need_ray()
    entrance = entrance_of(named_cluster.kubeconfig)
    with namespace_of(named_cluster.kubeconfig) as kubectl, NameProxy() as proxy:
        kind = Kubelet if sleepers is None else Shadows
        with kind(entrance, kubectl.namespace, proxy, directory) as pods:
            yield Site(kubectl, proxy, pods, _door_of(pods), sleepers)


def _door_of(pods: Kubelet | Shadows) -> Door:
    return Door(lambda: pods.url_of("sim-router"))


@pytest.fixture(params=["local", pytest.param("named", marks=pytest.mark.cluster)])
def site(request: pytest.FixtureRequest) -> Site:
    """Where pods of the operator's Deployments run as processes."""
    found: Site = request.getfixturevalue(f"{request.param}_site")
    return found


@pytest.fixture
def running_house(site: Site, valkey: Valkey, tmp_path: Path) -> Iterator[House]:
    """A house whose pods run."""
    with _house_of(site, valkey.url, tmp_path) as house:
        yield house


def _house_of(site: Site, redis_url: str, directory: Path) -> House:
    kubectl, proxy = site.kubectl, site.proxy.url
    if site.image is None:
        return House(kubectl, Chart(kubectl), site.pods, proxy, directory, redis_url)
    return OutsideHouse(kubectl, site.pods, proxy, directory, site.image, redis_url, gates=[GATE])
