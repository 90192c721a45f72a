"""Whether a request could be served now, and which models there are."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from twofold_cluster.worker import Worker, WorkerState
from twofold_router.settings import RouterSettings


@dataclass(frozen=True, slots=True)
class Readiness:
    """The answer to ``/ready``. One that is degraded serves in mode ``fallback``, or tells its
    clients that nobody is there."""

    status: Literal["ready", "degraded", "unready", "leaving"]
    missing: tuple[str, ...]
    stale: bool

    @property
    def ready(self) -> bool:
        return self.status in ("ready", "degraded")

    def body(self) -> dict[str, Any]:
        return {"status": self.status, "missing": self.missing, "stale": self.stale}


class ReadinessCheck:
    """Knows whether the service was ever complete.

    Before that the router waits for both roles. Afterwards losing workers must not take the routers
    out of their Service: its clients would find nobody there, rather than an error that says why.
    """

    def __init__(self, settings: RouterSettings) -> None:
        self._settings = settings
        self._was_complete = False
        self.is_leaving = False
        """Set while it serves for the last time."""

    def check(self, workers: Iterable[Worker], stale: bool) -> Readiness:
        ready = [worker for worker in workers if worker.state is WorkerState.READY]
        missing: list[str] = []
        if not any(worker.role.decodes for worker in ready):
            missing.append("decode worker")
        if self._settings.disaggregate and not any(worker.role.prefills for worker in ready):
            missing.append("prefill worker")
        self._was_complete |= not missing
        if self.is_leaving:
            return Readiness("leaving", tuple(missing), stale)
        if not self._was_complete:
            return Readiness("unready", tuple(missing), stale)
        return Readiness("degraded" if missing else "ready", tuple(missing), stale)


def model_card(name: str, model: str, created_at: int) -> dict[str, Any]:
    """Describe *model*, or an adapter of it, as OpenAI does; *created_at* in seconds since 1970."""
    card = {"id": name, "object": "model", "created": created_at, "owned_by": "twofold"}
    return card if name == model else card | {"parent": model}
