"""The custom resources: their types, how they are read, and the CRDs that are made of them."""

from twofold_operator.resources.conditions import Condition, ConditionStatus
from twofold_operator.resources.errors import InvalidSpecError
from twofold_operator.resources.kinds import (
    API_VERSION,
    GROUP,
    KINDS,
    LLM_SERVICE,
    LORA_ADAPTER,
    VERSION,
    WORKER_POOL,
    Kind,
)
from twofold_operator.resources.lora_adapter import (
    AdapterOnWorker,
    LoRAAdapter,
    LoRAAdapterSpec,
    LoRAAdapterStatus,
)
from twofold_operator.resources.metadata import ObjectMeta
from twofold_operator.resources.model import EngineKind, Images, Lora, Model, Sim
from twofold_operator.resources.parsing import (
    parse_lora_adapter,
    parse_metadata,
    parse_service,
    parse_service_status,
    parse_worker_pool,
)
from twofold_operator.resources.pools import Pool, PoolRole
from twofold_operator.resources.quantities import parse_quantity
from twofold_operator.resources.ray import ORPHAN_SECONDS, GcsFaultTolerance, Ray
from twofold_operator.resources.rollout import Rollout
from twofold_operator.resources.service import (
    LLMService,
    LLMServiceSpec,
    LLMServiceStatus,
    RoleStatus,
)
from twofold_operator.resources.serving import (
    Disaggregation,
    Gateway,
    Observability,
    Promise,
    PromisedClass,
    Routing,
    Slo,
    Transfer,
)
from twofold_operator.resources.sources import Source, parse_source
from twofold_operator.resources.templates import MERGE_KEYS
from twofold_operator.resources.wire import (
    ResourceRequirements,
    SecretKeyReference,
    SecretReference,
    to_wire,
)
from twofold_operator.resources.worker_pool import WorkerPool, WorkerPoolSpec, WorkerPoolStatus

__all__ = [
    "API_VERSION",
    "GROUP",
    "KINDS",
    "LLM_SERVICE",
    "LORA_ADAPTER",
    "MERGE_KEYS",
    "ORPHAN_SECONDS",
    "VERSION",
    "WORKER_POOL",
    "AdapterOnWorker",
    "Condition",
    "ConditionStatus",
    "Disaggregation",
    "EngineKind",
    "Gateway",
    "GcsFaultTolerance",
    "Images",
    "InvalidSpecError",
    "Kind",
    "LLMService",
    "LLMServiceSpec",
    "LLMServiceStatus",
    "LoRAAdapter",
    "LoRAAdapterSpec",
    "LoRAAdapterStatus",
    "Lora",
    "Model",
    "ObjectMeta",
    "Observability",
    "Pool",
    "PoolRole",
    "Promise",
    "PromisedClass",
    "Ray",
    "ResourceRequirements",
    "RoleStatus",
    "Rollout",
    "Routing",
    "SecretKeyReference",
    "SecretReference",
    "Sim",
    "Slo",
    "Source",
    "Transfer",
    "WorkerPool",
    "WorkerPoolSpec",
    "WorkerPoolStatus",
    "parse_lora_adapter",
    "parse_metadata",
    "parse_quantity",
    "parse_service",
    "parse_service_status",
    "parse_source",
    "parse_worker_pool",
    "to_wire",
]
