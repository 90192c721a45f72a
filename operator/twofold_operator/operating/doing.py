"""Doing what a plan asks for: what the API server refuses does not hold up the rest of it."""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from twofold_operator.cluster_api import (
    ClusterApiError,
    ConflictError,
    ForbiddenError,
    ForeignObjectError,
    InvalidObjectError,
    UnavailableError,
)
from twofold_operator.planning.actions import Action, AddFinalizer, ApplyObject
from twofold_operator.pool_managers import ManagerUnreachableError

_NEEDED_BY_ALL = ("ConfigMap", "Secret")
"""Kinds of children that whatever is made after them needs."""
_FAILED = 500
"""The server was there, and failed at this one thing: at a webhook that does not answer, say."""


@dataclass(frozen=True, slots=True)
class Done:
    """What came of the actions of a plan."""

    is_changing: bool
    """Something was written."""
    refused: tuple[ClusterApiError, ...]
    """What the API server answered to the others, or that it did not."""
    unreachable: tuple[ManagerUnreachableError, ...] = ()
    """Of pool managers that were not told."""

    @classmethod
    def of(cls, *parts: "Done") -> "Done":
        """Return what came of all *parts* together."""
        refused = tuple(error for part in parts for error in part.refused)
        unreachable = tuple(error for part in parts for error in part.unreachable)
        return cls(any(part.is_changing for part in parts), refused, unreachable)


async def do_all(actions: Iterable[Action], act: Callable[[Action], Awaitable[None]]) -> Done:
    """Do *actions* in their order, without what is refused and what needs that.

    A pool manager that does not answer stops nobody else. It ends, with what was done so far, at
    the first action that the server had no time for.

    Raises:
        ConflictError, NotFoundError: the plan was made of an old view.
        ClusterApiError: the rest would fail as well.
    """
    is_changing = False
    refused: list[ClusterApiError] = []
    unreachable: list[ManagerUnreachableError] = []
    for action in actions:
        try:
            await act(action)
        except (InvalidObjectError, ForbiddenError, ForeignObjectError) as error:
            refused.append(error)
        except UnavailableError as error:
            refused.append(error)
            if error.status != _FAILED:
                break
        except ConflictError as error:
            if _has_version(action):
                raise
            refused.append(error)
        except ManagerUnreachableError as error:
            unreachable.append(error)
        else:
            is_changing = True
            continue
        if _is_needed_by_all(action):
            break
    return Done(is_changing, tuple(refused), tuple(unreachable))


def _has_version(action: Action) -> bool:
    """Tell whether a conflict says that the plan was made of an old view."""
    if not isinstance(action, ApplyObject):
        return True
    return "resourceVersion" in action.manifest["metadata"]


def _is_needed_by_all(action: Action) -> bool:
    if isinstance(action, ApplyObject):
        return action.manifest["kind"] in _NEEDED_BY_ALL
    return isinstance(action, AddFinalizer)
