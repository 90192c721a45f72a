"""What an operator is told when it starts."""

import math
from dataclasses import dataclass, fields

from twofold_cluster.errors import TwofoldError
from twofold_operator.planning import PlanSettings


class InvalidSettingError(TwofoldError):
    """A setting has a value that the operator cannot start with."""


@dataclass(frozen=True, slots=True)
class OperatorSettings:
    """All settings of an operator.

    Raises:
        InvalidSettingError: one is out of its range; the message names it and its value.
    """

    plan: PlanSettings
    """What the children of a service are made from."""
    namespaces: tuple[str, ...] = ()
    """Whose services are operated; empty: all, which needs a ClusterRole."""
    namespace: str = "default"
    """The operator's own: here lies its Lease."""
    identity: str = "twofold-operator"
    """Who holds the Lease; no two processes may have the same."""
    lease_name: str = "twofold-operator"
    lease_seconds: float = 15.0
    """A leader that has not renewed for so long is replaced; it renews three times as often, and
    ends itself at two thirds. Kubernetes' own components take 15 s."""
    host: str = ""
    """Address to listen on; empty: all, of IPv4 and IPv6. Nothing there is secret."""
    port: int = 8080
    """Of /healthz, /readyz and /metrics; 0 takes a free one."""
    concurrency: int = 8
    """Services that are reconciled at a time; each waits for the API server most of its time."""
    resync_seconds: float = 600.0
    """Everything is listed and planned again this often, should a watch have missed a change."""
    discovery_seconds: float = 60.0
    """How often the API server is asked whether it has KubeRay's and Prometheus' APIs by now."""
    request_seconds: float = 30.0
    """Of one request to the API server."""
    min_backoff_seconds: float = 1.0
    """After the first failure of a service's reconciliation; twice as long after each further."""
    max_backoff_seconds: float = 120.0
    unreachable_seconds: float = 10.0
    """A pool manager that has not answered for so long counts as gone."""
    stuck_seconds: float = 300.0
    """A reconciliation that takes so long makes the process unhealthy."""

    def __post_init__(self) -> None:
        self._require("port", 0 <= self.port <= 65535, "from 0 to 65535")
        self._require("concurrency", 1 <= self.concurrency <= 256, "from 1 to 256")
        self._require("lease_seconds", self.lease_seconds >= 1, "1 or more")
        for name in ("namespace", "identity", "lease_name"):
            self._require(name, bool(getattr(self, name)), "not empty")
        for setting in fields(self):
            if setting.name.endswith("_seconds"):
                value = getattr(self, setting.name)
                self._require(setting.name, 0 < value < math.inf, "more than 0, and finite")

    def _require(self, name: str, holds: bool, range_: str) -> None:
        if not holds:
            raise InvalidSettingError(f"{name} is {getattr(self, name)!r}, and must be {range_}")
