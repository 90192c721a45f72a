"""What the Kubernetes API can answer that a caller treats differently."""

from twofold_cluster.errors import TwofoldError


class ClusterApiError(TwofoldError):
    """A request to the Kubernetes API failed; the message carries the server's."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class NotFoundError(ClusterApiError):
    """The object or its API does not exist."""


class ConflictError(ClusterApiError):
    """The object has changed since it was read, or exists already."""


class ForbiddenError(ClusterApiError):
    """The role of the operator lacks a verb."""


class InvalidObjectError(ClusterApiError):
    """The server refuses what was sent; sending it again will not help."""


class ForeignObjectError(ClusterApiError):
    """Something of that name is there, and is not ours to change; nothing was sent."""


class UnavailableError(ClusterApiError):
    """The server could not be reached, or asked to come again later, until the retries ended."""
