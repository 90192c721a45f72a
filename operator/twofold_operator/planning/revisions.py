"""What makes a revision: all that needs new workers, and nothing of how many."""

import hashlib
from typing import Any

import msgspec

from twofold_operator.planning.children.pool_manager import manager_template
from twofold_operator.planning.engines import engines_of
from twofold_operator.planning.memory import Remembered
from twofold_operator.planning.settings import PlanSettings
from twofold_operator.resources import LLMService, LLMServiceSpec, Pool, to_wire

_OF_THE_MODEL = ("engine", "sim", "model", "transfer")
_NOT_OF_A_WORKER = ("replicas", "minReplicas", "maxReplicas")


def worker_image(spec: LLMServiceSpec, settings: PlanSettings) -> str:
    """Return the image of the Ray nodes."""
    if spec.images.worker is not None:
        return spec.images.worker
    return settings.sim_image if spec.engine == "sim" else settings.worker_image


def revision_of(service: LLMService, image: str, settings: PlanSettings) -> str:
    """Return the revision of *service* with workers of *image*: ten hexadecimal digits."""
    spec = service.spec
    wire = to_wire(spec)
    parts: dict[str, Any] = {name: wire.get(name) for name in _OF_THE_MODEL}
    parts |= {
        "image": image,
        "redis": settings.redis.id,
        "ray": wire.get("ray"),
        # What a later version of ours makes of the same spec needs new workers as well.
        "engines": engines_of(service),
        "prefill": _worker(spec.prefill),
        "decode": _worker(spec.decode),
    }
    if (holdings := spec.observability.directory_holdings) is not None:
        # Absent otherwise, so that services that do not say it keep their revisions.
        parts["directory"] = holdings
    if spec.ray.address is not None:
        # A manager takes over workers of its own making only.
        parts["manager"] = manager_template(service, "", image, settings.redis, settings)
    text = msgspec.json.encode(parts, order="deterministic")
    return hashlib.sha256(text).hexdigest()[:10]


def begun(service: LLMService, revision: str, image: str, settings: PlanSettings) -> Remembered:
    """Return what is remembered of a revision from its beginning."""
    manager = None
    if service.spec.ray.address is not None:
        manager = manager_template(service, revision, image, settings.redis, settings)
    return Remembered(
        spec=to_wire(service.spec),
        image=image,
        engines=engines_of(service),
        redis=settings.redis.id,
        manager=manager,
    )


def _worker(pool: Pool) -> dict[str, Any]:
    return {name: part for name, part in to_wire(pool).items() if name not in _NOT_OF_A_WORKER}
