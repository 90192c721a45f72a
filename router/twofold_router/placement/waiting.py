"""A request that waits for its prefill."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from twofold_router.placement.interface import PlacementRequest

if TYPE_CHECKING:
    from twofold_router.placement.accounts import Account, Circle


class Waiting:
    """What is known of a waiting request, and where it waits now.

    ``candidates`` are the accounts it may wait at; ``at`` is one of them, or None before the
    choice; ``key`` is what the hashes were computed from, if there were any. ``uncached_tokens``
    and ``seconds`` (of computing them) are those at ``at``, and ``due_at`` is when they are to be
    over there for the first token to come by ``on_time_until``. ``held_tokens`` is the longest
    prefix that a candidate of each circle held at the choice, if the choice has looked.
    """

    __slots__ = (
        "at",
        "candidates",
        "due_at",
        "held_tokens",
        "key",
        "on_time_until",
        "prompt_tokens",
        "request",
        "seconds",
        "serial",
        "uncached_tokens",
    )

    def __init__(
        self, request: PlacementRequest, prompt_tokens: float, slo_seconds: float, serial: int
    ) -> None:
        self.request = request
        self.prompt_tokens = prompt_tokens = max(prompt_tokens, 1.0)
        self.serial = serial
        own = request.ttft_slo_seconds
        self.on_time_until = self.due_at = (
            request.arrived_at
            + (slo_seconds if own is None else own)
            + request.ttft_slo_seconds_per_token * prompt_tokens
        )
        self.at: Account | None = None
        self.candidates: Sequence[Account] = ()
        self.key: bytes | None = None
        self.held_tokens: Mapping[Circle, int] = {}
        self.uncached_tokens = prompt_tokens
        self.seconds = 0.0

    @property
    def gives_up_at(self) -> float:
        """Return when it is refused if it still waits: at its deadline, or when it would be late
        where it is, if it would rather be refused than that."""
        request = self.request
        if not request.refuse_late:
            return request.deadline_at
        return min(request.deadline_at, self.due_at - self.seconds)

    @property
    def block_tokens(self) -> float:
        """Return the tokens of one block of the key."""
        key = self.request.key
        return key.block_bytes * self.prompt_tokens / max(key.size_bytes, 1)
