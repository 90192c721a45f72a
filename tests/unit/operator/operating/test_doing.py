"""How far a plan is carried out when the API server refuses some of it."""

from typing import Any

import pytest

from twofold_operator.cluster_api import (
    ConflictError,
    ForbiddenError,
    ForeignObjectError,
    InvalidObjectError,
    NotFoundError,
    UnavailableError,
)
from twofold_operator.operating.doing import Done, do_all
from twofold_operator.planning.actions import (
    Action,
    AddFinalizer,
    ApplyObject,
    DeleteObject,
    TellPools,
)
from twofold_operator.planning.observed import Reference, Told
from twofold_operator.pool_managers import ManagerUnreachableError

TELL = TellPools("chat-pools.models:50051", Told())
OTHER = TellPools("chat-other-pools.models:50051", Told())
DELETE = DeleteObject(Reference("v1", "Service", "old"), "uid")


def apply(kind: str, **metadata: Any) -> ApplyObject:
    return ApplyObject({"kind": kind, "metadata": {"name": "chat", **metadata}})


class Doer:
    """Notes what is done; one action fails."""

    def __init__(self, failing: Action, error: Exception) -> None:
        self._failing = failing
        self._error = error
        self.done: list[Action] = []

    async def act(self, action: Action) -> None:
        if action == self._failing:
            raise self._error
        self.done.append(action)


@pytest.mark.parametrize(
    "error",
    [
        InvalidObjectError("422"),
        ForbiddenError("403"),
        ForeignObjectError("another's"),
        UnavailableError("webhook", 500),
    ],
)
@pytest.mark.parametrize("refused", [apply("Deployment"), DELETE])
async def test_scaling_goes_on_when_an_object_is_refused(refused: Action, error: Any) -> None:
    doer = Doer(refused, error)

    done = await do_all([refused, apply("Service"), TELL], doer.act)

    assert doer.done == [apply("Service"), TELL]
    assert (done.is_changing, done.refused) == (True, (error,))


@pytest.mark.parametrize("refused", [AddFinalizer(), apply("Secret"), apply("ConfigMap")])
async def test_nothing_is_done_after_what_everything_needs(refused: Action) -> None:
    doer = Doer(refused, ForbiddenError("403"))

    done = await do_all([refused, apply("RayCluster"), TELL], doer.act)

    assert not doer.done
    assert not done.is_changing


@pytest.mark.parametrize("status", [None, 429, 503])
async def test_a_server_that_has_no_time_is_asked_no_more(status: int | None) -> None:
    error = UnavailableError("later", status)
    doer = Doer(apply("Deployment"), error)

    done = await do_all([DELETE, apply("Deployment"), apply("Service")], doer.act)

    assert doer.done == [DELETE]
    assert (done.is_changing, done.refused) == (True, (error,))


async def test_a_conflict_without_a_version_does_not_hold_up_the_others() -> None:
    doer = Doer(apply("Service"), ConflictError("409"))

    await do_all([apply("Service"), TELL], doer.act)

    assert doer.done == [TELL]


async def test_a_manager_that_does_not_answer_holds_up_neither_others_nor_deletions() -> None:
    error = ManagerUnreachableError("no answer")
    doer = Doer(TELL, error)

    done = await do_all([TELL, OTHER, DELETE], doer.act)

    assert doer.done == [OTHER, DELETE]
    assert done == Done(is_changing=True, refused=(), unreachable=(error,))


@pytest.mark.parametrize(
    ("failing", "error"),
    [
        (apply("WorkerPool", resourceVersion="7"), ConflictError("409")),
        (DELETE, ConflictError("409")),
        (AddFinalizer(), ConflictError("409")),
        (apply("Service"), NotFoundError("404")),
    ],
)
async def test_what_says_that_the_view_is_old_ends_it(failing: Action, error: Exception) -> None:
    doer = Doer(failing, error)

    with pytest.raises(type(error)):
        await do_all([failing, apply("ConfigMap")], doer.act)

    assert not doer.done
