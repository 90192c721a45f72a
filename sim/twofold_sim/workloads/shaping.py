"""Workloads made out of a workload: faster, shorter, fewer."""

from collections.abc import Sequence
from operator import attrgetter
from typing import Literal

import msgspec
from msgspec.structs import replace

from twofold_sim.workloads.errors import WorkloadError
from twofold_sim.workloads.prompt import BLOCK_TOKENS, Prompt

OnLong = Literal["truncate", "drop"]
"""What becomes of a prompt that is too long: DualMap's paper truncates, its artifact drops."""


class LongPrompts(msgspec.Struct, frozen=True, kw_only=True):
    """How many prompts of a workload are longer than they may be: it is not run as it is."""

    count: int
    total: int
    """Prompts of the workload."""
    most_tokens: int
    """That a prompt may have."""
    on_long: OnLong

    @property
    def share(self) -> float:
        return self.count / self.total

    def __str__(self) -> str:
        fate = "left out" if self.on_long == "drop" else "cut to that"
        return (
            f"{self.count:,} of {self.total:,} prompts ({self.share:.1%}) have more than "
            f"{self.most_tokens:,} tokens and are {fate}"
        )


def from_zero(prompts: Sequence[Prompt]) -> list[Prompt]:
    """Put *prompts* in order of their arrivals, the first at 0."""
    in_order = sorted(prompts, key=attrgetter("at"))
    if not in_order or in_order[0].at == 0.0:
        return in_order
    start = in_order[0].at
    return [replace(prompt, at=prompt.at - start) for prompt in in_order]


def at_qps(prompts: Sequence[Prompt], qps: float) -> list[Prompt]:
    """Stretch or shrink the time between *prompts*, which are in order, so that *qps* arrive a
    second on average. Whatever is to be left out has to be left out before.

    Raises:
        WorkloadError: they all arrive at the same moment, or there is only one.
    """
    assert qps > 0, qps
    if not prompts:
        return []
    start = prompts[0].at
    seconds = prompts[-1].at - start
    if not seconds:
        raise WorkloadError(
            f"no rate of {qps:g} a second can be made of arrivals at a single moment, "
            f"{len(prompts)} of them"
        )
    scale = len(prompts) / qps / seconds
    return [replace(prompt, at=(prompt.at - start) * scale) for prompt in prompts]


def no_longer_than(prompts: Sequence[Prompt], tokens: int, on_long: OnLong) -> list[Prompt]:
    """Truncate or drop prompts of more than *tokens*."""
    assert tokens > 0, tokens
    if on_long == "drop":
        return [prompt for prompt in prompts if prompt.prompt_tokens <= tokens]
    return [_truncated(prompt, tokens) for prompt in prompts]


def count_long(prompts: Sequence[Prompt], tokens: int, on_long: OnLong) -> LongPrompts | None:
    """Count those of *prompts* that ``no_longer_than`` truncates or drops; None: none of them."""
    count = sum(prompt.prompt_tokens > tokens for prompt in prompts)
    if not count:
        return None
    return LongPrompts(count=count, total=len(prompts), most_tokens=tokens, on_long=on_long)


def first(prompts: Sequence[Prompt], count: int | None, *, skip: int = 0) -> list[Prompt]:
    """Take *count* of *prompts* after *skip*, all of them if None; the first of them at 0."""
    return from_zero(prompts[skip:] if count is None else prompts[skip : skip + count])


def qps_of(prompts: Sequence[Prompt]) -> float:
    """Return how many of *prompts*, which are in order, arrive a second on average."""
    seconds = prompts[-1].at - prompts[0].at if prompts else 0.0
    return len(prompts) / seconds if seconds else 0.0


def _truncated(prompt: Prompt, tokens: int) -> Prompt:
    if prompt.prompt_tokens <= tokens:
        return prompt
    block_ids = prompt.block_ids[: -(-tokens // BLOCK_TOKENS)]
    return replace(prompt, prompt_tokens=tokens, block_ids=block_ids)
