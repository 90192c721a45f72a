from collections.abc import Mapping
from typing import Any

import pytest

from twofold_operator.cluster_api import (
    LLM_SERVICES,
    PODS,
    ClusterApiError,
    ForbiddenError,
    Kind,
    ServiceKey,
    Store,
    UnavailableError,
)
from twofold_operator.operating.discovering import list_everything


class Api:
    """Has a service in each namespace that it does not refuse."""

    def __init__(self, refuses: Mapping[str | None, ClusterApiError]) -> None:
        self._refuses = refuses

    async def list_all(self, kind: Kind, namespace: str | None) -> tuple[list[Any], str]:
        if error := self._refuses.get(namespace):
            raise error
        metadata = {"name": "chat", "namespace": namespace, "uid": "1", "resourceVersion": "1"}
        found = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata}
        return ([found] if kind == LLM_SERVICES else []), "5"


async def test_a_namespace_that_is_refused_is_named_and_those_after_it_are_listed() -> None:
    store = Store(lambda _key: None)
    error = ForbiddenError("llmservices is forbidden in gone", 403)

    refused = await _list(Api({"gone": error}), store, "before", "gone", "after")

    assert refused == {"gone": error}
    assert store.services() == [ServiceKey("before", "chat"), ServiceKey("after", "chat")]


@pytest.mark.parametrize("namespaces", [("a", "gone"), ()])
async def test_a_server_that_cannot_be_asked_is_no_refusal(namespaces: tuple[str, ...]) -> None:
    error = UnavailableError("no server")

    with pytest.raises(UnavailableError):
        await _list(Api({"gone": error, None: error}), Store(lambda _key: None), *namespaces)


async def test_a_refusal_of_the_whole_cluster_is_not_one_of_a_namespace() -> None:
    with pytest.raises(ForbiddenError):
        await _list(Api({None: ForbiddenError("no")}), Store(lambda _key: None))


async def _list(api: Api, store: Store, *namespaces: str) -> Mapping[str, ClusterApiError]:
    return await list_everything(api, store, (LLM_SERVICES, PODS), namespaces)  # type: ignore[arg-type]
