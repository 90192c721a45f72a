"""What was seen of one LLMService: all that a plan is made from."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from twofold_cluster.identity import Role

Manifest = Mapping[str, Any]
"""An object as the API server has it: JSON, camelCase."""


@dataclass(frozen=True, slots=True)
class Reference:
    """One object in the namespace of the service."""

    api_version: str
    kind: str
    name: str


class Phase(enum.StrEnum):
    PENDING = "pending"
    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    DEAD = "dead"


@dataclass(frozen=True, slots=True)
class SeenAdapter:
    name: str
    source: str
    loaded: bool
    message: str = ""


@dataclass(frozen=True, slots=True)
class SeenWorker:
    """A worker as its pool manager reports it (WorkerStatus)."""

    worker_id: str
    role: Role
    revision: str
    phase: Phase
    standby: bool = False
    node: str = ""
    """In Kubernetes the pod's name; empty while it has no place."""
    message: str = ""
    restarts: int = 0
    adapters: tuple[SeenAdapter, ...] = ()
    warning: str = ""
    """What is not as it was asked for, though it works."""


@dataclass(frozen=True, slots=True)
class WantedEngine:
    """How the engines of a pool are started (EngineSpec)."""

    model: str
    served_name: str
    tensor_parallel: int = 1
    cpus: float = 1.0
    gpus: float = 0.0
    kv_cache_gib: float = 0.0
    """Of a CPU engine; 0: the engine's default."""
    engine_args: tuple[str, ...] = ()
    kv_events: bool = False
    connector: str = "nixl"
    transport: str = "nixl"
    compression: str = "off"
    unverified: bool = False
    rdma: bool = False


@dataclass(frozen=True, slots=True)
class WantedPool:
    role: Role
    revision: str
    replicas: int
    engine: WantedEngine
    standby: bool = False
    resources: tuple[tuple[str, float], ...] = ()
    """Ray resources that each worker takes beside its CPUs and GPUs."""


@dataclass(frozen=True, slots=True)
class WantedAdapter:
    name: str
    source: str


@dataclass(frozen=True, slots=True)
class Told:
    """What a pool manager shall want: the content of an Apply, without its generation."""

    pools: tuple[WantedPool, ...] = ()
    adapters: tuple[WantedAdapter, ...] = ()


@dataclass(frozen=True, slots=True)
class SeenManager:
    """A pool manager that answers."""

    workers: tuple[SeenWorker, ...] = ()
    told: Told | None = None
    """What it acknowledges to want: the last content told by us whose generation it reports.
    None: it has restarted, or we have; it is told again."""
    refusal: str = ""
    """Why it refused what it was told last; empty: it did not."""


@dataclass(frozen=True, slots=True)
class Observed:
    """One service with all that belongs to it.

    ``children`` holds the objects whose label ``app.kubernetes.io/instance`` names the service and
    that we manage, by kind and name: what the plan applies, and pods of its RayClusters.
    """

    service: Manifest
    children: Mapping[tuple[str, str], Manifest] = field(default_factory=dict)
    adapters: tuple[Manifest, ...] = ()
    """LoRAAdapters whose ``spec.service`` is the service."""
    managers: Mapping[str, SeenManager] = field(default_factory=dict)
    """By address, as ``manager_addresses`` names them; one that does not answer is absent."""
    unasked: frozenset[str] = frozenset()
    """Addresses of managers that have had no time to answer yet, as after our own start."""
    apis: frozenset[str] = frozenset()
    """Optional kinds that the API server knows: RayCluster, ServiceMonitor, PodMonitor,
    ScrapeConfig."""
    refused: tuple[str, ...] = ()
    """Why some of the plan was not carried out just now: what the API server answered to it."""

    def pods(self, labels: Mapping[str, str]) -> list[Manifest]:
        """Return the pods with these *labels*, in order of their names."""
        return [
            child
            for _, child in sorted(self.children.items())
            if child["kind"] == "Pod"
            and labels.items() <= (child["metadata"].get("labels") or {}).items()
        ]
