"""Which decode worker a request goes to.

The cost of a worker is the time that the answer will take there, in seconds:

    time per token in a batch with this request * output tokens expected
    + the transfer (or the computation) of the prompt tokens that it does not hold

So a worker that holds the prefix is preferred by as much as it saves and no more. A worker whose KV
cache would overflow at its peak (``past_future``) comes after all that have room, since it would
preempt a request and compute its prompt again, in the middle of everybody's decoding.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from twofold_cluster.worker import Topology, Worker
from twofold_router.placement.past_future import RunningBatch
from twofold_router.placement.prefill_speed import DEFAULT_SECONDS_PER_TOKEN
from twofold_router.placement.step_times import StepTimes

SAMPLE_LIMIT = 4
"""Candidates that are looked at when the pool is larger: two that the key names, and two random
ones, the better of which is most of what the best of all would be (Mitzenmacher 2001)."""


class DecodeCandidate(Protocol):
    """What must be known of a decode worker."""

    @property
    def worker(self) -> Worker: ...
    @property
    def batch(self) -> RunningBatch:
        """What this router has dispatched to it."""
        ...

    @property
    def step_times(self) -> StepTimes: ...
    @property
    def last_turn(self) -> int:
        """Greater for one that was dispatched to later."""
        ...


@dataclass(frozen=True, slots=True)
class Link:
    """What it takes to move KV cache over one kind of way."""

    latency_seconds: float
    seconds_per_token: float


@dataclass(frozen=True, slots=True)
class TransferCosts:
    """By how far apart two workers are. The defaults are for 128 KiB of KV cache a token, which is
    what a model of 8 billion parameters with grouped queries has in 16 bits."""

    same_node: Link = Link(latency_seconds=0.001, seconds_per_token=6e-6)
    """20 GB/s: shared memory, or a part of NVLink."""
    same_zone: Link = Link(latency_seconds=0.002, seconds_per_token=1.2e-5)
    """11 GB/s: RDMA at 100 Gbit/s."""
    elsewhere: Link = Link(latency_seconds=0.005, seconds_per_token=1e-4)
    """1.3 GB/s: a share of 10 Gbit/s between zones."""

    def link(self, source: Topology, target: Topology) -> Link:
        """Return the link between two workers. A cluster that names no zones is one zone; a node
        without a name is unlike any other."""
        if source.zone != target.zone:
            return self.elsewhere
        return self.same_node if source.node and source.node == target.node else self.same_zone


Member = TypeVar("Member")
Candidate = TypeVar("Candidate", bound=DecodeCandidate)


def sample(
    pool: Sequence[Member], preferred: Sequence[Member], limit: int, rng: random.Random
) -> list[Member]:
    """Return all of *pool* if it is no larger than *limit*; else *limit* of it, *preferred* first.

    *preferred* are distinct members of *pool*; the others are drawn at random without repetition.
    Time and memory are those of *limit*, whatever the size of the pool.
    """
    if len(pool) <= limit:
        return list(pool)
    chosen = list(preferred[:limit])
    # By identity, because members that compare by value are slow to compare and have no hash.
    taken = set(map(id, chosen))
    while len(chosen) < limit:
        # Not rng.sample, which would take a third of the time of the whole choice.
        member = pool[int(rng.random() * len(pool))]
        if id(member) not in taken:
            taken.add(id(member))
            chosen.append(member)
    return chosen


def choose_decode(
    candidates: Sequence[Candidate],
    cached_tokens: Sequence[float],
    prompt_tokens: float,
    output_tokens: float,
    source: Topology | None,
    costs: TransferCosts,
    now: float,
) -> Candidate:
    """Return the candidate of the least cost among those with room, else of the least overflow.

    The clocks of the candidates' batches are brought to *now*. *cached_tokens* says, in the order
    of *candidates*, how much of the prompt each holds. *source* is where the prompt is prefilled;
    None if the chosen worker does that itself. The longest idle of equal candidates wins.
    """
    best: Candidate | None = None
    best_rank = (math.inf, math.inf, 0)
    for candidate, cached in zip(candidates, cached_tokens, strict=True):
        seconds, room_tokens = _with_one_more(candidate, prompt_tokens, now)
        batch = candidate.batch
        overflow_tokens = 0.0
        if batch.peak_bound_with(prompt_tokens, output_tokens) > room_tokens:
            peak_tokens = batch.peak_with(prompt_tokens, output_tokens)
            overflow_tokens = max(0.0, peak_tokens - room_tokens)
        prompt_seconds = _prompt_seconds(prompt_tokens - cached, source, candidate.worker, costs)
        rank = (overflow_tokens, seconds * output_tokens + prompt_seconds, candidate.last_turn)
        if best is None or rank < best_rank:
            best, best_rank = candidate, rank
    assert best is not None, "no candidates"
    return best


def answer_seconds(
    candidate: DecodeCandidate, prompt_tokens: float, output_tokens: float, now: float
) -> float:
    """Predict how long the tokens of an answer take at *candidate*, beside all that decode there.

    The clock of its batch is brought to *now*.
    """
    return _with_one_more(candidate, prompt_tokens, now)[0] * output_tokens


def _with_one_more(
    candidate: DecodeCandidate, prompt_tokens: float, now: float
) -> tuple[float, float]:
    """Return the seconds of a step there with one more prompt of so many tokens, and how many
    tokens there is room for beside those of other routers."""
    worker, batch = candidate.worker, candidate.batch
    load, capacity_tokens = worker.load, worker.kv_capacity_tokens
    seconds, per_sequence, per_context_token = candidate.step_times.trusted(now)
    running, used_tokens = batch.count, batch.context_tokens
    batch.advance(now, seconds + per_sequence * running + per_context_token * used_tokens)

    # What the worker reports beyond our own is other routers'.
    running, used_tokens = batch.count, batch.context_tokens
    reported_running = load.running_count + load.waiting_count
    reported_tokens = load.kv_used_fraction * capacity_tokens
    room_tokens: float = capacity_tokens
    if reported_running > running:
        running = reported_running
    if reported_tokens > used_tokens:
        room_tokens -= reported_tokens - used_tokens
        used_tokens = reported_tokens
    seconds += per_sequence * (running + 1) + per_context_token * (used_tokens + prompt_tokens)
    return seconds, room_tokens


def _prompt_seconds(
    uncached_tokens: float, source: Topology | None, worker: Worker, costs: TransferCosts
) -> float:
    if source is None:
        return uncached_tokens * (
            worker.load.seconds_per_prefill_token or DEFAULT_SECONDS_PER_TOKEN
        )
    link = costs.link(source, worker.topology)
    return link.latency_seconds + uncached_tokens * link.seconds_per_token
