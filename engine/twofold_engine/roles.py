"""What a role adds to an engine. The roles themselves are packages that stand on this one."""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any

from twofold_cluster.errors import Fault
from twofold_cluster.identity import Role
from twofold_cluster.worker import Worker
from twofold_engine.errors import UnknownRoleError
from twofold_engine.settings import WorkerSettings

ENTRY_POINT_GROUP = "twofold.roles"


@dataclass(frozen=True, slots=True)
class InFlight:
    """What a worker has accepted and not answered: all of it, and what has no first token."""

    request_count: int = 0
    unprefilled_count: int = 0


@dataclass(frozen=True, slots=True)
class RolePolicy:
    """``admit`` refuses a request by naming the fault. ``accompany`` runs as long as the worker
    has the role, beside its engine; it gets the worker as it is announced at that moment."""

    admit: Callable[[InFlight, WorkerSettings], Fault | None]
    accompany: (
        Callable[[WorkerSettings, Callable[[], Worker]], Coroutine[Any, Any, None]] | None
    ) = None


def load_policy(role: Role) -> RolePolicy:
    """Find the policy of *role* among the installed packages; ``both`` is admitted as decode.

    Raises:
        UnknownRoleError: none offers it.
    """
    name = Role.DECODE if role is Role.BOTH else role
    for entry_point in entry_points(group=ENTRY_POINT_GROUP, name=name):
        policy = entry_point.load()
        assert isinstance(policy, RolePolicy), entry_point
        return policy
    raise UnknownRoleError(f"no installed package offers the role {role}")
