"""Limits that one process counts for itself."""

import time
from collections.abc import Callable, Set

from twofold_router.access.buckets import Backlog, correction_of, cost_of, wait_seconds
from twofold_router.access.callers import Limits
from twofold_router.access.limiting import Admission, RateLimitedError


class LocalLimiter:
    """A ``Limiter`` for one process.

    Invariant: every account is of a key that asked, and that the last ``keep_only`` named.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._accounts: dict[str, tuple[Backlog, float]] = {}
        """By the key's name: the backlog, and the time at which it was that."""

    async def admit(self, name: str, limits: Limits, tokens: int) -> Admission:
        """See ``Limiter``. Never waits."""
        backlog, cost = self._backlog(name), cost_of(limits, tokens)
        if any(wait_seconds(backlog, cost)):
            raise RateLimitedError(name, limits, backlog, cost)
        backlog = backlog.plus(cost)
        self.put(name, backlog)
        return Admission(name, limits, tokens, backlog)

    def settle(self, admission: Admission, tokens: int) -> None:
        """See ``Limiter``. A key that has gone meanwhile stays gone."""
        if admission.name in self._accounts:
            correction = correction_of(admission.limits, admission.reserved_tokens, tokens)
            self.put(admission.name, self._backlog(admission.name).plus(correction))

    def put(self, name: str, backlog: Backlog) -> None:
        """Set the backlog of key *name*, as of now."""
        self._accounts[name] = (backlog, self._clock())

    def keep_only(self, names: Set[str]) -> None:
        """Forget all keys but *names*."""
        self._accounts = {name: self._accounts[name] for name in self._accounts.keys() & names}

    def __len__(self) -> int:
        return len(self._accounts)

    def _backlog(self, name: str) -> Backlog:
        account = self._accounts.get(name)
        if account is None:
            return Backlog()
        backlog, at = account
        return backlog.after(self._clock() - at)
