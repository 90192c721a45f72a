"""An API server in memory: kmock's, with what an operator needs of a real one beside.

kmock serves HTTP and discovery and records requests. Its own objects have no versions, no
server-side apply, no preconditions and no status apart, so they are kept here.
"""

import asyncio
import copy
import threading
import uuid
from collections.abc import AsyncIterator
from concurrent.futures import Future
from datetime import UTC, datetime
from typing import Any, Self, TypeAlias

import aiohttp.web
import attrs
import kmock
import msgspec

from twofold_operator.cluster_api import LEASES, WATCHED, Kind
from twofold_operator.cluster_api.kinds import EVENTS

Manifest = dict[str, Any]
Place = tuple[str, str, str]
"""Plural, namespace and name."""
Queue: TypeAlias = "asyncio.Queue[tuple[str, Manifest, Kind] | None]"
"""Of what a watch tells; None: it may have ended."""

START_SECONDS = 60.0
_APPLY = "application/apply-patch+yaml"
_FORBIDDEN = b'{"type": "ERROR", "object": {"kind": "Status", "code": 403}}\n'
_VERBS = {"create", "delete", "get", "list", "patch", "update", "watch"}
_CLUSTER_WIDE = (("", "namespaces"), ("apiextensions.k8s.io", "customresourcedefinitions"))
"""kopf looks for these, and asks nothing of them."""
_KINDS = {(kind.group, kind.plural): kind for kind in (*WATCHED, LEASES, EVENTS)}


