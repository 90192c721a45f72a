"""Kubernetes events about services and adapters: what a person would want to see."""

import logging
import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from twofold_operator.cluster_api import (
    EVENTS,
    ClusterApi,
    ClusterApiError,
    NotFoundError,
)
from twofold_operator.planning.actions import RecordEvent
from twofold_operator.planning.names import FIELD_MANAGER, cut
from twofold_operator.planning.observed import Manifest

_log = logging.getLogger(__name__)

_MAX_REMEMBERED = 1024
_MAX_MESSAGE = 1024
"""The API server takes no longer one."""


@dataclass(frozen=True, slots=True)
class _Recorded:
    name: str
    count: int
    at: float


class EventRecorder:
    """Writes events; the same one again within ten minutes only raises the first one's count.

    An event that cannot be written is logged and lost: nothing is decided by it.
    """

    def __init__(
        self,
        api: ClusterApi,
        reporter: str,
        monotonic: Callable[[], float],
        same_within_seconds: float = 600.0,
    ) -> None:
        self._api = api
        self._reporter = reporter
        self._monotonic = monotonic
        self._same_within_seconds = same_within_seconds
        self._recorded: OrderedDict[tuple[str, str, RecordEvent], _Recorded] = OrderedDict()

    async def record(self, subject: Manifest, event: RecordEvent) -> None:
        """Write *event* about *subject*."""
        event = replace(event, message=event.message[:_MAX_MESSAGE])
        metadata = subject["metadata"]
        key = metadata["namespace"], metadata["name"], event
        known = self._recorded.get(key)
        now = self._monotonic()
        if known is not None and now - known.at > self._same_within_seconds:
            known = None
        try:
            recorded = await self._write(subject, event, known)
        except ClusterApiError as error:
            extra = {"subject": metadata["name"], "reason": event.reason, "said": str(error)}
            _log.warning("cannot record an event", extra=extra)
            return
        self._recorded[key] = replace(recorded, at=now)
        self._recorded.move_to_end(key)
        while len(self._recorded) > _MAX_REMEMBERED:
            self._recorded.popitem(last=False)

    async def _write(
        self, subject: Manifest, event: RecordEvent, known: _Recorded | None
    ) -> _Recorded:
        metadata = subject["metadata"]
        at = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        if known is not None:
            change = {"count": known.count + 1, "lastTimestamp": at}
            try:
                await self._api.patch(EVENTS, metadata["namespace"], known.name, change)
            except NotFoundError:
                pass  # events live for an hour
            else:
                return replace(known, count=known.count + 1)
        name = f"{cut(metadata['name'], 200)}.{secrets.token_hex(8)}"
        await self._api.create(self._manifest(subject, event, name, at))
        return _Recorded(name, 1, 0.0)

    def _manifest(self, subject: Manifest, event: RecordEvent, name: str, at: str) -> Manifest:
        metadata = subject["metadata"]
        return {
            "apiVersion": EVENTS.api_version,
            "kind": EVENTS.kind,
            "metadata": {"name": name, "namespace": metadata["namespace"]},
            "involvedObject": {
                "apiVersion": subject["apiVersion"],
                "kind": subject["kind"],
                "namespace": metadata["namespace"],
                "name": metadata["name"],
                "uid": metadata.get("uid", ""),
                "resourceVersion": metadata.get("resourceVersion", ""),
            },
            "type": event.type,
            "reason": event.reason,
            "message": event.message,
            "firstTimestamp": at,
            "lastTimestamp": at,
            "count": 1,
            "source": {"component": FIELD_MANAGER},
            "reportingComponent": FIELD_MANAGER,
            "reportingInstance": self._reporter[:128],
        }
