"""What can go wrong with a pool manager."""

from twofold_cluster.errors import TwofoldError


class ManagerUnreachableError(TwofoldError):
    """A pool manager does not answer; it is told again when it does."""
