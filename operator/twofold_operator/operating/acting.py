"""Carrying out a plan, action by action; each may be done again after a crash."""

from typing import Protocol

from twofold_operator.cluster_api import (
    LLM_SERVICES,
    ClusterApi,
    ForeignObjectError,
    NotFoundError,
    ServiceKey,
    Store,
    kind_named,
    kind_of,
)
from twofold_operator.planning.actions import (
    Action,
    AddFinalizer,
    ApplyObject,
    DeleteObject,
    LookAgain,
    RecordEvent,
    RemoveFinalizer,
    SetStatus,
    TellPools,
)
from twofold_operator.planning.names import FIELD_MANAGER, FINALIZER, MANAGED_BY_LABEL
from twofold_operator.planning.observed import Manifest, Reference, Told


class Teller(Protocol):
    """Reaches pool managers."""

    async def tell(self, key: ServiceKey, address: str, told: Told) -> None: ...


class Recorder(Protocol):
    """Writes Kubernetes events."""

    async def record(self, subject: Manifest, event: RecordEvent) -> None: ...


class Actor:
    """Does what plans ask for, and holds every answer in the store at once.

    So the next plan sees what the last one did, whenever the watch brings it.
    """

    def __init__(self, api: ClusterApi, store: Store, teller: Teller, recorder: Recorder) -> None:
        self._api = api
        self._store = store
        self._teller = teller
        self._recorder = recorder

    async def act(self, key: ServiceKey, service: Manifest, action: Action) -> None:
        """Do one thing for *service*, as it was when it was planned for.

        Raises:
            ClusterApiError, ManagerUnreachableError: it could not be done.
        """
        match action:
            case AddFinalizer():
                await self._set_finalizers(service, [*_finalizers(service), FINALIZER])
            case RemoveFinalizer():
                others = [name for name in _finalizers(service) if name != FINALIZER]
                await self._set_finalizers(service, others)
            case ApplyObject(manifest):
                await self._apply(service, manifest)
            case DeleteObject(reference, uid):
                kind = kind_named(reference.api_version, reference.kind)
                try:
                    await self._api.delete(kind, key.namespace, reference.name, uid)
                except NotFoundError:
                    held = self._store.find(kind, key.namespace, reference.name)
                    if held is not None and held["metadata"].get("uid") == uid:
                        self._store.remove(held)
            case SetStatus(reference, status):
                kind = kind_named(reference.api_version, reference.kind)
                written = {
                    "apiVersion": reference.api_version,
                    "kind": reference.kind,
                    "metadata": {"name": reference.name, "namespace": key.namespace},
                    "status": dict(status),
                }
                self._store.put(await self._api.apply(written, subresource="status"))
            case TellPools(address, told):
                await self._teller.tell(key, address, told)
            case RecordEvent(about=None):
                await self._recorder.record(service, action)
            case RecordEvent(about=Reference(api_version, kind_name, name)):
                kind = kind_named(api_version, kind_name)
                if (subject := self._store.find(kind, key.namespace, name)) is not None:
                    await self._recorder.record(subject, action)
            case LookAgain():
                pass  # whoever reconciles sees to it

    async def look(self, key: ServiceKey) -> None:
        """Ask the API server whether the service still exists."""
        try:
            self._store.put(await self._api.get(LLM_SERVICES, key.namespace, key.name))
        except NotFoundError:
            if (held := self._store.service(key)) is not None:
                self._store.remove(held)

    async def _apply(self, service: Manifest, manifest: Manifest) -> None:
        """Apply *manifest*, unless somebody else's object has its name.

        The store holds only what has our label, so for what it lacks the server is asked.

        Raises:
            ForeignObjectError: a forced apply would take the object over, and the garbage
                collector would take it away with *service*.
        """
        kind, metadata = kind_of(manifest), manifest["metadata"]
        namespace, name = metadata["namespace"], metadata["name"]
        if self._store.find(kind, namespace, name) is None:
            try:
                there = await self._api.get(kind, namespace, name)
            except NotFoundError:
                pass
            else:
                if not _is_ours(there, service):
                    raise ForeignObjectError(
                        f"{kind.kind} {name} exists and is not ours, so it is left alone; make the "
                        f"service anew with another name, or delete {kind.kind} {name}"
                    )
        self._store.put(await self._api.apply(manifest))

    async def _set_finalizers(self, service: Manifest, finalizers: list[str]) -> None:
        metadata = service["metadata"]
        change = {
            "metadata": {
                "resourceVersion": metadata["resourceVersion"],
                "uid": metadata["uid"],
                "finalizers": finalizers,
            }
        }
        namespace, name = metadata["namespace"], metadata["name"]
        try:
            answer = await self._api.patch(LLM_SERVICES, namespace, name, change)
        except NotFoundError:
            self._store.remove(service)
            return
        if answer["metadata"].get("deletionTimestamp") and not finalizers:
            self._store.remove(answer)
        else:
            self._store.put(answer)


def _is_ours(there: Manifest, service: Manifest) -> bool:
    """Tell whether the operator made what is *there*, in this life of *service* or one before."""
    metadata = there["metadata"]
    owners = metadata.get("ownerReferences") or ()
    is_owned = any(owner["uid"] == service["metadata"]["uid"] for owner in owners)
    return is_owned or (metadata.get("labels") or {}).get(MANAGED_BY_LABEL) == FIELD_MANAGER


def _finalizers(service: Manifest) -> list[str]:
    return list(service["metadata"].get("finalizers") or ())
