"""What all parts of a custom resource share: how they stand on the wire, and their units.

The docstring of a class and the one below a field are the descriptions in the CRD.
"""

from typing import Annotated, Any

import msgspec
from msgspec import Meta


class Part(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A part of a custom resource.

    A field that we do not know is left aside: the CRD may be newer than the operator during an
    upgrade.
    """


Replicas = Annotated[int, Meta(ge=0, le=10_000)]
SomeReplicas = Annotated[int, Meta(ge=1, le=10_000)]
Count = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Port = Annotated[int, Meta(ge=1, le=65535)]
Milliseconds = Annotated[int, Meta(ge=1, le=3_600_000)]

ShortText = Annotated[str, Meta(min_length=1, max_length=253)]
LongText = Annotated[str, Meta(min_length=1, max_length=2048)]
ImageName = Annotated[str, Meta(min_length=1, max_length=512)]
ObjectName = Annotated[
    str, Meta(min_length=1, max_length=253, pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")
]
"""Of a Secret or another object of the same namespace."""
LabelText = Annotated[str, Meta(max_length=63)]

Quantity = int | Annotated[str, Meta(min_length=1, max_length=32)]
"""An amount as Kubernetes writes it: ``2``, ``500m``, ``16Gi``."""

Template = Annotated[
    dict[str, Any], Meta(extra_json_schema={"x-kubernetes-preserve-unknown-fields": True})
]
"""A part of a pod template, merged over what the operator makes."""

Labels = Annotated[dict[ShortText, LabelText], Meta(max_length=32)]


def to_wire(part: msgspec.Struct) -> dict[str, Any]:
    """Return *part* of a resource as in JSON, without what is at its default.

    So a version of ours that adds a field changes no hash of those who do not use it, whether
    the API server has filled the defaults in or not. (msgspec's own ``omit_defaults`` compares
    by identity.)
    """
    wire = {}
    for field in msgspec.structs.fields(part):
        value = getattr(part, field.name)
        if value != _default(field):
            wire[field.encode_name] = _plain(value)
    return wire


class ResourceRequirements(Part, frozen=True, kw_only=True):
    """What a container asks for and may use, as in any pod."""

    requests: Annotated[dict[ShortText, Quantity], Meta(max_length=16)] = {}
    limits: Annotated[dict[ShortText, Quantity], Meta(max_length=16)] = {}


class SecretReference(Part, frozen=True, kw_only=True):
    """A Secret of the same namespace."""

    name: ObjectName


class SecretKeyReference(Part, frozen=True, kw_only=True):
    """One key of a Secret of the same namespace."""

    name: ObjectName
    key: ShortText


def _plain(value: Any) -> Any:
    if isinstance(value, msgspec.Struct):
        return to_wire(value)
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    return value


def _default(field: msgspec.structs.FieldInfo) -> Any:
    """Return the default of *field*; of a required one msgspec's marker, which no value equals."""
    if field.default_factory is not msgspec.NODEFAULT:
        return field.default_factory()
    return field.default
