"""How a service gets new workers."""

from typing import Annotated

from msgspec import Meta

from twofold_operator.resources.wire import Part

Surge = (
    Annotated[int, Meta(ge=1, le=10_000)]
    | Annotated[str, Meta(min_length=2, max_length=4, pattern="^([1-9][0-9]?|100)%$")]
)


class Rollout(Part, frozen=True, kw_only=True):
    """How a new revision replaces the one before."""

    max_surge: Surge = "100%"
    """Workers of each pool beyond its replicas while two revisions run: a number, or a share of
    the replicas, rounded up. All of them by default, so that no request waits for the change."""
    ready_deadline_seconds: Annotated[int, Meta(ge=30, le=86_400)] = 1800
    """A revision that is not ready by then goes no further; the one before keeps serving. So long a
    worker that is missing keeps those who drain nodes from taking another of its role."""

    def surge(self, replicas: int) -> int:
        """Return how many workers beyond *replicas* a pool may have; at least 1."""
        if isinstance(self.max_surge, int):
            return self.max_surge
        percent = int(self.max_surge.removesuffix("%"))
        return max(1, -(-replicas * percent // 100))
