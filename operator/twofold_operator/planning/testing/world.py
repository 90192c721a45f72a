"""A cluster in memory, for tests of the plan: an API server, KubeRay, pool managers, kubelets.

Nothing happens by itself: :meth:`World.plan` asks for a plan, :meth:`World.follow` does what it
says, :meth:`World.live` lets everything else go one step further.
"""

import copy
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from twofold_cluster.identity import Role
from twofold_operator.planning import names
from twofold_operator.planning.actions import (
    Action,
    AddFinalizer,
    ApplyObject,
    DeleteObject,
    LookAgain,
    RecordEvent,
    RemoveFinalizer,
    SetStatus,
    TellPools,
)
from twofold_operator.planning.addresses import address_of, manager_addresses
from twofold_operator.planning.conditions import timestamp
from twofold_operator.planning.following import secret_of
from twofold_operator.planning.observed import (
    Observed,
    Phase,
    SeenWorker,
)
from twofold_operator.planning.planning import plan
from twofold_operator.planning.recalling import revision_on
from twofold_operator.planning.settings import PlanSettings
from twofold_operator.planning.testing.evicting import may_evict
from twofold_operator.planning.testing.managers import ManagerDouble
from twofold_operator.planning.testing.routers import is_router, live_routers
from twofold_operator.resources import API_VERSION

POD_END_SECONDS = 3.0
"""From the deletion of a pod of Ray's to its end."""

_READY = {"type": "Ready", "status": "True"}

UID = "11111111-2222-3333-4444-555555555555"


