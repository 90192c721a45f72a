"""The arithmetic of rate limits: token buckets, each of which is one number.

A bucket holds one minute's worth of its limit and is filled steadily. What is kept is not its
level but its backlog: the seconds until it is full again. Taking adds to the backlog, time takes
from it, and a backlog over a minute is a debt. This is the generic cell rate algorithm in its
leaky-bucket form (ITU-T I.371, Annex A), with the increment 60 / limit and the limit 60 s.

At any moment at most one minute's worth can be had at once, and after that only what time gives
back; a counter that is reset every minute would give twice that around the reset. OpenAI's headers
describe the same bucket (limit 60, remaining 59, reset in 1 s; see "Rate limits" in its guides).
A reservation that is given back after time has filled its bucket again can be had on top of that;
over any time t, what is really used stays within one bucket + t * limit / 60 s, and debts.
"""

from typing import NamedTuple

from twofold_router.access.callers import Limits

WINDOW_SECONDS = 60.0

EPSILON_SECONDS = 1e-6
"""Above the rounding of sums of backlogs: 7 requests a minute are 7, not 6."""


class Backlog(NamedTuple):
    """Seconds until the buckets of one key are full, or a change of that."""

    requests: float = 0.0
    tokens: float = 0.0

    def after(self, seconds: float) -> "Backlog":
        return Backlog(max(0.0, self.requests - seconds), max(0.0, self.tokens - seconds))

    def plus(self, change: "Backlog") -> "Backlog":
        """Return the sum. A bucket that is given more than it lent is full, no more than that."""
        requests, tokens = self.requests + change.requests, self.tokens + change.tokens
        return Backlog(max(0.0, requests), max(0.0, tokens))


def cost_of(limits: Limits, tokens: int) -> Backlog:
    """Return what a request of about *tokens* takes; 0 from a bucket without a limit.

    A request larger than the whole bucket takes a full one: it must be possible, and its real
    count may go into debt afterwards.
    """
    tokens_seconds = _seconds(max(1, tokens), limits.tokens_per_minute)
    return Backlog(_seconds(1, limits.requests_per_minute), min(tokens_seconds, WINDOW_SECONDS))


def correction_of(limits: Limits, reserved_tokens: int, tokens: int) -> Backlog:
    """Return what turns the cost of *reserved_tokens* into that of *tokens*, without a bound."""
    reserved = cost_of(limits, reserved_tokens)
    return Backlog(0.0, _seconds(tokens, limits.tokens_per_minute) - reserved.tokens)


def wait_seconds(backlog: Backlog, cost: Backlog) -> Backlog:
    """Return how long each bucket needs until it can give *cost*; 0 now."""
    return Backlog(
        _wait(backlog.requests, cost.requests),
        _wait(backlog.tokens, cost.tokens),
    )


def remaining(backlog_seconds: float, per_minute: int) -> int:
    """Return the level of a bucket, 0 in debt."""
    level_seconds = WINDOW_SECONDS - backlog_seconds + EPSILON_SECONDS
    return max(0, int(level_seconds * per_minute / WINDOW_SECONDS))


def _seconds(count: int, per_minute: int | None) -> float:
    return 0.0 if per_minute is None else count * WINDOW_SECONDS / per_minute


def _wait(backlog_seconds: float, cost_seconds: float) -> float:
    wait = backlog_seconds + cost_seconds - WINDOW_SECONDS
    # What costs nothing has no limit, and waits for no debt that an earlier limit has left.
    return wait if cost_seconds > 0.0 and wait > EPSILON_SECONDS else 0.0
