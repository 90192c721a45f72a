"""Whether a key may ask once more, and what it is told about that."""

import math
from dataclasses import dataclass
from typing import Protocol

from twofold_cluster.errors import Fault, RequestError
from twofold_router.access.buckets import Backlog, remaining, wait_seconds
from twofold_router.access.callers import Limits

Headers = list[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Admission:
    """One request that was let in. It is to be settled once, however it ends."""

    name: str
    limits: Limits
    reserved_tokens: int
    backlog: Backlog
    is_shared: bool = False
    """Granted by what all replicas share, not by this one alone."""

    def headers(self) -> Headers:
        """Return the rate-limit headers of the answer."""
        return limit_headers(self.limits, self.backlog)


class Limiter(Protocol):
    """Counts requests and tokens per key. Keys without limits are none of its business."""

    async def admit(self, name: str, limits: Limits, tokens: int) -> Admission:
        """Take one request and about *tokens* (prompt and answer) from the buckets of key *name*.

        Raises:
            RateLimitedError: not both can be had; nothing was taken.
        """
        ...

    def settle(self, admission: Admission, tokens: int) -> None:
        """Replace the reserved tokens by the real count: the rest is given back, or what was used
        beyond is taken, if need be into debt. Call it once per admission."""
        ...


class RateLimitedError(RequestError):
    """A key has used up one of its limits. Its answer takes ``headers`` besides ``Retry-After``."""

    def __init__(self, name: str, limits: Limits, backlog: Backlog, cost: Backlog) -> None:
        wait = wait_seconds(backlog, cost)
        longest = max(wait)
        told = (
            f"{limits.requests_per_minute} requests"
            if wait.requests == longest
            else f"{limits.tokens_per_minute} tokens"
        )
        super().__init__(
            Fault.QUEUE_FULL,
            f"the key {name!r} may have {told} per minute; try again in {longest:.3g} s",
            retry_after_seconds=math.ceil(longest),
        )
        self.headers = limit_headers(limits, backlog)


def limit_headers(limits: Limits, backlog: Backlog) -> Headers:
    """Return OpenAI's headers, for the buckets that have a limit."""
    return [
        *_bucket_headers(b"requests", limits.requests_per_minute, backlog.requests),
        *_bucket_headers(b"tokens", limits.tokens_per_minute, backlog.tokens),
    ]


def _bucket_headers(what: bytes, per_minute: int | None, backlog_seconds: float) -> Headers:
    if per_minute is None:
        return []
    return [
        (b"x-ratelimit-limit-" + what, b"%d" % per_minute),
        (b"x-ratelimit-remaining-" + what, b"%d" % remaining(backlog_seconds, per_minute)),
        (b"x-ratelimit-reset-" + what, _duration(backlog_seconds)),
    ]


def _duration(seconds: float) -> bytes:
    """Write a duration as Go and OpenAI do: ``0s``, ``6ms``, ``1.5s``, ``6m0s``."""
    milliseconds = math.ceil(seconds * 1000)
    if 0 < milliseconds < 1000:
        return b"%dms" % milliseconds
    minutes, rest = divmod(milliseconds, 60_000)
    in_seconds = f"{rest / 1000:g}s".encode()
    return b"%dm%b" % (minutes, in_seconds) if minutes else in_seconds
