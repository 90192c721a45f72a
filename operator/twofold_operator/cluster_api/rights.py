"""What the operator asks of the API server, as a role has to allow it: that, and nothing else."""

from collections.abc import Iterator
from typing import NamedTuple

from twofold_operator.cluster_api.kinds import (
    CHILDREN,
    EVENTS,
    LEASES,
    LLM_SERVICES,
    LORA_ADAPTERS,
    OPTIONAL_CHILDREN,
    PODS,
    WORKER_POOLS,
    Kind,
)


class Right(NamedTuple):
    group: str
    resource: str
    verb: str


_FOLLOW = ("list", "watch")
# The server asks for create and patch of who applies what is not there yet. Get: whether it is.
_APPLY = ("create", "get", "patch")


def service_rights() -> frozenset[Right]:
    """Return what is needed in each namespace whose services are operated."""
    return frozenset(_service_rights())


def own_rights() -> frozenset[Right]:
    """Return what is needed in the operator's own namespace."""
    return frozenset(_of(LEASES, "create", "get", "update"))


def _service_rights() -> Iterator[Right]:
    yield from _of(LLM_SERVICES, *_FOLLOW, "get", "patch")
    yield from _of(WORKER_POOLS, *_FOLLOW, *_APPLY)
    yield from _of(LORA_ADAPTERS, *_FOLLOW)
    for kind in (LLM_SERVICES, WORKER_POOLS, LORA_ADAPTERS):
        yield Right(kind.group, f"{kind.plural}/status", "patch")
    # The owner references of its children block a service's deletion.
    yield Right(LLM_SERVICES.group, f"{LLM_SERVICES.plural}/finalizers", "update")
    for kind in (*CHILDREN, *OPTIONAL_CHILDREN):
        yield from _of(kind, *_FOLLOW, *_APPLY, "delete")
    yield from _of(PODS, *_FOLLOW)
    yield from _of(EVENTS, "create", "patch")


def _of(kind: Kind, *verbs: str) -> Iterator[Right]:
    for verb in verbs:
        yield Right(kind.group, kind.plural, verb)
