"""Requests whose blocks are pulled for another one already, and need not be pulled twice."""

import enum
from collections.abc import Sequence
from dataclasses import dataclass


class Advice(enum.Enum):
    """What a request is to do that would pull blocks."""

    PULL = enum.auto()
    WAIT = enum.auto()
    """For the request ahead: what is pulled for that is cached for both."""
    COMPUTE = enum.auto()
    """It has waited for as long as computing would have taken."""


@dataclass(frozen=True, slots=True)
class _Behind:
    ahead: str
    """The request that is waited for."""
    first: int
    """Of the prompt's blocks, the number of the first that was not here when that began."""
    until: float


class SharedPulls:
    """Knows by name which blocks are pulled for whom, and who waits behind whom.

    A request waits for each one ahead once. Where nothing has come of it, it pulls by itself, and
    so do all the others: one source that has nothing is asked by them at once, not one by one.
    """

    def __init__(self) -> None:
        self._pulled_for: dict[bytes, list[str]] = {}
        """The requests for which each block is pulled, in the order in which they began."""
        self._following: set[str] = set()
        """Those of them that follow a source, which computes the blocks just now."""
        self._behind: dict[str, _Behind] = {}

    def begin(self, request_id: str, names: Sequence[bytes], *, follows: bool) -> None:
        """Note that the blocks of these *names* are pulled for a request from now on."""
        if follows:
            self._following.add(request_id)
        for name in names:
            self._pulled_for.setdefault(name, []).append(request_id)

    def end(self, request_id: str, names: Sequence[bytes]) -> None:
        """Note that they are pulled no more."""
        self._following.discard(request_id)
        for name in names:
            pulled_for = self._pulled_for[name]
            pulled_for.remove(request_id)
            if not pulled_for:
                del self._pulled_for[name]

    def advise(
        self,
        request_id: str,
        name: bytes,
        first: int,
        *,
        follows: bool,
        now: float,
        patience: float,
    ) -> Advice:
        """Advise a request that needs the block of this *name*, the *first* that is not here.

        *patience*: for how many seconds it waits at most, from the first time on.
        """
        # For what is not computed yet only a follower waits.
        ahead = [
            each
            for each in self._pulled_for.get(name, ())
            if follows or each not in self._following
        ]
        if not ahead:
            return Advice.PULL
        known = self._behind.get(request_id)
        if known is None:
            self._behind[request_id] = _Behind(ahead[0], first, now + patience)
            return Advice.WAIT
        if now >= known.until:
            return Advice.COMPUTE
        if known.ahead in ahead:
            return Advice.WAIT
        if first <= known.first:
            return Advice.PULL
        self._behind[request_id] = _Behind(ahead[0], first, known.until)
        return Advice.WAIT

    def forget(self, request_id: str) -> None:
        """Forget a request that waits no more."""
        self._behind.pop(request_id, None)
