"""The Kubernetes API: who we are, requests, and a copy of what is ours."""

from twofold_operator.cluster_api.access import Access, find_access, own_namespace
from twofold_operator.cluster_api.client import ClientLimits, ClusterApi, Manifest, connect
from twofold_operator.cluster_api.errors import (
    ClusterApiError,
    ConflictError,
    ForbiddenError,
    ForeignObjectError,
    InvalidObjectError,
    NotFoundError,
    UnavailableError,
)
from twofold_operator.cluster_api.kinds import (
    CHILDREN,
    EVENTS,
    LEASES,
    LLM_SERVICES,
    LORA_ADAPTERS,
    OPTIONAL_CHILDREN,
    PODS,
    RESOURCES,
    WATCHED,
    WORKER_POOLS,
    Kind,
    kind_named,
    kind_of,
    label_selector,
)
from twofold_operator.cluster_api.store import ServiceKey, Store

__all__ = [
    "CHILDREN",
    "EVENTS",
    "LEASES",
    "LLM_SERVICES",
    "LORA_ADAPTERS",
    "OPTIONAL_CHILDREN",
    "PODS",
    "RESOURCES",
    "WATCHED",
    "WORKER_POOLS",
    "Access",
    "ClientLimits",
    "ClusterApi",
    "ClusterApiError",
    "ConflictError",
    "ForbiddenError",
    "ForeignObjectError",
    "InvalidObjectError",
    "Kind",
    "Manifest",
    "NotFoundError",
    "ServiceKey",
    "Store",
    "UnavailableError",
    "connect",
    "find_access",
    "kind_named",
    "kind_of",
    "label_selector",
    "own_namespace",
]
