"""What goes wrong with an engine, by what its owner does about it."""

from twofold_cluster.errors import TwofoldError


class EngineError(TwofoldError):
    """The root of this component's errors."""


class EngineStartError(EngineError):
    """The engine did not become ready: it is started again after a delay."""


class UnknownRoleError(EngineError):
    """No installed package offers this role."""


class NotDeliveredError(EngineError):
    """The membership does not have a worker's change yet: ask again."""


class InvalidPoolError(EngineError):
    """The caller wants pools that cannot be; what was wanted before stays."""


class UnknownWorkerError(EngineError):
    """There is no worker of this id."""


class SupersededError(TwofoldError):
    """Another pool manager has taken over: who is told so ends, and touches no worker.

    Not an EngineError: nothing is wrong with the worker that says it.
    """
