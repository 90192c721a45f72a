"""What the processes of one router tell each other.

A stream keeps its order, which several messages rely on: a worker is told of before a decision
names it, so decisions name workers by their ids alone.
"""

import msgspec

from twofold_cluster.errors import Fault
from twofold_cluster.identity import Incarnation, WorkerId
from twofold_cluster.legs import PrefixSource
from twofold_cluster.worker import Worker
from twofold_router.access import Admission, Limits
from twofold_router.placement import (
    Mode,
    Outcome,
    PlacementRequest,
    PromptUsage,
    Reason,
    Refuse,
)
from twofold_router.tallies import Tallies


class Message(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """The root of all messages. A ``question`` is a number that its answer repeats."""


# From a gateway process to the placement process.


class Submit(Message, frozen=True):
    request: PlacementRequest


class Cancel(Message, frozen=True):
    """Forget a request that waits, or give back its place: the decision may be under way."""

    request_id: str


class PromptComputed(Message, frozen=True):
    request_id: str
    usage: PromptUsage | None


class MoveDecode(Message, frozen=True):
    """Answered by ``DecodeMoved``."""

    request_id: str
    avoid: frozenset[WorkerId]


class Finish(Message, frozen=True):
    request_id: str
    outcome: Outcome | None


class Suspect(Message, frozen=True):
    """A worker cannot be reached. The placement process tells the others."""

    worker_id: WorkerId
    incarnation: Incarnation


class Admit(Message, frozen=True):
    """Answered by ``Admitted`` or ``Denied``."""

    question: int
    name: str
    limits: Limits
    tokens: int


class Settle(Message, frozen=True):
    admission: Admission
    tokens: int


class Report(Message, frozen=True):
    """All that a process has counted since it began, told again and again."""

    tallies: Tallies
    connections: int


class AskMetrics(Message, frozen=True):
    """Answered by ``MetricsText``."""

    question: int


# From the placement process to a gateway process.


class Welcome(Message, frozen=True):
    """The first message."""

    workers: list[Worker]
    is_stale: bool


class WorkersChanged(Message, frozen=True):
    changed: list[Worker]
    gone: list[WorkerId]


class Stale(Message, frozen=True):
    is_stale: bool


class Placed(Message, frozen=True):
    """A ``Dispatch`` with the ids of its workers."""

    request_id: str
    prefill: WorkerId | None
    decode: WorkerId
    mode: Mode
    reason: Reason | None
    prompt_tokens: float
    cached_tokens: float
    ttft_seconds: float
    decided_at: float
    prefix_source: PrefixSource | None


class Refused(Message, frozen=True):
    """A ``Refuse`` with the name of its fault."""

    request_id: str
    fault: str
    message: str
    retry_after_seconds: int | None

    @classmethod
    def of(cls, refusal: Refuse) -> "Refused":
        fault = refusal.fault.name
        return cls(refusal.request_id, fault, refusal.message, refusal.retry_after_seconds)

    def refusal(self) -> Refuse:
        return Refuse(self.request_id, Fault[self.fault], self.message, self.retry_after_seconds)


class DecodeMoved(Message, frozen=True):
    request_id: str
    worker_id: WorkerId | None


class Admitted(Message, frozen=True):
    question: int
    admission: Admission


class Denied(Message, frozen=True):
    """A ``RateLimitedError``, as its client is to see it."""

    question: int
    message: str
    retry_after_seconds: int | None
    headers: list[tuple[bytes, bytes]]


class AskReport(Message, frozen=True):
    """Answered by a ``Report``, at once."""


class MetricsText(Message, frozen=True):
    question: int
    text: bytes


class Drain(Message, frozen=True):
    """End, when what is in flight is done."""