class Refused(Exception):  # noqa: N818
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@attrs.define(kw_only=True, eq=False)
class Emulator(kmock.KubernetesScaffold):
    """Objects with versions, and watches of them. All of it lives in one event loop."""

    _kept: dict[Place, Manifest] = attrs.field(factory=dict, init=False)
    _applied: dict[Place, Manifest] = attrs.field(factory=dict, init=False)
    _version: int = attrs.field(default=1, init=False)
    _watchers: set[Queue] = attrs.field(factory=set, init=False)
    _forbidden: set[str] = attrs.field(factory=set, init=False)
    is_mute: bool = attrs.field(default=False, init=False)
    """The operator's watches stay open, and tell nothing; others' go on."""
    asked: list[tuple[str, str, str]] = attrs.field(factory=list, init=False)
    """Group, resource and verb of each request, as a role would have to allow it."""

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        for kind in _KINDS.values():
            key = kmock.resource(kind.group, kind.version, kind.plural)
            self.resources[key] = self.ResourceInfo(
                kind=kind.kind, singular=kind.kind.lower(), namespaced=True, verbs=_VERBS
            )
        for group, plural in _CLUSTER_WIDE:
            info = self.ResourceInfo(kind=plural, singular=plural, namespaced=False, verbs=_VERBS)
            self.resources[kmock.resource(group, "v1", plural)] = info

    async def _handle(self, request: Any) -> aiohttp.web.StreamResponse:
        found = request.resource
        kind = _KINDS.get((found.group, found.plural)) if found is not None else None
        if kind is None:
            response: aiohttp.web.StreamResponse = await super()._handle(request)
            return response
        try:
            if self._is_forbidden(request):
                raise Refused(403, f"{kind.plural} is forbidden in {request.namespace}")
            if request.params.get("watch"):
                self._note(kind, request, "watch")
                return await self._watch(request, kind)
            status, body = self._answer(request, kind)
        except Refused as error:
            status, body = error.status, {"kind": "Status", "message": str(error)}
        return aiohttp.web.Response(
            status=status, body=msgspec.json.encode(body), content_type="application/json"
        )

    def forbid(self, *namespaces: str) -> None:
        """Take the operator's rights in these namespaces and in no others.

        Its watches end there by an error that ends kopf at once. A real server refuses the next
        ones instead, which ends kopf after a minute.
        """
        self._forbidden = set(namespaces)
        for watcher in self._watchers:
            watcher.put_nowait(None)

    def _is_forbidden(self, request: Any) -> bool:
        return request.namespace in self._forbidden and _is_operators(request)

    def _answer(self, request: Any, kind: Kind) -> tuple[int, Manifest]:
        method = request.method.value
        if method == "GET" and request.name is None:
            self._note(kind, request, "list")
            items = [
                item for item in self._of(kind, request.namespace) if _is_chosen(request, item)
            ]
            metadata = {"resourceVersion": str(self._version)}
            list_kind = {"apiVersion": kind.api_version, "kind": f"{kind.kind}List"}
            return 200, {**list_kind, "metadata": metadata, "items": items}
        if method == "POST":
            self._note(kind, request, "create")
            name = request.data["metadata"]["name"]
            return 201, self._create((kind.plural, request.namespace, name), request.data, kind)
        place = (kind.plural, request.namespace, request.name)
        is_apply = method == "PATCH" and request.headers.get("Content-Type") == _APPLY
        there = self._kept.get(place)
        self._note(kind, request, {"PUT": "update"}.get(method, method.lower()))
        if is_apply and there is None and not request.subresource:
            self._note(kind, request, "create")
            self._applied[place] = request.data
            return 201, self._create(place, request.data, kind)
        if there is None:
            raise Refused(404, f"{kind.plural} {request.name} not found")
        if method == "GET":
            return 200, there
        if method == "DELETE":
            return 200, self._delete(place, request.data or {}, kind)
        changed = copy.deepcopy(there)
        _check_version(there, request.data)
        if is_apply:
            self._apply(place, changed, request.data, request.subresource)
        elif method == "PUT":
            changed = {
                **request.data,
                "metadata": {**there["metadata"], **request.data["metadata"]},
            }
        else:
            change = {"status": request.data["status"]} if request.subresource else request.data
            _merge(changed, change)
        return 200, self._put(place, changed, kind)

    def _create(self, place: Place, manifest: Manifest, kind: Kind) -> Manifest:
        if place in self._kept:
            raise Refused(409, f"{place} exists")
        made = copy.deepcopy(manifest)
        made.pop("status", None)
        now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        made["metadata"] |= {
            "namespace": place[1],
            "uid": str(uuid.uuid4()),
            "creationTimestamp": now,
            "generation": 1,
        }
        return self._publish("ADDED", place, made, kind)

    def _put(self, place: Place, changed: Manifest, kind: Kind) -> Manifest:
        there = self._kept[place]
        for name in ("uid", "creationTimestamp", "resourceVersion", "generation", "namespace"):
            changed["metadata"][name] = there["metadata"][name]
        if changed == there:
            return there
        if changed.get("spec") != there.get("spec"):
            changed["metadata"]["generation"] += 1
        metadata = changed["metadata"]
        if metadata.get("deletionTimestamp") and not metadata.get("finalizers"):
            return self._forget(place, changed, kind)
        return self._publish("MODIFIED", place, changed, kind)

    def _delete(self, place: Place, options: Manifest, kind: Kind) -> Manifest:
        there = self._kept[place]
        uid = options.get("preconditions", {}).get("uid")
        if uid not in (None, there["metadata"]["uid"]):
            raise Refused(409, "another life of it")
        if not there["metadata"].get("finalizers"):
            return self._forget(place, there, kind)
        changed = copy.deepcopy(there)
        now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        changed["metadata"].setdefault("deletionTimestamp", now)
        return self._put(place, changed, kind)

    def _apply(self, place: Place, changed: Manifest, wanted: Manifest, subresource: str) -> None:
        if subresource == "status":
            changed["status"] = wanted["status"]
            return
        before = self._applied.get(place, {})
        _give_up(changed, before, wanted)
        _merge(changed, {key: value for key, value in wanted.items() if key != "status"})
        self._applied[place] = wanted

    def _publish(self, event: str, place: Place, manifest: Manifest, kind: Kind) -> Manifest:
        self._version += 1
        manifest["metadata"]["resourceVersion"] = str(self._version)
        self._kept[place] = manifest
        for watcher in self._watchers:
            watcher.put_nowait((event, manifest, kind))
        return manifest

    def _forget(self, place: Place, manifest: Manifest, kind: Kind) -> Manifest:
        gone = copy.deepcopy(manifest)
        self._publish("DELETED", place, gone, kind)
        del self._kept[place]
        self._applied.pop(place, None)
        return gone

    async def _watch(self, request: Any, kind: Kind) -> aiohttp.web.StreamResponse:
        since = int(request.params.get("resourceVersion") or 0)
        response = aiohttp.web.StreamResponse()
        await response.prepare(request._raw_request)
        queue: Queue = asyncio.Queue()
        for item in self._of(kind, request.namespace):
            if int(item["metadata"]["resourceVersion"]) > since:
                queue.put_nowait(("MODIFIED", item, kind))
        self._watchers.add(queue)
        try:
            async for event in _lines(queue, request, kind):
                if event is None and self._is_forbidden(request):
                    await response.write(_FORBIDDEN)
                    break
                if not (self.is_mute and _is_operators(request)):
                    await response.write(event or b"")
        finally:
            self._watchers.discard(queue)
        return response

    def _of(self, kind: Kind, namespace: str | None) -> list[Manifest]:
        return [
            item
            for (plural, where, _), item in self._kept.items()
            if plural == kind.plural and namespace in (None, where)
        ]

    def _note(self, kind: Kind, request: Any, verb: str) -> None:
        if not _is_operators(request):
            return
        sub = f"/{request.subresource}" if request.subresource else ""
        self.asked.append((kind.group, kind.plural + sub, verb))


