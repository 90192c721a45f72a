"""Conditions as all of Kubernetes writes them (metav1)."""

from typing import Annotated, Literal

from msgspec import Meta

from twofold_operator.resources.wire import Part

ConditionStatus = Literal["True", "False", "Unknown"]


class Condition(Part, frozen=True, kw_only=True):
    """One aspect of a resource's state."""

    type: Annotated[str, Meta(min_length=1, max_length=316)]
    """The aspect, in CamelCase."""
    status: ConditionStatus
    reason: Annotated[
        str, Meta(min_length=1, max_length=1024, pattern="^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$")
    ]
    """Why, in one CamelCase word that programs may compare."""
    message: Annotated[str, Meta(max_length=32768)]
    """Why, and what to do, for a person."""
    last_transition_time: Annotated[str, Meta(extra_json_schema={"format": "date-time"})]
    """When the status last changed."""
    observed_generation: Annotated[int, Meta(ge=0, extra_json_schema={"format": "int64"})] = 0
    """The generation of the resource that this was said of."""


Conditions = Annotated[
    tuple[Condition, ...],
    Meta(
        max_length=32,
        extra_json_schema={
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["type"],
        },
    ),
]
