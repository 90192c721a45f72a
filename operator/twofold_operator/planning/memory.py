"""What must survive the operator: the revisions that live, and the last spec that was good.

Kept in a ConfigMap beside the service, so that a plan is made of what is in the cluster alone.
"""

from typing import Any

import msgspec

from twofold_cluster.identity import Role
from twofold_operator.planning.observed import Manifest, WantedEngine
from twofold_operator.resources import InvalidSpecError, LLMService, LLMServiceSpec

MEMORY_KEY = "memory.json"


class Shortage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Fewer workers of a role are ready than a revision shall have."""

    enough: int
    """Workers beside whom none is expected: fewer than it shall have, where some did not come in
    time."""
    since: int | None = None
    """Since when fewer than enough are ready; None: they are enough."""


class Remembered(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A revision with workers, or on its way to them. Times are in seconds since 1970."""

    spec: dict[str, Any]
    """The service's, as it was when the revision was last wanted."""
    image: str
    engines: dict[Role, WantedEngine]
    """As its pool manager was told: it takes no others, whatever a later version of ours makes of
    the spec."""
    redis: str
    """Stands for the URL of the Redis that its workers know."""
    manager: dict[str, Any] | None = None
    """The pod template of its manager, on an existing Ray, so that it stays of one making with
    its workers. None: as it would be made now."""
    lacks_since: int | None = None
    """Since when workers are missing and no further one has got ready; None: none is missing."""
    most_ready: int = 0
    """While workers are missing, the most that were ready at once."""
    active: dict[Role, int] = {}
    """Workers that took requests when its pool manager answered last."""
    is_made: bool = False
    """Its RayCluster or manager was seen."""
    was_active: bool = False
    has_served: bool = False
    leaves_since: int | None = None
    shortages: dict[Role, Shortage] = {}
    """Of the roles that have too few workers in pods of ours."""

    def service(self, service: LLMService) -> LLMService:
        """Return *service* as this revision has it.

        Raises:
            InvalidSpecError: another version of ours wrote it.
        """
        return msgspec.structs.replace(service, spec=spec_of(self.spec))


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    revisions: dict[str, Remembered] = {}
    good_spec: dict[str, Any] | None = None


def read_memory(config_map: Manifest | None) -> Memory:
    """Read what was written; nothing, if it was deleted or cannot be read."""
    text = ((config_map or {}).get("data") or {}).get(MEMORY_KEY, "{}")
    try:
        return msgspec.json.decode(text, type=Memory)
    except msgspec.DecodeError:
        return Memory()


def write_memory(memory: Memory) -> dict[str, str]:
    """Return the data of the ConfigMap."""
    return {MEMORY_KEY: msgspec.json.encode(memory, order="deterministic").decode()}


def spec_of(wire: dict[str, Any]) -> LLMServiceSpec:
    """Read a spec that was good when it was written.

    Raises:
        InvalidSpecError: another version of ours wrote it.
    """
    try:
        return msgspec.convert(wire, LLMServiceSpec)
    except msgspec.ValidationError as error:
        raise InvalidSpecError("spec", str(error)) from error
