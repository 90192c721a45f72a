"""The operator as a process before kmock's API server: what people do, and kills in between."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest
import yaml
from tests.cluster.control_plane import free_ports
from tests.cluster.name_proxy import NameProxy
from tests.cluster.standins import Entrance, StandIns
from tests.integration.operator.emulator import EmulatedServer

from twofold_operator.cluster_api.rights import own_rights, service_rights
from twofold_operator.operating.running import RELIST_SECONDS

Manifest = dict[str, Any]
Found = TypeVar("Found")

WAIT_SECONDS = 120.0
DISCOVERY_SECONDS = 1
RESYNC_SECONDS = 2
LEASE_SECONDS = 6
"""Whoever takes over from a killed one waits for as long. Two thirds of it are what a leader may
stand still, on cores that others use too."""
NAMESPACE = "models"
SERVICES = f"/apis/serving.twofold.dev/v1alpha1/namespaces/{NAMESPACE}/llmservices"
POOLS = f"/apis/serving.twofold.dev/v1alpha1/namespaces/{NAMESPACE}/workerpools"
ENDPOINTS = f"/api/v1/namespaces/{NAMESPACE}/services"
CLUSTERS = f"/apis/ray.io/v1/namespaces/{NAMESPACE}/rayclusters"
DEPLOYMENTS = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments"
ANYBODY = {"Authorization": "Bearer anybody"}
MERGE = {"Content-Type": "application/merge-patch+json"}


class Town:
    """An API server, what lives behind it, and an operator that may be killed."""

    def __init__(self, server: EmulatedServer, stand_ins: StandIns, proxy: str, path: Path) -> None:
        self.server = server
        self.stand_ins = stand_ins
        self.is_restarted = False
        self._path = path
        self._proxy = proxy
        self._client = httpx.Client(base_url=server.url, timeout=60)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *more: str) -> None:
        config = self._path / "kubeconfig"
        config.write_text(yaml.safe_dump(_kubeconfig(self.server.url)))
        environment = {
            **os.environ,
            "KUBECONFIG": str(config),
            "TWOFOLD_REDIS_URL": "redis://:secret@redis.example:6379/0",
            "grpc_proxy": self._proxy,
        }
        flags = ["--host=127.0.0.1", "--metrics-port=0", f"--lease-seconds={LEASE_SECONDS}"]
        flags += [f"--namespace={NAMESPACE}", f"--own-namespace={NAMESPACE}", *more]
        with (self._path / "operator.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "twofold_operator", *flags],
                env=environment,
                stdout=log,
                stderr=log,
            )

    def end(self, number: signal.Signals) -> int:
        assert self._process is not None
        self._process.send_signal(number)
        code = self._process.wait(WAIT_SECONDS)
        self._process = None
        return code

    def close(self) -> None:
        if self._process is not None:
            self.end(signal.SIGKILL)
        self._client.close()

    @property
    def log(self) -> str:
        return (self._path / "operator.log").read_text()

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def disturb(self) -> None:
        """Kill the operator in the middle, in the tests that are about that."""
        if self.is_restarted:
            self.end(signal.SIGKILL)
            self.start()

    def _revive(self) -> None:
        """Start again, as Kubernetes would, an operator that could not renew its Lease in time."""
        if self.is_restarted and not self.is_running:
            self.start()

    def create(self, manifest: Manifest, path: str = SERVICES) -> None:
        path = path.replace(NAMESPACE, manifest["metadata"]["namespace"])
        self._client.post(path, json=manifest).raise_for_status()

    def patch(self, path: str, change: Manifest) -> None:
        self._client.patch(path, json=change, headers=MERGE).raise_for_status()

    def delete(self, path: str) -> None:
        self._client.delete(path).raise_for_status()

    def get(self, path: str) -> Manifest | None:
        answer = self._client.get(path)
        found: Manifest = answer.json()
        return found if answer.is_success else None

    def wait(self, what: str, look: Callable[[], Found | None]) -> Found:
        give_up_at = time.monotonic() + WAIT_SECONDS
        while not (found := look()):
            self._revive()
            if time.monotonic() > give_up_at:
                raise AssertionError(f"{what}: not in {WAIT_SECONDS} s\n{self.log[-4000:]}")
            time.sleep(0.1)
        return found

    def wait_for(self, condition: str, status: str, reason: str = "") -> Manifest:
        def look() -> Manifest | None:
            service = self.get(f"{SERVICES}/chat") or {}
            for one in service.get("status", {}).get("conditions", ()):
                is_current = one.get("observedGeneration") == service["metadata"]["generation"]
                if one["type"] == condition and is_current and one["status"] == status:
                    return service if reason in ("", one["reason"]) else None
            return None

        return self.wait(f"{condition} {status} {reason}", look)

    def make_ready(self, **changes: Any) -> str:
        self.create(_service(**changes))
        self.wait_for("Ready", "True")
        complete = self.wait_for("Progressing", "False", "Complete")
        return str(complete["status"]["revision"])


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(EmulatedServer())
        proxy = stack.enter_context(NameProxy())
        stand_ins = stack.enter_context(StandIns(Entrance(server.url, ANYBODY), NAMESPACE, proxy))
        made = Town(server, stand_ins, proxy.url, tmp_path)
        stack.callback(made.close)
        made.start()
        yield made


@pytest.fixture(params=["undisturbed", "killed"])
def disturbed(request: pytest.FixtureRequest, town: Town) -> Town:
    town.is_restarted = request.param == "killed"
    return town


def test_a_service_lives_from_its_creation_to_its_deletion(disturbed: Town) -> None:
    town = disturbed
    town.create(_service())
    town.disturb()
    town.wait_for("Ready", "True")

    town.patch(f"{POOLS}/chat-prefill", {"spec": {"replicas": 2}})
    town.disturb()
    town.wait("two prefill workers", lambda: _ready(town.get(f"{SERVICES}/chat"), "prefill") == 2)

    town.patch(f"{POOLS}/chat-prefill", {"spec": {"replicas": 1}})
    town.disturb()
    town.wait("one prefill worker", lambda: _ready(town.get(f"{SERVICES}/chat"), "prefill") == 1)

    town.delete(f"{SERVICES}/chat")
    town.disturb()
    town.wait("the service is gone", lambda: town.get(f"{SERVICES}/chat") is None)
    town.wait("so are its clusters", lambda: not (town.get(CLUSTERS) or {})["items"])


def test_a_change_is_rolled_out_and_taken_back(disturbed: Town) -> None:
    town = disturbed
    first = town.make_ready()
    town.patch(f"{SERVICES}/chat", {"spec": {"model": {"maxModelLen": 1024}}})
    town.disturb()
    town.wait_for("Progressing", "False", "Complete")
    town.patch(f"{SERVICES}/chat", {"spec": {"model": {"maxModelLen": None}}})
    town.disturb()
    back = town.wait_for("Progressing", "False", "Complete")

    assert back["status"]["revision"] == first


@pytest.mark.parametrize(
    ("spec", "argument"),
    [
        ({"slo": {"ttftMs": 250}}, "--class=default:ttft=0.25,ttft-per-token=0,late=serve"),
        ({"routing": {"maxQueued": 7}}, "--max-queued=7"),
        ({"gateway": {"drainSeconds": 9}}, "--drain-timeout=9"),
    ],
    ids=["slo", "routing", "gateway"],
)
def test_a_change_of_the_routers_is_no_rollout(town: Town, spec: Manifest, argument: str) -> None:
    town.is_restarted = True
    first = town.make_ready()
    before = (town.get(CLUSTERS) or {})["items"]
    town.patch(f"{SERVICES}/chat", {"spec": spec})
    town.disturb()
    town.wait(argument, lambda: argument in _arguments(town.get(f"{DEPLOYMENTS}/chat-router")))
    after = town.wait_for("Progressing", "False", "Complete")

    assert after["status"]["revision"] == first
    (cluster,) = (town.get(CLUSTERS) or {})["items"]
    assert [cluster["metadata"]["uid"]] == [one["metadata"]["uid"] for one in before]


def test_what_no_watch_tells_is_found_by_a_listing(town: Town) -> None:
    """A watch may stay open and be dead: no error ever comes of it."""
    town.end(signal.SIGKILL)
    (port,) = free_ports(1)
    town.start(f"--resync-seconds={RESYNC_SECONDS}", f"--metrics-port={port}")
    town.make_ready()
    time.sleep(2 * RELIST_SECONDS)  # so that nothing but the resync lists any more
    town.server.emulator.is_mute = True
    town.delete(f"{DEPLOYMENTS}/chat-router")
    town.wait("the router is back", lambda: town.get(f"{DEPLOYMENTS}/chat-router"))

    metrics = httpx.get(f"http://127.0.0.1:{port}/metrics").text
    missed = 'twofold_operator_missed_changes_total{resource="deployments"} '
    assert missed in metrics
    assert f"{missed}0.0" not in metrics


def test_a_revision_that_fails_leaves_the_one_before(town: Town) -> None:
    town.is_restarted = True
    good = town.make_ready(rollout={"readyDeadlineSeconds": 30})
    town.stand_ins.works = {good}
    town.patch(f"{SERVICES}/chat", {"spec": {"model": {"maxModelLen": 1024}}})
    town.disturb()
    town.wait_for("Progressing", "False", "DeadlineExceeded")

    town.wait_for("Ready", "True")
    assert any(good in one["metadata"]["name"] for one in (town.get(CLUSTERS) or {})["items"])


def test_what_is_deleted_or_changed_by_others_is_mended(disturbed: Town) -> None:
    town = disturbed
    town.make_ready()
    path = f"{DEPLOYMENTS}/chat-router"
    before = town.get(path)
    assert before is not None
    town.patch(path, {"spec": {"template": {"spec": {"containers": []}}}})
    town.disturb()
    town.wait("the router is mended", lambda: (town.get(path) or {}).get("spec") == before["spec"])
    town.delete(path)
    town.disturb()

    town.wait("the router is back", lambda: town.get(path))


def test_what_is_another_s_is_left_and_said(town: Town) -> None:
    path = f"{ENDPOINTS}/chat"
    named = {"name": "chat", "namespace": NAMESPACE, "labels": {"team": "search"}}
    foreign = {"apiVersion": "v1", "kind": "Service", "metadata": named, "spec": {"selector": {}}}
    town.create(foreign, ENDPOINTS)
    before = town.get(path)
    town.create(_service())
    told = town.wait_for("Ready", "False", "ApplyRefused")

    ready = next(one for one in told["status"]["conditions"] if one["type"] == "Ready")
    assert "Service chat exists and is not ours" in ready["message"]
    town.wait("all else is made", lambda: town.get(f"{DEPLOYMENTS}/chat-router"))
    assert town.get(path) == before
    town.delete(path)
    town.wait_for("Ready", "True")
    assert (town.get(path) or {})["metadata"]["labels"] != named["labels"]


def test_a_namespace_that_is_deleted_stops_no_other(town: Town) -> None:
    """Its Role goes with it. It is left out when the operator starts, and when it runs."""
    town.end(signal.SIGKILL)
    town.server.forbid("gone")
    town.start("--namespace=gone", f"--discovery-seconds={DISCOVERY_SECONDS}")
    town.make_ready()

    town.server.forbid()
    elsewhere = _service()
    elsewhere["metadata"]["namespace"] = "gone"
    town.create(elsewhere)
    path = f"{SERVICES}/chat".replace(NAMESPACE, "gone")
    town.wait("it is operated", lambda: (town.get(path) or {})["metadata"].get("finalizers"))
    time.sleep(2 * RELIST_SECONDS)  # so that nothing but the end of the watches tells the next

    town.server.forbid("gone")
    town.wait("it is left out", lambda: town.log.count("leaves out a namespace") == 2)
    town.patch(f"{POOLS}/chat-prefill", {"spec": {"replicas": 2}})
    town.wait("two prefill workers", lambda: _ready(town.get(f"{SERVICES}/chat"), "prefill") == 2)
    assert town.is_running


def test_it_asks_for_its_rights_and_no_others(town: Town) -> None:
    town.make_ready()
    town.delete(f"{SERVICES}/chat")
    town.wait("the service is gone", lambda: town.get(f"{SERVICES}/chat") is None)
    code = town.end(signal.SIGTERM)

    assert code == 0
    allowed = {tuple(right) for right in service_rights() | own_rights()}
    asked = set(town.server.emulator.asked)
    assert asked <= allowed
    assert ("coordination.k8s.io", "leases", "update") in asked
    assert ("ray.io", "rayclusters", "delete") in asked


def _ready(service: Manifest | None, role: str) -> int:
    found = (service or {}).get("status", {}).get(role, {})
    return int(found.get("ready", 0))


def _arguments(deployment: Manifest | None) -> list[str]:
    assert deployment is not None
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    arguments: list[str] = container["args"]
    return arguments


def _service(**spec: Any) -> Manifest:
    return {
        "apiVersion": "serving.twofold.dev/v1alpha1",
        "kind": "LLMService",
        "metadata": {"name": "chat", "namespace": NAMESPACE},
        "spec": {
            "engine": "sim",
            "model": {"source": "hf://acme/chat"},
            "prefill": {"replicas": 1},
            "decode": {"replicas": 1},
            "gateway": {"insecure": True},
            **spec,
        },
    }


def _kubeconfig(server: str) -> Manifest:
    name = "emulated"
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": {"server": server}}],
        "users": [{"name": name, "user": {"token": "twofold-operator"}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "current-context": name,
    }
