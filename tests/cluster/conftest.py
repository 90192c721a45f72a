"""A real API server for the tests: one of this machine's own, or the one that KUBECONFIG names."""

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from .control_plane import ADMIN_TOKEN, ControlPlane, binaries
from .houses import House
from .installed import NamedHouse
from .kubectl import Kubectl, find_kubectl
from .name_proxy import NameProxy
from .operators import HELM, Chart
from .standins import StandIns

REPOSITORY = Path(__file__).parents[2]
CRDS = REPOSITORY / "deploy" / "crds"

OPTIONAL_KINDS = (
    ("ray.io/v1", "RayCluster"),
    ("monitoring.coreos.com/v1", "ServiceMonitor"),
    ("monitoring.coreos.com/v1", "PodMonitor"),
    ("monitoring.coreos.com/v1alpha1", "ScrapeConfig"),
)


@pytest.fixture(scope="session")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A server of this machine's own, which knows the custom resources."""
    _need_kubectl()
    if shutil.which("openssl") is None:
        pytest.skip("no openssl, which makes the server's certificates")
    if not all((binaries() / name).exists() for name in ControlPlane.PROGRAMS):
        pytest.skip("no API server here; scripts/kube-apiserver builds it")
    with ControlPlane(tmp_path_factory.mktemp("control-plane")) as server:
        server.define([yaml.safe_load(path.read_text()) for path in sorted(CRDS.glob("*.yaml"))])
        for kind in OPTIONAL_KINDS:
            server.define_loosely(*kind)
        yield server


@pytest.fixture(scope="session")
def named_cluster(request: pytest.FixtureRequest) -> Path:
    """The kubeconfig of the cluster that the user names, with the custom resources defined."""
    if "cluster" not in request.config.getoption("markexpr"):
        pytest.skip("only `pytest -m cluster` touches the cluster that KUBECONFIG names")
    if not os.environ.get("KUBECONFIG"):
        pytest.skip("KUBECONFIG names no cluster")
    _need_kubectl()
    path = Path(os.environ["KUBECONFIG"])
    kubectl = Kubectl(path)
    kubectl.run("apply", "--server-side", "--force-conflicts", "-f", str(CRDS))
    kubectl.run("wait", "--for=condition=Established", "-f", str(CRDS), "--timeout=60s")
    return path


@pytest.fixture(scope="session", params=["local", pytest.param("named", marks=pytest.mark.cluster)])
def kubeconfig(request: pytest.FixtureRequest) -> Path:
    """An administrator's of a cluster that knows the custom resources."""
    if request.param == "local":
        server: ControlPlane = request.getfixturevalue("control_plane")
        return server.kubeconfig
    named: Path = request.getfixturevalue("named_cluster")
    return named


@pytest.fixture
def kubectl(kubeconfig: Path) -> Iterator[Kubectl]:
    """The administrator's kubectl, in a namespace of the test's own."""
    with _namespace(kubeconfig) as kubectl:
        yield kubectl


@contextmanager
def _namespace(kubeconfig: Path) -> Iterator[Kubectl]:
    namespace = f"twofold-test-{uuid.uuid4().hex[:8]}"
    cluster = Kubectl(kubeconfig)
    cluster.run("create", "namespace", namespace)
    try:
        yield Kubectl(kubeconfig, namespace)
    finally:
        cluster.run("delete", "namespace", namespace, "--wait=false")


@pytest.fixture
def quarters(control_plane: ControlPlane) -> Iterator[tuple[Kubectl, NameProxy]]:
    """A namespace of this machine's own server, and the names of its Services."""
    if not HELM.exists():
        pytest.skip("no helm; scripts/install-helm installs it")
    with _namespace(control_plane.kubeconfig) as kubectl, NameProxy() as proxy:
        yield kubectl, proxy


@pytest.fixture
def local_house(
    control_plane: ControlPlane, quarters: tuple[Kubectl, NameProxy], tmp_path: Path
) -> Iterator[House]:
    """A namespace with an operator, and stand-ins for what is behind an API server."""
    kubectl, proxy = quarters
    chart = Chart(kubectl)
    server = control_plane.address["server"]
    with (
        StandIns(server, ADMIN_TOKEN, kubectl.namespace, proxy) as stand_ins,
        House(kubectl, chart, stand_ins, proxy.url, tmp_path) as home,
    ):
        yield home


@pytest.fixture
def named_house(
    named_cluster: Path, request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[House]:
    """The chart as it is installed, on the cluster that the user names."""
    registry = request.config.getoption("--twofold-registry")
    if not registry:
        pytest.skip("--twofold-registry does not say where the images are")
    if "ray.io/v1" not in Kubectl(named_cluster).run("api-versions").split():
        pytest.skip("the cluster has no RayCluster: KubeRay's operator is missing")
    if not HELM.exists():
        pytest.skip("no helm; scripts/install-helm installs it")
    values = [f"images.registry={registry}"]
    if tag := request.config.getoption("--twofold-tag"):
        values.append(f"images.tag={tag}")
    with _namespace(named_cluster) as kubectl, NamedHouse(kubectl, values, tmp_path) as home:
        yield home


@pytest.fixture(params=["local", pytest.param("named", marks=pytest.mark.cluster)])
def house(request: pytest.FixtureRequest) -> House:
    """A namespace with an operator, where services live."""
    home: House = request.getfixturevalue(f"{request.param}_house")
    return home


def _need_kubectl() -> None:
    if find_kubectl() is None:
        pytest.skip("no kubectl; scripts/install-helm installs it")