class World:
    """One LLMService in a cluster. ``objects`` holds all but the service, by kind and name."""

    def __init__(
        self,
        spec: Mapping[str, Any],
        *,
        name: str = "chat",
        settings: PlanSettings | None = None,
        now: float = 1_000_000.0,
    ) -> None:
        self.settings = settings or PlanSettings(redis_url="redis://:secret@redis:6379/0")
        self.now = now
        self.objects: dict[tuple[str, str], dict[str, Any]] = {}
        self.adapters: list[dict[str, Any]] = []
        self.managers: dict[str, ManagerDouble] = {}
        self.unreachable: set[str] = set()
        self.unasked: set[str] = set()
        self.broken: set[str] = set()
        """Revisions whose engines never get ready."""
        self.is_full = False
        """No node has room for another pod of Ray's."""
        self.lost_redis: set[str] = set()
        """The Secrets with URLs of a Redis that is gone."""
        self.events: list[RecordEvent] = []
        self.killed: list[SeenWorker] = []
        """Workers whose pod was taken away, or that were still draining when their Ray ended."""
        self.lost: set[str] = set()
        """Pods that do not end when they are deleted: their node is lost."""
        self.apis = frozenset({"RayCluster"})
        self.is_gone = False
        self._version = 0
        self.service: dict[str, Any] = {
            "apiVersion": API_VERSION,
            "kind": "LLMService",
            "metadata": {
                "name": name,
                "namespace": "models",
                "uid": UID,
                "generation": 1,
                "finalizers": [],
            },
            "spec": dict(spec),
        }

    # What a user does.

    def change(self, spec: Mapping[str, Any]) -> None:
        if spec != self.service["spec"]:
            self.service["spec"] = copy.deepcopy(dict(spec))
            self.service["metadata"]["generation"] += 1

    def scale(self, role: str, replicas: int) -> None:
        pool = self.objects["WorkerPool", f"{self.name}-{role}"]
        pool["spec"]["replicas"] = replicas
        self._touch(pool)

    def delete(self) -> None:
        self.service["metadata"].setdefault("deletionTimestamp", timestamp(self.now))

    def evict(self, pod: str) -> bool:
        """Ask for the eviction of a pod, as ``kubectl drain`` does; return whether it goes."""
        goes = may_evict(self.objects.values(), self.objects["Pod", pod])
        if goes:
            self.remove("Pod", pod)
        return goes

    # What an operator does.

    def observed(self) -> Observed:
        addresses = manager_addresses(self.objects.values())
        managers = {
            address: manager.seen()
            for address, manager in self.managers.items()
            if address in addresses and address not in self.unreachable
        }
        return Observed(
            service=copy.deepcopy(self.service),
            children=copy.deepcopy(self.objects),
            adapters=tuple(copy.deepcopy(self.adapters)),
            managers=managers,
            unasked=frozenset(self.unasked),
            apis=self.apis,
        )

    def plan(self) -> list[Action]:
        return plan(self.observed(), self.settings, self.now)

    def follow(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case AddFinalizer():
                    self.service["metadata"]["finalizers"] = [names.FINALIZER]
                case RemoveFinalizer():
                    self.service["metadata"]["finalizers"] = []
                    self.is_gone = "deletionTimestamp" in self.service["metadata"]
                case ApplyObject(manifest):
                    self._apply(copy.deepcopy(dict(manifest)))
                case DeleteObject(reference, uid):
                    self.remove(reference.kind, reference.name, uid)
                case TellPools(address, told):
                    if address in self.managers and address not in self.unreachable:
                        self.managers[address].tell(told)
                case SetStatus(reference, status):
                    self._target(reference.kind, reference.name)["status"] = dict(status)
                case RecordEvent():
                    self.events.append(action)
                case LookAgain():
                    pass

    # What the rest of the cluster does.

    def live(self, seconds: float = 1.0) -> None:
        """Let KubeRay, the kubelets and the pool managers go one step further."""
        self.now += seconds
        self._end_deleted()
        for child in list(self.objects.values()):
            if child["kind"] == "RayCluster":
                self._live_pods(child)
            elif child["kind"] == "Deployment" and is_router(child):
                live_routers(self.objects, child, self.served, self.now)
            elif child["kind"] == "Deployment":
                child["status"] = {"availableReplicas": child["spec"].get("replicas", 1)}
        homes = {address: home for home in self._homes() if (address := self._address(home))}
        for address in self.managers.keys() - homes.keys():
            ended = self.managers.pop(address).workers
            self.killed += [worker for worker in ended if worker.phase is Phase.DRAINING]
        for address, home in homes.items():
            prefix = home["metadata"]["name"].removesuffix("-pools")
            manager = self.managers.setdefault(address, ManagerDouble(prefix))
            manager.is_broken = revision_on(home) in self.broken
            manager.is_unheard = secret_of(_manager_pod(home)) in self.lost_redis
            manager.live(lambda role, home=home: self._free_node(home, role))  # type: ignore[misc]

    def settle(self, rounds: int = 80) -> int:
        """Plan, follow and live until nothing is left to do; return after how many rounds."""
        for count in range(rounds):
            actions = self.plan()
            self.follow(actions)
            before = self.snapshot()
            self.live()
            done = all(isinstance(action, LookAgain) for action in actions)
            if done and before == self.snapshot() and not self._has_ending_pods():
                return count
        raise AssertionError(f"not settled after {rounds} rounds: {self.plan()}")

    def snapshot(self) -> Any:
        workers = [list(manager.workers) for manager in self.managers.values()]
        return copy.deepcopy((self.service, self.objects, self.adapters, workers))

    @property
    def served(self) -> set[str]:
        """Return the Secrets of Redis in which there are workers of each role that is wanted."""
        found = set()
        for home in self._homes():
            manager = self.managers.get(self._address(home))
            if manager is None or manager.told is None:
                continue
            wanted = {pool.role for pool in manager.told.pools if pool.replicas}
            ready = [worker for worker in manager.workers if worker.phase is Phase.READY]
            active = {worker.role for worker in ready if not worker.standby}
            if active and active >= wanted:
                found.add(secret_of(_manager_pod(home)) or "")
        return found

    @property
    def blind_routers(self) -> list[str]:
        """Return the routers that take requests and see nobody who could serve them."""
        return [
            name
            for (kind, name), pod in self.objects.items()
            if kind == "Pod" and pod.get("is_ready") and secret_of(pod["spec"]) not in self.served
        ]

    @property
    def name(self) -> str:
        return str(self.service["metadata"]["name"])

    @property
    def workers(self) -> list[SeenWorker]:
        return [worker for manager in self.managers.values() for worker in manager.workers]

    def condition(self, kind: str) -> dict[str, Any]:
        conditions = self.service.get("status", {}).get("conditions", ())
        return next((c for c in conditions if c["type"] == kind), {})

    def kinds(self) -> list[str]:
        return sorted(kind for kind, _ in self.objects)

    def remove(self, kind: str, name: str, uid: str | None = None) -> None:
        child = self.objects.get((kind, name))
        if child is None or uid not in (None, child["metadata"]["uid"]):
            return
        if kind == "RayCluster":  # takes its time
            child["metadata"]["deletionTimestamp"] = timestamp(self.now)
        elif kind == "Pod":
            ends_at = self.now + POD_END_SECONDS
            child["metadata"].setdefault("ends_at", math.inf if name in self.lost else ends_at)
            child["metadata"].setdefault("deletionTimestamp", timestamp(ends_at))
        else:
            self._forget((kind, name))

    def _end_deleted(self) -> None:
        """Have go what was deleted and had its time. Routers' pods go by themselves."""
        for key, child in list(self.objects.items()):
            ends_at = child["metadata"].get("ends_at", self.now)
            if "deletionTimestamp" in child["metadata"] and ends_at <= self.now:
                self._forget(key)

    def _forget(self, key: tuple[str, str]) -> None:
        child = self.objects.pop(key, None)
        if child is not None and child["kind"] == "RayCluster":
            for other, pod in list(self.objects.items()):
                if pod["kind"] == "Pod" and revision_on(pod) == revision_on(child):
                    del self.objects[other]

    def _apply(self, manifest: dict[str, Any]) -> None:
        metadata = manifest["metadata"]
        key = manifest["kind"], metadata["name"]
        before = self.objects.get(key)
        made = {"uid": f"uid-{self._version}", "creationTimestamp": timestamp(self.now)}
        kept: dict[str, Any] = {**made, "generation": 1}
        if before is not None:
            told = metadata.get("resourceVersion")
            if told not in (None, before["metadata"]["resourceVersion"]):
                return  # a conflict
            kept = {name: before["metadata"][name] for name in kept}
            kept["generation"] += manifest.get("spec") != before.get("spec")
            if "deletionTimestamp" in before["metadata"]:
                kept["deletionTimestamp"] = before["metadata"]["deletionTimestamp"]
            manifest = {**manifest, **({"status": before["status"]} if "status" in before else {})}
        metadata.update(kept)
        self.objects[key] = manifest
        self._touch(manifest)

    def _touch(self, manifest: dict[str, Any]) -> None:
        self._version += 1
        manifest["metadata"]["resourceVersion"] = str(self._version)

    def _target(self, kind: str, name: str) -> dict[str, Any]:
        if kind == "LLMService":
            return self.service
        if kind == "LoRAAdapter":
            return next(a for a in self.adapters if a["metadata"]["name"] == name)
        return self.objects[kind, name]

    def _homes(self) -> list[dict[str, Any]]:
        return [
            child
            for child in self.objects.values()
            if revision_on(child) and child["kind"] in ("RayCluster", "Deployment")
        ]

    def _address(self, home: dict[str, Any]) -> str:
        return address_of("models", names.pools_name(self.name, revision_on(home)))

    def _has_ending_pods(self) -> bool:
        pods = (child["metadata"] for child in self.objects.values() if child["kind"] == "Pod")
        return any(pod.get("ends_at", math.inf) < math.inf for pod in pods)

    def _live_pods(self, cluster: dict[str, Any]) -> None:
        """Have as many pods as each group wants; those to delete go first, then whichever.

        As KubeRay does, it counts what ends among what is there, but for those to delete.
        """
        for group in cluster["spec"]["workerGroupSpecs"]:
            doomed = group.get("scaleStrategy", {}).get("workersToDelete", ())
            for pod in doomed:
                self.remove("Pod", pod)
            labels = group["template"]["metadata"]["labels"]
            pods = [p["metadata"]["name"] for p in self._pods_with(labels)]
            pods = [name for name in pods if name not in doomed]
            for name in pods[: max(0, len(pods) - group["replicas"])]:
                self.remove("Pod", name)
            for _ in range(group["replicas"] - len(pods)):
                self._version += 1
                name = f"{cluster['metadata']['name']}-{group['groupName']}-{self._version}"
                metadata = {"name": name, "namespace": "models", "labels": dict(labels)}
                pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {**metadata, "uid": name}}
                self.objects["Pod", name] = pod
            for pod in self._pods_with(labels):
                if not self.is_full:
                    pod.setdefault("status", {"conditions": [_READY]})
        self._kill_homeless(cluster)

    def _kill_homeless(self, cluster: dict[str, Any]) -> None:
        manager = self.managers.get(self._address(cluster))
        for worker in list(manager.workers) if manager else ():
            if worker.node and ("Pod", worker.node) not in self.objects:
                self.killed.append(worker)
                index = manager.workers.index(worker)  # type: ignore[union-attr]
                manager.workers[index] = replace(  # type: ignore[union-attr]
                    worker, phase=Phase.PENDING, node=""
                )

    def _pods_with(self, labels: dict[str, str]) -> list[dict[str, Any]]:
        return [
            child
            for child in self.objects.values()
            if child["kind"] == "Pod" and labels.items() <= child["metadata"]["labels"].items()
        ]

    def _free_node(self, home: dict[str, Any], role: Role) -> str | None:
        if home["kind"] == "Deployment":
            return "elsewhere"
        labels = names.labels(self.name, role, revision_on(home))
        busy = {worker.node for worker in self.workers}
        pods = (pod["metadata"] for pod in self._pods_with(labels) if pod.get("status"))
        free = (pod["name"] for pod in pods if "deletionTimestamp" not in pod)
        return next((name for name in free if name not in busy), None)


def _manager_pod(home: dict[str, Any]) -> dict[str, Any]:
    spec = home["spec"]
    part = spec["headGroupSpec"] if home["kind"] == "RayCluster" else spec
    pod: dict[str, Any] = part["template"]["spec"]
    return pod
