"""Requests to the Kubernetes API, each bounded in time and in how often it is tried."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import msgspec

from twofold_operator.cluster_api.access import Access
from twofold_operator.cluster_api.errors import (
    ClusterApiError,
    ConflictError,
    ForbiddenError,
    InvalidObjectError,
    NotFoundError,
    UnavailableError,
)
from twofold_operator.cluster_api.kinds import Kind, kind_of, label_selector
from twofold_operator.planning.names import FIELD_MANAGER

Manifest = dict[str, Any]
Counted = Callable[[str, str, int], None]
"""Is told the verb, the resource and the status code of each answer; 0: there was none."""

_APPLY = "application/apply-patch+yaml"  # JSON is YAML
_MERGE = "application/merge-patch+json"
_PAGE_SIZE = 500
_UNAUTHORIZED = 401
_TRY_LATER = (429, 500, 502, 503, 504)
_UNTYPED = "failed to create typed patch object"
"""What is said with 500 of an apply with an unknown field, or a value of another type."""
_ERRORS: Mapping[int, type[ClusterApiError]] = {
    401: ClusterApiError,
    403: ForbiddenError,
    404: NotFoundError,
    409: ConflictError,
    410: ConflictError,
}


@dataclass(frozen=True, slots=True)
class ClientLimits:
    request_seconds: float = 30.0
    """Of one try; the server itself gives up after 60 s."""
    tries: int = 4
    """Of a request that the server could not be asked, or wants to be asked later."""
    backoff_seconds: float = 0.2
    """Before the second try, and twice as long before each further one."""
    max_backoff_seconds: float = 10.0
    """Also of what a Retry-After may ask."""


@asynccontextmanager
async def connect(
    access: Access,
    limits: ClientLimits | None = None,
    counted: Counted = lambda _verb, _resource, _code: None,
) -> "AsyncIterator[ClusterApi]":
    """A client whose connections are closed at the end."""
    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(timeout=timeout, json_serialize=_json) as session:
        yield ClusterApi(session, access, limits or ClientLimits(), counted)


class ClusterApi:
    """The Kubernetes API as far as the operator needs it; all that it applies has one manager."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        access: Access,
        limits: ClientLimits,
        counted: Counted,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._session = session
        self._access = access
        self._limits = limits
        self._counted = counted
        self._sleep = sleep

    async def apply(self, manifest: Mapping[str, Any], subresource: str = "") -> Manifest:
        """Own what *manifest* says, and give up what an earlier apply said and this does not.

        Raises:
            ConflictError: *manifest* names a ``resourceVersion``, and it is not the current one.
        """
        kind, metadata = kind_of(manifest), manifest["metadata"]
        return await self._request(
            "PATCH",
            kind.path(metadata["namespace"], metadata["name"], subresource),
            resource=_with(kind, subresource),
            query={"fieldManager": FIELD_MANAGER, "force": "true"},
            body=manifest,
            content_type=_APPLY,
        )

    async def patch(
        self, kind: Kind, namespace: str, name: str, change: Mapping[str, Any]
    ) -> Manifest:
        """Merge *change*; with a ``resourceVersion`` in its metadata only into that version."""
        return await self._request(
            "PATCH",
            kind.path(namespace, name),
            resource=kind.plural,
            query={"fieldManager": FIELD_MANAGER},
            body=change,
            content_type=_MERGE,
        )

    async def create(self, manifest: Mapping[str, Any]) -> Manifest:
        kind = kind_of(manifest)
        return await self._request(
            "POST",
            kind.path(manifest["metadata"]["namespace"]),
            resource=kind.plural,
            query={"fieldManager": FIELD_MANAGER},
            body=manifest,
        )

    async def replace(self, manifest: Mapping[str, Any]) -> Manifest:
        """Write the whole object; its ``resourceVersion`` must be the current one.

        Raises:
            ConflictError: somebody wrote it meanwhile.
        """
        kind, metadata = kind_of(manifest), manifest["metadata"]
        return await self._request(
            "PUT",
            kind.path(metadata["namespace"], metadata["name"]),
            resource=kind.plural,
            query={"fieldManager": FIELD_MANAGER},
            body=manifest,
        )

    async def get(self, kind: Kind, namespace: str, name: str) -> Manifest:
        return await self._request("GET", kind.path(namespace, name), resource=kind.plural)

    async def delete(self, kind: Kind, namespace: str, name: str, uid: str | None = None) -> None:
        """Delete the object; with *uid* only that one and not its successor of the same name."""
        body: Manifest = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": "Background",
        }
        if uid:
            body["preconditions"] = {"uid": uid}
        path = kind.path(namespace, name)
        await self._request("DELETE", path, resource=kind.plural, body=body)

    async def list_all(self, kind: Kind, namespace: str | None) -> tuple[list[Manifest], str]:
        """Ours among all of *kind*, in pages, and the version of the collection."""
        items: list[Manifest] = []
        query = {"limit": str(_PAGE_SIZE)}
        if selector := label_selector(kind):
            query["labelSelector"] = selector
        while True:
            page = await self._request(
                "GET", kind.path(namespace), resource=kind.plural, query=query, verb="list"
            )
            items += [
                {"apiVersion": kind.api_version, "kind": kind.kind} | item
                for item in page.get("items") or ()
            ]
            metadata = page.get("metadata") or {}
            if not (token := metadata.get("continue")):
                return items, str(metadata.get("resourceVersion", ""))
            query["continue"] = token

    async def serves(self, kind: Kind) -> bool:
        """Whether the cluster has the API of *kind* at this moment."""
        root = f"/apis/{kind.group}" if kind.group else "/api"
        try:
            found = await self._request("GET", f"{root}/{kind.version}", resource="discovery")
        except NotFoundError:
            return False
        return any(one.get("name") == kind.plural for one in found.get("resources") or ())

    async def _request(
        self,
        method: str,
        path: str,
        *,
        resource: str,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        content_type: str = "application/json",
        verb: str | None = None,
    ) -> Manifest:
        limits = self._limits
        data = None if body is None else msgspec.json.encode(body)
        backoff_seconds = limits.backoff_seconds
        fresh = False
        for tried in range(1, limits.tries + 1):
            last_try = tried == limits.tries
            headers = {"Content-Type": content_type, "Accept": "application/json"}
            headers |= await self._access.headers(fresh=fresh)
            fresh = False
            try:
                async with (
                    asyncio.timeout(limits.request_seconds),
                    self._session.request(
                        method,
                        self._access.server + path,
                        params=query,
                        data=data,
                        headers=headers,
                        ssl=self._access.tls or True,
                    ) as answer,
                ):
                    content = await answer.read()
                    status = answer.status
                    retry_after = answer.headers.get("Retry-After", "")
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                self._counted(verb or method.lower(), resource, 0)
                if last_try:
                    said = str(error) or type(error).__name__
                    raise UnavailableError(f"{method} {path}: {said}") from error
                retry_after = ""
            else:
                self._counted(verb or method.lower(), resource, status)
                if status < 300:
                    return _object(content)
                fresh = status == _UNAUTHORIZED
                failure = _error(status, f"{method} {path}", content)
                if last_try or not (fresh or isinstance(failure, UnavailableError)):
                    raise failure
            asked_seconds = float(retry_after) if retry_after.isdigit() else 0.0
            wait_seconds = max(asked_seconds, backoff_seconds * random.uniform(0.5, 1.0))  # noqa: S311
            await self._sleep(min(wait_seconds, limits.max_backoff_seconds))
            backoff_seconds *= 2
        raise AssertionError("the last try returns or raises")


def _with(kind: Kind, subresource: str) -> str:
    return f"{kind.plural}/{subresource}" if subresource else kind.plural


def _object(content: bytes) -> Manifest:
    decoded: Manifest = msgspec.json.decode(content) if content else {}
    return decoded


def _error(status: int, request: str, content: bytes) -> ClusterApiError:
    try:
        said = str(_object(content).get("message", ""))
    except (msgspec.DecodeError, AttributeError):
        said = content[:200].decode(errors="replace")
    if _UNTYPED in said:
        kind: type[ClusterApiError] = InvalidObjectError
    elif status in _TRY_LATER:
        kind = UnavailableError
    elif 400 <= status < 500:  # a webhook says no with whatever code it likes
        kind = _ERRORS.get(status, InvalidObjectError)
    else:
        kind = ClusterApiError
    return kind(f"{request}: {status} {said}", status)


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
