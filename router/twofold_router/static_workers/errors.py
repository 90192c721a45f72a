"""What can be wrong with a given worker."""

from twofold_cluster.errors import TwofoldError


class InvalidWorkerFlagError(TwofoldError):
    """A ``--worker`` flag that a router cannot start with; the message names it."""


class InvalidEngineKeyError(TwofoldError):
    """The engines' API key cannot be read, or is none; the message says where it should be."""


class ProbeFailedError(TwofoldError):
    """A worker did not answer as one that can serve."""


class RefusedError(ProbeFailedError):
    """Nobody listens at a worker's address: its process is gone, or not there yet."""
