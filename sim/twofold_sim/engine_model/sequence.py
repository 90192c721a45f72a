"""A job in an engine: how far it is, and which blocks it has."""

from collections.abc import Hashable
from enum import Enum, auto

from twofold_sim.engine_model.interface import Job


class State(Enum):
    ARRIVING = auto()
    """Being tokenized; not in the scheduler's queue yet."""
    WAITING = auto()
    FETCHING = auto()
    FETCHED = auto()
    """Waiting as well, but with blocks."""
    PREFILLING = auto()
    DECODING = auto()
    KEPT = auto()
    """Over, but for its blocks."""
    GONE = auto()


class Sequence:
    """A job and its blocks.

    Invariant: it has ``len(shared_ids) + nameless_count`` blocks; while it decodes
    ``nameless_count`` is what it was when it joined, and ``Decoding`` knows what has come since.
    """

    __slots__ = (
        "cached_tokens",
        "computed_tokens",
        "ends_at_step",
        "fetched_tokens",
        "full_blocks",
        "generated_count",
        "is_recomputed",
        "job",
        "joined_at_step",
        "named_blocks",
        "nameless_count",
        "order",
        "shared_ids",
        "slots_at_join",
        "state",
        "target_tokens",
    )

    def __init__(self, job: Job, block_tokens: int) -> None:
        self.job = job
        self.state = State.ARRIVING
        self.order = 0
        """In the batch: who was admitted later is preempted sooner."""
        self.full_blocks = min(len(job.block_ids), job.prompt_tokens // block_tokens)
        self.target_tokens = job.prompt_tokens
        """What a prefill computes: the prompt, and after a preemption what was generated too."""
        self.computed_tokens = 0
        self.generated_count = 0
        """When it joined those that decode, or as it is if it does not decode."""
        self.is_recomputed = False
        self.cached_tokens = 0
        self.fetched_tokens = 0
        self.shared_ids: list[Hashable] = []
        self.nameless_count = 0
        self.named_blocks = 0
        """Of its full blocks those that were found or computed, so that they are in the cache."""
        self.joined_at_step = 0
        self.ends_at_step = 0
        self.slots_at_join = 0

    @property
    def block_count(self) -> int:
        return len(self.shared_ids) + self.nameless_count
