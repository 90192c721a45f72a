"""What a run cannot be made of."""

from twofold_cluster.errors import TwofoldError


class InvalidSetupError(TwofoldError):
    """A cluster that cannot be: what is wrong with it."""


class InvalidIncidentError(InvalidSetupError):
    """An incident is not of the form that they are told in, or cannot happen."""
