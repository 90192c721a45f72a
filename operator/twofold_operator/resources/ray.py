"""The Ray cluster that a service's workers run on."""

from typing import Annotated

from msgspec import Meta, field

from twofold_operator.resources.wire import (
    Part,
    ResourceRequirements,
    SecretKeyReference,
    ShortText,
    Template,
)

_PLACE = r"([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}$"
"""A host, an IPv6 address in brackets as Ray reads it, and a port."""

ORPHAN_SECONDS = 600
"""The pool manager's own default (decision 017)."""


class GcsFaultTolerance(Part, frozen=True, kw_only=True):
    """A Redis that keeps the state of Ray's head, so that a head may restart."""

    redis_address: Annotated[
        str,
        Meta(min_length=3, max_length=253, pattern=rf"^(rediss?://)?{_PLACE}"),
    ]
    """HOST:PORT, or rediss://HOST:PORT for TLS; an IPv6 address in brackets. Ray ends when it goes
    away: not the one of the membership, which may restart."""
    redis_username: ShortText | None = None
    """Default: Redis' own user."""
    redis_password_secret: SecretKeyReference | None = None
    """It must outlive the service: KubeRay clears Redis with it. Default: no password."""


class Ray(Part, frozen=True, kw_only=True):
    """The Ray cluster of the workers: one of the service's own, or one that exists."""

    address: Annotated[str, Meta(min_length=3, max_length=253, pattern=rf"^{_PLACE}")] | None = None
    """HOST:PORT of an existing Ray cluster, whose nodes offer the resources twofold_prefill and
    twofold_decode; an IPv6 address in brackets. Default: KubeRay makes one for each revision."""
    auth_secret: SecretKeyReference | None = None
    """The token of an existing Ray cluster that has RAY_AUTH_MODE=token. Default: no token is
    shown."""
    gcs_fault_tolerance: GcsFaultTolerance | None = None
    """Of a cluster that KubeRay (1.3 or newer) makes. Default: Ray's state is in its head's
    memory."""
    orphan_seconds: Annotated[int, Meta(ge=60, le=86_400)] = ORPHAN_SECONDS
    """Workers whose pool manager has not asked for them for so long drain and end by themselves, as
    where its pod finds no place any more. Another number is a new revision."""
    head_resources: ResourceRequirements = ResourceRequirements()
    """Of the head's Ray container."""
    head_pod_template: Template = field(default_factory=dict)
    """Merged over the head's pod. The container is named ray-head, the one beside it pools."""
