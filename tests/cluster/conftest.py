"""A real API server for the tests: one of this machine's own, or the one that KUBECONFIG names."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from .access import entrance_of
from .control_plane import ADMIN_TOKEN, ControlPlane, binaries, write_kubeconfig
from .definitions import Entry
from .houses import House
from .installed import InstalledHouse
from .kubectl import Kubectl, find_kubectl
from .name_proxy import NameProxy
from .named import CRDS, LackingError, NamedCluster
from .namespaces import namespace_of
from .operators import HELM, Chart
from .outside import OutsideHouse
from .standins import Lacking, StandIns

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
def named_cluster(request: pytest.FixtureRequest) -> Iterator[NamedCluster]:
    """The cluster that the user names, with the custom resources defined."""
    if "cluster" not in request.config.getoption("markexpr"):
        pytest.skip("only `pytest -m cluster` touches the cluster that KUBECONFIG names")
    if not os.environ.get("KUBECONFIG"):
        pytest.skip("KUBECONFIG names no cluster")
    _need_kubectl()
    with contextlib.ExitStack() as stack:
        try:
            cluster = stack.enter_context(NamedCluster(Path(os.environ["KUBECONFIG"])))
        except LackingError as error:
            pytest.skip(str(error))
        yield cluster


@pytest.fixture(scope="session")
def sleeping_image(named_cluster: NamedCluster) -> str:
    """An image whose pods start in the cluster that the user names, and stay."""
    try:
        return named_cluster.startable_image()
    except LackingError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session", params=["local", pytest.param("named", marks=pytest.mark.cluster)])
def kubeconfig(request: pytest.FixtureRequest) -> Path:
    """An administrator's of a cluster that knows the custom resources."""
    if request.param == "local":
        server: ControlPlane = request.getfixturevalue("control_plane")
        return server.kubeconfig
    named: NamedCluster = request.getfixturevalue("named_cluster")
    return named.kubeconfig


@pytest.fixture
def local_definer(control_plane: ControlPlane, tmp_path: Path) -> Iterator[Kubectl]:
    """The administrator's kubectl before the part of this machine's server that takes CRDs."""
    with Entry(control_plane.custom_url, ADMIN_TOKEN) as entry:
        path = tmp_path / "definer.kubeconfig"
        write_kubeconfig(path, {"server": entry.url}, ADMIN_TOKEN)
        yield Kubectl(path)


@pytest.fixture(params=["local", pytest.param("named", marks=pytest.mark.cluster)])
def definer(request: pytest.FixtureRequest) -> Kubectl:
    """The administrator's kubectl before a server that takes CRDs."""
    if request.param == "local":
        kubectl: Kubectl = request.getfixturevalue("local_definer")
        return kubectl
    named: NamedCluster = request.getfixturevalue("named_cluster")
    return Kubectl(named.kubeconfig)


@pytest.fixture
def kubectl(kubeconfig: Path) -> Iterator[Kubectl]:
    """The administrator's kubectl, in a namespace of the test's own."""
    with namespace_of(kubeconfig) as kubectl:
        yield kubectl


@pytest.fixture
def quarters(control_plane: ControlPlane) -> Iterator[tuple[Kubectl, NameProxy]]:
    """A namespace of this machine's own server, and the names of its Services."""
    need_helm()
    with namespace_of(control_plane.kubeconfig) as kubectl, NameProxy() as proxy:
        yield kubectl, proxy


@pytest.fixture
def local_house(
    control_plane: ControlPlane, quarters: tuple[Kubectl, NameProxy], tmp_path: Path
) -> Iterator[House]:
    """A namespace with an operator, and stand-ins for what is behind an API server."""
    kubectl, proxy = quarters
    chart = Chart(kubectl)
    entrance = entrance_of(control_plane.kubeconfig)
    with (
        StandIns(entrance, kubectl.namespace, proxy) as stand_ins,
        House(kubectl, chart, stand_ins, proxy.url, tmp_path) as home,
    ):
        yield home


@pytest.fixture
def outside_house(
    named_cluster: NamedCluster, sleeping_image: str, tmp_path: Path
) -> Iterator[House]:
    """The operator as a process beside the cluster that the user names, without our images."""
    need_helm()
    named_cluster.need_ray()
    lacking = Lacking(controllers=False, kuberay=not named_cluster.has_kuberay)
    entrance = entrance_of(named_cluster.kubeconfig)
    with (
        namespace_of(named_cluster.kubeconfig) as kubectl,
        NameProxy() as proxy,
        StandIns(entrance, kubectl.namespace, proxy, lacking) as stand_ins,
        OutsideHouse(kubectl, stand_ins, proxy.url, tmp_path, sleeping_image) as home,
    ):
        yield home


@pytest.fixture
def installed_house(
    named_cluster: NamedCluster, request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[House]:
    """The chart as it is installed, on the cluster that the user names."""
    registry = request.config.getoption("--twofold-registry")
    if not registry:
        pytest.skip("--twofold-registry does not say where the images are")
    if not named_cluster.has_kuberay:
        pytest.skip("nobody acts on a RayCluster here: KubeRay's operator is missing")
    need_helm()
    values = [f"images.registry={registry}"]
    if tag := request.config.getoption("--twofold-tag"):
        values.append(f"images.tag={tag}")
    with (
        namespace_of(named_cluster.kubeconfig) as kubectl,
        InstalledHouse(kubectl, values, tmp_path) as home,
    ):
        yield home


@pytest.fixture(
    params=[
        "local",
        pytest.param("outside", marks=pytest.mark.cluster),
        pytest.param("installed", marks=pytest.mark.cluster),
    ]
)
def house(request: pytest.FixtureRequest) -> House:
    """A namespace with an operator, where services live."""
    home: House = request.getfixturevalue(f"{request.param}_house")
    return home


def need_helm() -> None:
    if not HELM.exists():
        pytest.skip("no helm; scripts/install-helm installs it")


def _need_kubectl() -> None:
    if find_kubectl() is None:
        pytest.skip("no kubectl; scripts/install-helm installs it")
