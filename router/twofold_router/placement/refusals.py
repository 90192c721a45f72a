"""The refusals of a placement, in words."""

import math

from twofold_cluster.errors import Fault
from twofold_router.placement.interface import PlacementRequest, Reason, Refuse

RETRY_AFTER_SECONDS = 1
"""When nobody is there: workers come back, or do not, within seconds."""

MAX_RETRY_AFTER_SECONDS = 60
"""A prediction beyond it is none."""


def for_want_of_decode(request: PlacementRequest) -> Refuse:
    message = f"no decode worker is ready for {request.model}"
    return Refuse(request.request_id, Fault.NO_WORKER, message, RETRY_AFTER_SECONDS)


def for_want_of_prefill(request: PlacementRequest) -> Refuse:
    is_busy = request.cause is Reason.PREFILL_REFUSED
    fault = Fault.PREFILL_BUSY if is_busy else Fault.NO_WORKER
    message = f"no prefill worker takes a request for {request.model} now"
    return Refuse(request.request_id, fault, message, RETRY_AFTER_SECONDS)


def for_full_queue(request: PlacementRequest, queued: int, wait_seconds: float) -> Refuse:
    message = f"{queued} requests are waiting already"
    return Refuse(request.request_id, Fault.QUEUE_FULL, message, _retry_after(wait_seconds))


def for_lateness(request: PlacementRequest, wait_seconds: float) -> Refuse:
    message = "no worker can begin to answer in time"
    return Refuse(request.request_id, Fault.QUEUE_FULL, message, _retry_after(wait_seconds))


def for_long_wait(request: PlacementRequest) -> Refuse:
    message = "the request waited too long for a worker"
    return Refuse(request.request_id, Fault.DEADLINE_EXCEEDED, message)


def _retry_after(wait_seconds: float) -> int:
    return min(max(math.ceil(wait_seconds), RETRY_AFTER_SECONDS), MAX_RETRY_AFTER_SECONDS)
