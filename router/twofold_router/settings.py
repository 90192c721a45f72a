"""What a router is told when it starts."""

import math
from dataclasses import dataclass, fields
from typing import Literal

from twofold_cluster.errors import TwofoldError
from twofold_router.placement import POLICIES, PlacementSettings

MIB = 1024 * 1024


class InvalidSettingError(TwofoldError):
    """A setting has a value that the router cannot start with."""


@dataclass(frozen=True, slots=True)
class RouterSettings:
    """All settings of a router.

    Raises:
        InvalidSettingError: one is out of its range; the message names it and its value.
    """

    service: str
    """The service whose workers are followed."""
    redis_url: str = "redis://127.0.0.1:6379"
    host: str = "127.0.0.1"
    """Address to listen on; a pod sets 0.0.0.0."""
    port: int = 8000
    """0 takes a free one."""
    policy: str = "least-loaded"
    disaggregate: bool = True
    on_no_prefill: Literal["aggregate", "fail"] = "aggregate"
    max_queued: int = 1024
    """Requests that may wait for a prefill worker; the next gets a 429."""
    max_unprefilled: int = 4
    """Requests at one prefill worker whose leg 1 is not over."""
    max_attempts: int = 3
    """Workers tried per leg, so that a request that kills engines cannot kill all of them."""
    max_body_bytes: int = 32 * MIB
    """Images travel inside a request; 32 MiB holds several, and 1,000 such requests fit a node."""
    max_answer_bytes: int = 64 * MIB
    """Of an answer that is not streamed, which is held until it is whole; log probabilities of a
    long answer take some MiB."""
    body_timeout_seconds: float = 60.0
    """For the whole request to arrive, so that a slow sender holds no memory for long."""
    request_timeout_seconds: float = 600.0
    """From arrival to the last byte. Long answers take minutes."""
    connect_timeout_seconds: float = 2.0
    """To a worker in the same cluster: two lost SYN packets, then somebody else is asked."""
    leg_1_timeout_seconds: float = 120.0
    """A million tokens at 10,000 tokens a second, and some waiting."""
    release_timeout_seconds: float = 30.0
    """The lease on the blocks ends by itself after this long (kv_lease_duration)."""
    drain_timeout_seconds: float = 20.0
    """For requests in flight at shutdown; below Kubernetes' 30 s until it kills."""
    suspect_seconds: float = 1.0
    """A worker that broke a connection gets nothing new for this long; the membership needs three
    times as long to know."""

    def __post_init__(self) -> None:
        for name in ("service", "redis_url", "host"):
            self._require(name, bool(getattr(self, name)), "not empty")
        self._require("policy", self.policy in POLICIES, f"one of {', '.join(POLICIES)}")
        allowed = ("aggregate", "fail")
        self._require("on_no_prefill", self.on_no_prefill in allowed, f"one of {allowed}")
        self._require("port", 0 <= self.port <= 65535, "from 0 to 65535")
        self._require("max_queued", self.max_queued >= 0, "0 or more")
        for name in ("max_unprefilled", "max_attempts", "max_body_bytes", "max_answer_bytes"):
            self._require(name, getattr(self, name) >= 1, "1 or more")
        for setting in fields(self):
            if setting.name.endswith("_seconds"):
                value = getattr(self, setting.name)
                self._require(setting.name, 0 < value < math.inf, "more than 0, and finite")

    def _require(self, name: str, holds: bool, range_: str) -> None:
        if not holds:
            raise InvalidSettingError(f"{name} is {getattr(self, name)!r}, and must be {range_}")

    def placement(self) -> PlacementSettings:
        return PlacementSettings(
            disaggregate=self.disaggregate,
            on_no_prefill=self.on_no_prefill,
            max_queued=self.max_queued,
            max_unprefilled=self.max_unprefilled,
        )
