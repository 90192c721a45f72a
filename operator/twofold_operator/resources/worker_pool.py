"""``WorkerPool``: the workers of one role of a service, as something to scale."""

from typing import Annotated

from msgspec import Meta

from twofold_operator.resources.conditions import Conditions
from twofold_operator.resources.metadata import ObjectMeta
from twofold_operator.resources.pools import PoolRole
from twofold_operator.resources.wire import Count, Part, Replicas


class WorkerPoolSpec(Part, frozen=True, kw_only=True):
    """What is wanted of the pool."""

    service_name: Annotated[str, Meta(min_length=1, max_length=63)]
    """The LLMService of the same namespace that the pool belongs to."""
    role: PoolRole
    replicas: Annotated[Replicas, Meta(extra_json_schema={"default": 1})]
    """Workers wanted, of whatever revision. Scaling writes it."""


class WorkerPoolStatus(Part, frozen=True, kw_only=True):
    """What was last seen of the pool."""

    observed_generation: Annotated[int, Meta(ge=0, extra_json_schema={"format": "int64"})] = 0
    """The generation of the spec that this was seen of."""
    replicas: Count
    """Workers there are, ready or not."""
    ready_replicas: Count
    """Workers that serve; while Ready is Unknown, those that did when they were seen last."""
    summary: Annotated[str, Meta(max_length=32)]
    """READY/WANTED, for a person."""
    selector: Annotated[str, Meta(max_length=1024)]
    """Selects the workers' pods, for autoscalers."""
    conditions: Conditions = ()


class WorkerPool(Part, frozen=True, kw_only=True):
    """The workers of one role of an LLMService; made by the operator, scaled by whom you like."""

    metadata: ObjectMeta
    spec: WorkerPoolSpec
    status: WorkerPoolStatus | None = None
