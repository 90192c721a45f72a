"""What a placement is told, and what it decides.

A placement is a state machine. Each method reports one event and returns the decisions that follow
from it, also those about other requests that were waiting. It never looks at a clock: ``now`` is
in seconds, of any clock that does not go backwards, so a simulator drives the same code.
"""

import enum
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, Protocol

from twofold_cluster.errors import Fault
from twofold_cluster.identity import WorkerId
from twofold_cluster.worker import Worker


class Mode(enum.StrEnum):
    """How a request is served."""

    DISAGGREGATED = "disaggregated"
    AGGREGATED = "aggregated"
    FALLBACK = "fallback"


class Reason(enum.StrEnum):
    """Why a request that should have had two legs is served by one worker."""

    NO_PREFILL_WORKER = "no-prefill-worker"
    PREFILL_REFUSED = "prefill-refused"
    PREFILL_FAILED = "prefill-failed"
    INVALID_PARAMS = "invalid-params"
    TRANSFER_FAILED = "transfer-failed"


@dataclass(frozen=True, slots=True)
class PlacementSettings:
    """What every policy is bound by."""

    disaggregate: bool = True
    """False: every request is served by one worker, by choice."""
    on_no_prefill: Literal["aggregate", "fail"] = "aggregate"
    """Whether a decode worker prefills when no prefill worker does."""
    max_queued: int = 1024
    """Requests that may wait; more would only wait longer than their clients do."""
    max_unprefilled: int = 4
    """Requests at one prefill worker whose leg 1 is not over: its engine never idles for us, and
    the rest waits where it can still go elsewhere."""


@dataclass(frozen=True, slots=True)
class PlacementRequest:
    """A request to be placed, for the first time or again."""

    request_id: str
    model: str
    prompt_bytes: int
    """Size of what the client sent; a placement has no tokenizer."""
    separable: bool
    """False: one worker must serve it."""
    arrived_at: float
    """Seconds on the clock that ``now`` is of."""
    deadline_at: float
    """Seconds on the same clock; waiting longer than this is of no use to the client."""
    avoid: frozenset[WorkerId] = frozenset()
    """Workers that have failed it already."""
    cause: Reason | None = None
    """Why it is placed again: its reason if it has to fall back now. None at the first time."""


@dataclass(frozen=True, slots=True)
class Dispatch:
    """Send the request now. ``prefill`` is None in all modes but ``disaggregated``."""

    request_id: str
    prefill: Worker | None
    decode: Worker
    mode: Mode
    reason: Reason | None = None


@dataclass(frozen=True, slots=True)
class Refuse:
    """Answer the request with *fault*. It is not waiting any more, and holds nothing."""

    request_id: str
    fault: Fault
    message: str
    retry_after_seconds: int | None = None


Decision = Dispatch | Refuse


@dataclass(frozen=True, slots=True)
class WorkerCounts:
    """What one worker has of ours now, in requests."""

    worker_id: WorkerId
    unprefilled: int
    decoding: int


@dataclass(frozen=True, slots=True)
class PlacementSnapshot:
    """The counts of all owners at one moment, in requests."""

    queued: int
    in_flight: int
    workers: tuple[WorkerCounts, ...]


class Placement(Protocol):
    """Decides once about each submitted request, unless it is withdrawn first.

    A dispatched request holds counts until ``finished``; it may then be submitted again.
    Asking about a request that is not known is a bug of the caller, and crashes.
    """

    def set_workers(self, workers: Iterable[Worker], now: float) -> list[Decision]:
        """Take *workers* as all there are. What an incarnation that is not among them held is
        gone; its requests are still to be finished."""
        ...

    def submit(self, request: PlacementRequest, now: float) -> list[Decision]:
        """Decide about *request*, now or later."""
        ...

    def prefilled(self, request_id: str, now: float) -> list[Decision]:
        """Take note that leg 1 is over, well or badly: the prefill worker has room again."""
        ...

    def move_decode(self, request_id: str, avoid: frozenset[WorkerId], now: float) -> Worker | None:
        """Give a dispatched request another decode worker that can use what leg 1 computed.

        Returns None, and changes nothing, if there is none outside *avoid*.
        """
        ...

    def finished(self, request_id: str, now: float) -> list[Decision]:
        """Take back all that a dispatched request holds."""
        ...

    def withdraw(self, request_id: str, now: float) -> list[Decision]:
        """Forget a waiting request: its client has left."""
        ...

    def expire(self, now: float) -> list[Decision]:
        """Refuse the waiting requests whose deadline has passed."""
        ...

    def snapshot(self) -> PlacementSnapshot: ...
