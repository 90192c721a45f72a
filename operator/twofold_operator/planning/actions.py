"""What a plan asks for. Each action is idempotent, and may be done again after a crash."""

from dataclasses import dataclass
from typing import Literal

from twofold_operator.planning.observed import Manifest, Reference, Told


@dataclass(frozen=True, slots=True)
class AddFinalizer:
    """Before anything that outlives the resource is made."""


@dataclass(frozen=True, slots=True)
class RemoveFinalizer:
    """Nothing is left that the garbage collector would not take."""


@dataclass(frozen=True, slots=True)
class ApplyObject:
    """Server-side apply, forced. With a ``resourceVersion`` a conflict means: look again."""

    manifest: Manifest


@dataclass(frozen=True, slots=True)
class DeleteObject:
    """Delete exactly this life of the object; one that has gone is no error."""

    reference: Reference
    uid: str


@dataclass(frozen=True, slots=True)
class TellPools:
    """Apply at a pool manager; the caller gives the generation."""

    address: str
    told: Told


@dataclass(frozen=True, slots=True)
class SetStatus:
    """Replace the status of the service itself, a WorkerPool or a LoRAAdapter."""

    reference: Reference
    status: Manifest


@dataclass(frozen=True, slots=True)
class RecordEvent:
    """An event for a person; about the service, unless it says what else."""

    type: Literal["Normal", "Warning"]
    reason: str
    message: str
    about: Reference | None = None


@dataclass(frozen=True, slots=True)
class LookAgain:
    """Plan again after this long, though nothing may have changed: a limit ends then."""

    after_seconds: float


Action = (
    AddFinalizer
    | RemoveFinalizer
    | ApplyObject
    | DeleteObject
    | TellPools
    | SetStatus
    | RecordEvent
    | LookAgain
)
