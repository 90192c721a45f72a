"""A copy of what is ours in the cluster, so that planning costs no request."""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, NamedTuple

from twofold_operator.cluster_api.kinds import LLM_SERVICES, LORA_ADAPTERS, Kind, kind_of
from twofold_operator.planning.names import INSTANCE_LABEL, cut
from twofold_operator.planning.observed import Manifest, Observed


class ServiceKey(NamedTuple):
    """Names an LLMService, whether it exists or not."""

    namespace: str
    name: str


class Store:
    """The newest version that was seen of each object, from whichever side it came.

    ``changed`` is called with the service that an object belongs to, when what is held of it
    changes. What is older than what is held is dropped: watches, lists and answers overtake each
    other. Of the services of namespaces that are left out nothing is told, whatever is held.
    """

    def __init__(self, changed: Callable[[ServiceKey], None]) -> None:
        self._changed = changed
        self._objects: dict[Kind, dict[tuple[str, str], Manifest]] = defaultdict(dict)
        self._of_service: dict[ServiceKey, dict[tuple[str, str], Manifest]] = defaultdict(dict)
        self._adapters: dict[ServiceKey, dict[str, Manifest]] = defaultdict(dict)
        self._left_out: frozenset[str] = frozenset()

    def leave_out(self, namespaces: Collection[str]) -> None:
        """Take these namespaces, and no others, as if nothing were in them."""
        before, self._left_out = self._left_out, frozenset(namespaces)
        turned = before ^ self._left_out
        for key in {*self._objects[LLM_SERVICES], *self._adapters}:
            if key[0] in turned:
                self._changed(ServiceKey(*key))

    def put(self, manifest: Manifest) -> bool:
        """Hold *manifest* if it is news; tell whether it is."""
        kind, place = kind_of(manifest), _place(manifest)
        held = self._objects[kind].get(place)
        if held is not None and not _is_newer(manifest, held):
            return False
        if held is not None:
            self._forget(kind, place, held)
        slim = _without_managed_fields(manifest)
        self._objects[kind][place] = slim
        self._remember(kind, place, slim)
        self._tell(kind, slim, held)
        return True

    def remove(self, manifest: Manifest) -> bool:
        """Forget *manifest*, unless a successor of the same name is held; tell whether it was."""
        kind, place = kind_of(manifest), _place(manifest)
        held = self._objects[kind].get(place)
        if held is None or _uid(held) != _uid(manifest):
            return False
        del self._objects[kind][place]
        self._forget(kind, place, held)
        self._tell(kind, held)
        return True

    def replace_all(
        self, kind: Kind, namespace: str | None, listed: Iterable[Manifest], version: str
    ) -> int:
        """Hold what a list of *kind* says; return how many objects that changed.

        What was written after *version*, the list's, is not in it, and stays.
        """
        places = set()
        differences = 0
        for manifest in listed:
            places.add(_place(manifest))
            differences += self.put(manifest)
        gone = [
            held
            for place, held in self._objects[kind].items()
            if place not in places
            and namespace in (None, place[0])
            and not _is_above(_version(held), version)
        ]
        return differences + sum(self.remove(held) for held in gone)

    def service(self, key: ServiceKey) -> Manifest | None:
        return None if key.namespace in self._left_out else self._objects[LLM_SERVICES].get(key)

    def services(self) -> list[ServiceKey]:
        keys = (ServiceKey(*place) for place in self._objects[LLM_SERVICES])
        return [key for key in keys if key.namespace not in self._left_out]

    def children(self, key: ServiceKey) -> Mapping[tuple[str, str], Manifest]:
        """What carries our labels and the service's name, by kind and name."""
        return dict(self._of_service.get(_labelled(key), {}))

    def adapters(self, key: ServiceKey) -> tuple[Manifest, ...]:
        held = {} if key.namespace in self._left_out else self._adapters.get(key, {})
        return tuple(held[name] for name in sorted(held))

    def find(self, kind: Kind, namespace: str, name: str) -> Manifest | None:
        return self._objects[kind].get((namespace, name))

    def observed(self, key: ServiceKey) -> Observed | None:
        """What is held of one service; None without the service itself."""
        service = self.service(key)
        if service is None:
            return None
        return Observed(service, self.children(key), self.adapters(key))

    def _remember(self, kind: Kind, place: tuple[str, str], manifest: Manifest) -> None:
        key = _owner(kind, manifest)
        if key is None or kind == LLM_SERVICES:
            return
        if kind == LORA_ADAPTERS:
            self._adapters[key][place[1]] = manifest
        else:
            self._of_service[key][(kind.kind, place[1])] = manifest

    def _forget(self, kind: Kind, place: tuple[str, str], manifest: Manifest) -> None:
        key = _owner(kind, manifest)
        if key is None or kind == LLM_SERVICES:
            return
        index: dict[ServiceKey, Any] = self._adapters if kind == LORA_ADAPTERS else self._of_service
        index[key].pop(place[1] if kind == LORA_ADAPTERS else (kind.kind, place[1]), None)
        if not index[key]:
            del index[key]

    def _tell(self, kind: Kind, *manifests: Manifest | None) -> None:
        for key in {_owner(kind, one) for one in manifests if one is not None}:
            if key is not None:
                self._changed(key)


def _owner(kind: Kind, manifest: Manifest) -> ServiceKey | None:
    metadata = manifest["metadata"]
    namespace = metadata["namespace"]
    if kind == LLM_SERVICES:
        return ServiceKey(namespace, metadata["name"])
    if kind == LORA_ADAPTERS:
        service = (manifest.get("spec") or {}).get("service")
        return ServiceKey(namespace, service) if isinstance(service, str) else None
    instance = (metadata.get("labels") or {}).get(INSTANCE_LABEL)
    return ServiceKey(namespace, instance) if instance else None


def _labelled(key: ServiceKey) -> ServiceKey:
    return ServiceKey(key.namespace, cut(key.name))


def _place(manifest: Manifest) -> tuple[str, str]:
    metadata = manifest["metadata"]
    return metadata["namespace"], metadata["name"]


def _uid(manifest: Manifest) -> str:
    return str(manifest["metadata"].get("uid", ""))


def _version(manifest: Manifest) -> str:
    return str(manifest["metadata"].get("resourceVersion", ""))


def _is_newer(manifest: Manifest, held: Manifest) -> bool:
    if _version(manifest) == _version(held):
        return False
    # Numbers, in every API server that there is: another life of a name also has larger ones.
    return not _is_above(_version(held), _version(manifest))


def _is_above(one: str, other: str) -> bool:
    return one.isdigit() and other.isdigit() and int(one) > int(other)


def _without_managed_fields(manifest: Manifest) -> Manifest:
    metadata = dict(manifest["metadata"])
    if "managedFields" not in metadata:
        return manifest
    del metadata["managedFields"]
    return {**manifest, "metadata": metadata}
