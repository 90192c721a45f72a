"""``LoRAAdapter``: an adapter on the workers of a service."""

from typing import Annotated

from msgspec import Meta

from twofold_operator.resources.conditions import Conditions
from twofold_operator.resources.metadata import ObjectMeta
from twofold_operator.resources.model import ModelName
from twofold_operator.resources.wire import Count, Part


class LoRAAdapterSpec(Part, frozen=True, kw_only=True):
    """Which adapter, and where."""

    service: Annotated[str, Meta(min_length=1, max_length=63)]
    """The LLMService of the same namespace whose workers load it."""
    name: ModelName | None = None
    """What clients send as the model. Default: the resource's name."""
    source: Annotated[str, Meta(min_length=1, max_length=1024)]
    """Where the adapter is: hf://ORGANISATION/NAME, or an absolute path in the workers' pods, where
    a podTemplate may have mounted it. (A volume cannot be added to a pod that runs.)"""


class AdapterOnWorker(Part, frozen=True, kw_only=True):
    """The adapter on one worker."""

    worker: Annotated[str, Meta(min_length=1, max_length=253)]
    loaded: bool
    message: Annotated[str, Meta(max_length=2048)] = ""
    """Why it is not loaded."""


class LoRAAdapterStatus(Part, frozen=True, kw_only=True):
    """What was last seen of the adapter."""

    observed_generation: Annotated[int, Meta(ge=0, extra_json_schema={"format": "int64"})] = 0
    """The generation of the spec that this was seen of."""
    conditions: Conditions = ()
    """Ready."""
    ready_workers: Count
    """Workers that have it loaded; while Ready is Unknown, those of a pool manager that does not
    answer as they were when it answered last."""
    summary: Annotated[str, Meta(max_length=32)]
    """LOADED/WORKERS, for a person."""
    workers: Annotated[
        tuple[AdapterOnWorker, ...],
        Meta(
            max_length=1000,
            extra_json_schema={
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["worker"],
            },
        ),
    ] = ()
    """Each ready worker; of more than 1,000 the first, those without the adapter before others."""


class LoRAAdapter(Part, frozen=True, kw_only=True):
    """An adapter, loaded on all workers of an LLMService and served by its own name."""

    metadata: ObjectMeta
    spec: LoRAAdapterSpec
    status: LoRAAdapterStatus | None = None

    @property
    def served_name(self) -> str:
        """Return what clients send as the model."""
        return self.spec.name or self.metadata.name
