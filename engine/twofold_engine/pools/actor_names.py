"""What workers are called on Ray, so that a later manager finds them, and nobody else's."""

from dataclasses import dataclass

from twofold_cluster.identity import Incarnation, WorkerId

NAMESPACE = "twofold"
"""Ray's, in which all of these names are."""

SEPARATOR = "/"
"""Must be in no service and no worker prefix."""


@dataclass(frozen=True, slots=True)
class ActorName:
    """The name of one life of a worker: of its actor, and of its placement group."""

    service: str
    worker_id: WorkerId
    incarnation: Incarnation

    def __str__(self) -> str:
        return SEPARATOR.join((self.service, self.worker_id, self.incarnation))

    def is_of(self, service: str, worker_prefix: str) -> bool:
        """Tell whether it is a worker of this service whose id has exactly this prefix.

        An id is the prefix, a role and a number, so that the prefix is all but the last two parts.
        """
        return self.service == service and self.worker_id.rsplit("-", 2)[0] == worker_prefix


def parse(text: str) -> ActorName | None:
    """Return what *text* names; None if it is no name of ours."""
    parts = text.split(SEPARATOR)
    if len(parts) != 3:
        return None
    service, worker_id, incarnation = parts
    return ActorName(service, WorkerId(worker_id), Incarnation(incarnation))
