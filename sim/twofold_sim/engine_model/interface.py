"""What an engine model is told and what it tells. Pure: the clock is an argument."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol


@dataclass(slots=True)
class Job:
    """One request, as an engine sees it."""

    job_id: str
    block_ids: Sequence[Hashable]
    """One for each full block of the prompt, of the profile's block size; each stands for its block
    and all before it."""
    prompt_tokens: int
    output_tokens: int
    """It generates exactly so many; the first comes with the end of the prefill."""
    fetched_tokens: int = 0
    """Leg 2: of so many tokens at the prompt's beginning the blocks are pulled from another engine,
    but for those that are cached here. The last token is always computed."""
    keeps_blocks: bool = False
    """Leg 1: when it has ended its blocks stay lent until ``release``."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a job."""

    at: float
    job_id: str
    kind: Literal["first-token", "tokens", "finished", "preempted"]
    """``first-token`` and ``tokens`` come before ``finished``, at the same moment if need be.
    ``tokens`` comes only when the model was asked to tell of each token."""
    token_count: int = 0
    """Generated so far, the first token included."""
    cached_tokens: int = 0
    """Of the prompt, found in this engine's own prefix cache; with ``first-token``."""
    fetched_tokens: int = 0
    """Of the prompt, pulled from another engine; with ``first-token``."""


@dataclass(frozen=True, slots=True)
class BlocksStored:
    """Blocks that the prefix cache has from now on, in order, each the child of the one before."""

    block_ids: tuple[Hashable, ...]
    parent_id: Hashable | None


@dataclass(frozen=True, slots=True)
class BlocksRemoved:
    block_ids: tuple[Hashable, ...]


BlocksEvent = BlocksStored | BlocksRemoved


@dataclass(frozen=True, slots=True)
class EngineCounts:
    """What an engine's metrics say."""

    running: int
    waiting: int
    kv_used_fraction: float
    """Of the blocks, those that are lent to running, fetching and kept jobs."""
    preemptions: int
    """Ever, as the next four."""
    prompt_tokens: int
    generated_tokens: int
    prefix_queries: int
    """In tokens, as vLLM counts them."""
    prefix_hits: int


class EngineModel(Protocol):
    """One engine with continuous batching, chunked prefill, a paged KV cache with a prefix cache
    (least recently used block first out, only those lent to nobody), and preemption by
    recomputing when the blocks are all lent.

    Implemented by ``twofold_sim.engine_model.BatchingEngine(profile, *, tells_each_token=False,
    on_blocks=None)``. Without ``tells_each_token`` it takes as many steps at once as nothing
    changes in between, so that the cost of a job does not grow with its tokens.
    """

    def add(self, job: Job, now: float) -> None:
        """Queue *job*. Its id must be new.

        Raises:
            JobTooLargeError: it never fits.
        """
        ...

    def abort(self, job_id: str, now: float) -> None:
        """Forget a job, whatever its state; nothing happens if it is not known."""
        ...

    def release(self, job_id: str, now: float) -> None:
        """Give back the blocks that a finished job kept; nothing happens if it is not known."""
        ...

    def next_at(self) -> float | None:
        """Return when something happens next if nobody calls; None if nothing does."""
        ...

    def advance(self, now: float) -> list[Event]:
        """Let the time pass until *now*, and return what happened, in order."""
        ...

    def counts(self) -> EngineCounts: ...
