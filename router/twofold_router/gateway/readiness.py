"""Whether a request could be served now, and which models there are."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from twofold_cluster.worker import Worker, WorkerState
from twofold_router.settings import RouterSettings


@dataclass(frozen=True, slots=True)
class Readiness:
    """The answer to ``/ready``. ``missing`` may hold names although the router is ready: then it
    serves in mode ``fallback``."""

    ready: bool
    missing: tuple[str, ...]
    stale: bool

    def body(self) -> dict[str, Any]:
        status = "unready" if not self.ready else "degraded" if self.missing else "ready"
        return {"status": status, "missing": self.missing, "stale": self.stale}


class ReadinessCheck:
    """Knows whether the service was ever complete.

    Before that the router waits for prefill workers too. Afterwards losing all of them must not
    take the routers out of their Service as long as decode workers may prefill.
    """

    def __init__(self, settings: RouterSettings) -> None:
        self._settings = settings
        self._was_complete = False

    def check(self, workers: Iterable[Worker], stale: bool) -> Readiness:
        ready = [worker for worker in workers if worker.state is WorkerState.READY]
        missing: list[str] = []
        if not any(worker.role.decodes for worker in ready):
            missing.append("decode worker")
        if self._settings.disaggregate and not any(worker.role.prefills for worker in ready):
            missing.append("prefill worker")
        self._was_complete |= not missing
        may_fall_back = self._was_complete and self._settings.on_no_prefill == "aggregate"
        can_serve = not missing or (may_fall_back and missing == ["prefill worker"])
        return Readiness(can_serve, tuple(missing), stale)


def model_names(workers: Iterable[Worker]) -> list[str]:
    """Return the names that clients may send, sorted."""
    return sorted({worker.model for worker in workers})


def model_card(name: str, created_at: int) -> dict[str, Any]:
    """Describe a model as OpenAI does; *created_at* in seconds since 1970."""
    return {"id": name, "object": "model", "created": created_at, "owned_by": "twofold"}