def _is_operators(request: Any) -> bool:
    return "twofold-operator" in request.headers.get("Authorization", "")


async def _lines(queue: Queue, request: Any, kind: Kind) -> AsyncIterator[bytes | None]:
    while True:
        told = await queue.get()
        if told is None:
            yield None
            continue
        event, item, of = told
        is_here = request.namespace in (None, item["metadata"]["namespace"])
        if of == kind and is_here and _is_chosen(request, item):
            yield msgspec.json.encode({"type": event, "object": item}) + b"\n"


def _is_chosen(request: Any, item: Manifest) -> bool:
    labels = item["metadata"].get("labels") or {}
    wanted = request.params.get("labelSelector") or ""
    pairs = (pair.split("=", 1) for pair in wanted.split(",") if pair)
    return all(labels.get(key) == value for key, value in pairs)


def _check_version(there: Manifest, wanted: Manifest) -> None:
    told = wanted.get("metadata", {})
    for name in ("resourceVersion", "uid"):
        if told.get(name) not in (None, there["metadata"][name]):
            raise Refused(409, f"{name} is {there['metadata'][name]}")


def _merge(target: Manifest, change: Manifest) -> None:
    for key, value in change.items():
        if value is None:
            target.pop(key, None)
        elif isinstance(value, dict) and isinstance(target.get(key), dict):
            _merge(target[key], value)
        else:
            target[key] = copy.deepcopy(value)


def _give_up(target: Manifest, before: Manifest, wanted: Manifest) -> None:
    """Remove what was applied before and is not any more."""
    for key, value in before.items():
        if key not in wanted:
            target.pop(key, None)
        elif isinstance(value, dict) and isinstance(wanted[key], dict):
            _give_up(target.get(key) or {}, value, wanted[key])


class EmulatedServer:
    """An emulator in a thread of its own."""

    def __init__(self) -> None:
        self.emulator = Emulator()
        self._url: Future[str] = Future()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ends: asyncio.Event | None = None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))

    def __enter__(self) -> Self:
        self._thread.start()
        self._url.result(START_SECONDS)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._loop is not None
        assert self._ends is not None
        self._loop.call_soon_threadsafe(self._ends.set)
        self._thread.join()

    @property
    def url(self) -> str:
        return self._url.result(START_SECONDS)

    def forbid(self, *namespaces: str) -> None:
        """As :meth:`Emulator.forbid`, from another thread."""
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self.emulator.forbid, *namespaces)

    async def _serve(self) -> None:
        self._loop, self._ends = asyncio.get_running_loop(), asyncio.Event()

        async def handle(request: aiohttp.web.BaseRequest) -> aiohttp.web.StreamResponse:
            return await self.emulator(request)

        runner = aiohttp.web.ServerRunner(aiohttp.web.Server(handle), shutdown_timeout=0.1)
        await runner.setup()
        try:
            await aiohttp.web.TCPSite(runner, "127.0.0.1", 0).start()
            self._url.set_result(f"http://127.0.0.1:{runner.addresses[0][1]}")
            await self._ends.wait()
        finally:
            await runner.cleanup()
