"""What stops a router at its start."""

from twofold_cluster.errors import TwofoldError


class InvalidAccessError(TwofoldError):
    """Keys, classes or the address to listen on are told such that the router must not start.

    The message names the entry and the field, and never repeats a hash or a key.
    """
