"""What a placement is told, and what it decides.

A placement is a state machine. Each method reports one event and returns the decisions that follow
from it, also those about other requests that were waiting. It never looks at a clock: ``now`` is
in seconds, of any clock that does not go backwards, so a simulator drives the same code.

The values are msgspec Structs because they also travel between the processes of one router.
"""

import enum
from collections.abc import Iterable
from typing import Literal, Protocol

import msgspec

from twofold_cluster.errors import Fault
from twofold_cluster.identity import Incarnation, WorkerId
from twofold_cluster.kv_events import KvEvent
from twofold_cluster.legs import PrefixSource
from twofold_cluster.prompt_key import PromptKey
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
    DECODE_REFUSED = "decode-refused"
    TRANSFER_FAILED = "transfer-failed"
    STREAM_CUT = "stream-cut"


class PlacementSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What every policy is bound by."""

    disaggregate: bool = True
    """False: every request is served by one worker, by choice."""
    on_no_prefill: Literal["aggregate", "fail"] = "aggregate"
    """Whether a decode worker prefills when no prefill worker does."""
    max_queued: int = 1024
    """Requests that may wait; more would only wait longer than their clients do."""
    max_unprefilled_tokens: int = 4096
    """Tokens at one worker that are dispatched and not prefilled: about what fills an engine's
    next two steps, so that it never idles for us. One request may be longer."""
    min_uncached_tokens: int = 0
    """With fewer uncached tokens on a decode worker than this, it prefills them itself: a leg 1
    and a transfer would cost more than they save."""
    ttft_slo_seconds: float = 5.0
    """What a policy calls overloaded is more work than this; a request may carry its own."""
    overtaking_share: float = 1 / 16
    """Part of a worker's time that goes to the longest waiting when others are more urgent."""
    overtaken_seconds: float = 30.0
    """Waiting time after which a request has a claim on that part."""
    prefix_pull: bool = True
    """Name a candidate that holds more of a prompt than the one that computes it, so that this one
    may fetch the prefix. Only workers with a side channel can."""
    seed: int = 0
    """Of the ties that chance breaks."""


class PlacementRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request to be placed, for the first time or again."""

    request_id: str
    model: str
    key: PromptKey
    separable: bool
    """False: one worker must serve it."""
    arrived_at: float
    """Seconds on the clock that ``now`` is of."""
    deadline_at: float
    """Seconds on the same clock; waiting longer than this is of no use to the client."""
    max_output_tokens: int | None = None
    tenant: str = ""
    priority: int = 0
    """Larger is more important."""
    ttft_slo_seconds: float | None = None
    """From arrival to the first token; None: the settings'."""
    ttft_slo_seconds_per_token: float = 0.0
    """Added for each token of the prompt, so that long ones are not the ones always put off."""
    refuse_late: bool = False
    """Refuse the request as soon as it cannot be on time, rather than serve it late."""
    avoid: frozenset[WorkerId] = frozenset()
    """Workers that have failed it already."""
    cause: Reason | None = None
    """Why it is placed again: its reason if it has to fall back now. None at the first time."""


class Dispatch(msgspec.Struct, frozen=True, kw_only=True):
    """Send the request now. ``prefill`` is None in all modes but ``disaggregated``."""

    request_id: str
    prefill: Worker | None
    decode: Worker
    mode: Mode
    reason: Reason | None = None
    prompt_tokens: float = 0.0
    """Predicted, like the two below."""
    cached_tokens: float = 0.0
    """Where the prompt is computed."""
    ttft_seconds: float = 0.0
    """From the moment of the decision, the next."""
    decided_at: float = 0.0
    prefix_source: PrefixSource | None = None
    """Who has more of the prompt than ``prefill``."""


class Refuse(msgspec.Struct, frozen=True):
    """Answer the request with *fault*. It is not waiting any more, and holds nothing."""

    request_id: str
    fault: Fault
    message: str
    retry_after_seconds: int | None = None


Decision = Dispatch | Refuse


class PromptUsage(msgspec.Struct, frozen=True):
    """What an engine says of a prompt it has computed, in tokens."""

    prompt_tokens: int
    cached_tokens: int | None = None
    """None: the engine does not tell. Those fetched from another worker are among them."""
    pulled_tokens: int = 0
    """Fetched from the source that the dispatch named."""
    pulled_seconds: float = 0.0
    """What that took."""


class Outcome(msgspec.Struct, frozen=True):
    """What an answer that came to its end has told."""

    output_tokens: int
    decode_seconds: float | None = None
    """From the first to the last of them, where they came one by one."""
    ttft_seconds: float | None = None
    """From the decision to the first of them, likewise."""
    usage: PromptUsage | None = None
    """If the engine told at the end only."""


BlocksChange = list[KvEvent] | Literal["lost", "restarted"]
"""Events in order; or some were lost; or the engine began anew with an empty cache."""


class WorkerCounts(msgspec.Struct, frozen=True, kw_only=True):
    """What one worker has of ours now."""

    worker_id: WorkerId
    queued: int
    """Requests, as the two below."""
    unprefilled: int
    decoding: int
    pending_tokens: float
    """Uncached tokens that wait for the worker or are being computed by it."""
    mirrored_blocks: int
    mirror_is: Literal["exact", "approximate", "degraded"]


class PlacementSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """The counts of all owners at one moment."""

    queued: int
    """Requests, as the next."""
    in_flight: int
    moved: int
    """Waiting requests that changed their worker, ever."""
    workers: tuple[WorkerCounts, ...]


class Placement(Protocol):
    """Decides once about each submitted request, unless it is withdrawn first.

    A dispatched request holds counts until ``finished``; it may then be submitted again.
    Asking about a request that is not known is a bug of the caller, and crashes.
    """

    def workers_changed(self, workers: Iterable[Worker], now: float) -> list[Decision]:
        """Take *workers* as they are now; the others are as they were. What an earlier
        incarnation held is gone; its requests are still to be finished."""
        ...

    def workers_gone(self, worker_ids: Iterable[WorkerId], now: float) -> list[Decision]:
        """Forget workers. Those that are not known do not matter."""
        ...

    def submit(self, request: PlacementRequest, now: float) -> list[Decision]:
        """Decide about *request*, now or later."""
        ...

    def prefilled(self, request_id: str, usage: PromptUsage | None, now: float) -> list[Decision]:
        """Take note that the prompt of a dispatched request is computed: the worker that did it
        has room again. Without *usage* nobody told how long it was."""
        ...

    def move_decode(
        self, request_id: str, avoid: frozenset[WorkerId], now: float
    ) -> tuple[Worker | None, list[Decision]]:
        """Give a dispatched request another decode worker that can use what leg 1 computed.

        The worker is None, and nothing has changed, if there is none outside *avoid*.
        """
        ...

    def finished(self, request_id: str, outcome: Outcome | None, now: float) -> list[Decision]:
        """Take back all that a dispatched request holds; *outcome* if its answer is whole."""
        ...

    def withdraw(self, request_id: str, now: float) -> list[Decision]:
        """Forget a waiting request: its client has left."""
        ...

    def tick(self, now: float) -> list[Decision]:
        """Do what time alone demands. To be called every now and then, say ten times a second."""
        ...

    def blocks_changed(
        self,
        worker_id: WorkerId,
        incarnation: Incarnation,
        change: BlocksChange,
    ) -> None:
        """Take in what an engine says of its cache."""
        ...

    def snapshot(self) -> PlacementSnapshot: ...
