"""The pool managers: what they report, and telling them what to want."""

from twofold_operator.pool_managers.connection import ConnectionLimits, ManagerConnection
from twofold_operator.pool_managers.errors import ManagerUnreachableError
from twofold_operator.pool_managers.generations import Generations
from twofold_operator.pool_managers.managers import PoolManagers

__all__ = [
    "ConnectionLimits",
    "Generations",
    "ManagerConnection",
    "ManagerUnreachableError",
    "PoolManagers",
]
