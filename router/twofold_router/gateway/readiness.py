"""Whether a request could be served now, and which models there are."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from twofold_cluster.identity import WorkerId
from twofold_cluster.worker import Worker, WorkerState
from twofold_router.settings import RouterSettings
from twofold_router.static_workers import UNKNOWN_MODEL_TOKENS


@dataclass(frozen=True, slots=True)
class Readiness:
    """The answer to ``/ready``. One that is degraded serves in mode ``fallback``, or tells its
    clients that nobody is there."""

    status: Literal["ready", "degraded", "unready", "leaving"]
    missing: tuple[str, ...]
    stale: bool
    failing: Mapping[WorkerId, str] = field(default_factory=dict)

    @property
    def ready(self) -> bool:
        return self.status in ("ready", "degraded")

    def body(self) -> dict[str, Any]:
        body = {"status": self.status, "missing": self.missing, "stale": self.stale}
        return body | {"failing": self.failing} if self.failing else body


class ReadinessCheck:
    """Knows whether a request could ever be served.

    Before that the router waits for a decode worker, and for a prefill worker where requests fail
    without one. Afterwards losing workers must not take the routers out of their Service: its
    clients would find nobody there, rather than an error that says why.
    """

    def __init__(self, settings: RouterSettings) -> None:
        self._settings = settings
        self._needs = {"decode worker"}
        if settings.on_no_prefill == "fail":
            self._needs.add("prefill worker")
        self._could_serve = False
        self.is_leaving = False
        """Set while it serves for the last time."""
        self.failing: Mapping[WorkerId, str] = {}
        """What is wrong with workers that do not answer as they should."""

    def check(self, workers: Iterable[Worker], stale: bool) -> Readiness:
        ready = [worker for worker in workers if worker.state is WorkerState.READY]
        missing: list[str] = []
        if not any(worker.role.decodes for worker in ready):
            missing.append("decode worker")
        if self._settings.disaggregate and not any(worker.role.prefills for worker in ready):
            missing.append("prefill worker")
        self._could_serve |= self._needs.isdisjoint(missing)
        if self.is_leaving:
            return Readiness("leaving", tuple(missing), stale, self.failing)
        if not self._could_serve:
            return Readiness("unready", tuple(missing), stale, self.failing)
        return Readiness("degraded" if missing else "ready", tuple(missing), stale, self.failing)


def model_card(name: str, model: str, created_at: int, workers: Iterable[Worker]) -> dict[str, Any]:
    """Describe *model*, or an adapter of it, as OpenAI does; *created_at* in seconds since 1970.

    ``root``, ``parent`` and ``max_model_len`` are vLLM's fields. Its root is the path that the
    server has read, which is of no use outside its pod, and nobody's business there: here it is the
    name of the model behind. ``max_model_len`` is the longest context in tokens, the least of those
    of the *workers* with the name. A card has none where that is not known."""
    card: dict[str, Any] = {
        "id": name,
        "object": "model",
        "created": created_at,
        "owned_by": "twofold",
        "root": model,
        "parent": None if name == model else model,
    }
    longest = [worker.max_model_tokens for worker in workers if name in worker.names]
    if longest and UNKNOWN_MODEL_TOKENS not in longest:
        card["max_model_len"] = min(longest)
    return card
