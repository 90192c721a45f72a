"""What a router is told when it starts."""

import math
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Literal

from twofold_cluster.errors import TwofoldError
from twofold_router.access import Classes, InvalidAccessError, check_exposure, is_origin
from twofold_router.http import ClientLimits, HeaderPairs, ServerLimits
from twofold_router.placement import POLICIES, PlacementSettings
from twofold_router.static_workers import GivenWorker, engine_headers

MIB = 1024 * 1024

BYTES_PER_TOKEN = 4
"""To say the size of a block in tokens; what a token really takes is learned."""


_CHOICES = {
    "on_no_prefill": ("aggregate", "fail"),
    "on_transfer_failure": ("retry", "recompute", "fail"),
}

_MAY_BE_NOTHING = ("drain_delay_seconds",)


class InvalidSettingError(TwofoldError):
    """A setting has a value that the router cannot start with."""


@dataclass(frozen=True, slots=True)
class RouterSettings:
    """All settings of a router.

    Raises:
        InvalidSettingError: one is out of its range; the message names it and its value.
    """

    service: str = ""
    """The service whose workers are followed in Redis; empty: ``workers`` are all there are."""
    workers: tuple[GivenWorker, ...] = ()
    """Roles and addresses of engines that do not announce themselves; none with a service."""
    engine_api_key: str = field(default="", repr=False)
    """What ``workers`` were started with (vLLM's ``--api-key``); empty: nothing."""
    redis_url: str = "redis://127.0.0.1:6379"
    host: str = "127.0.0.1"
    """Address to listen on; empty, as in a pod: all, of IPv4 and IPv6."""
    port: int = 8000
    """0 takes a free one."""
    processes: int = 1
    """Processes that share the port. One more places for them if there are several."""
    policy: str = "twofold"
    disaggregate: bool = True
    on_no_prefill: Literal["aggregate", "fail"] = "aggregate"
    on_transfer_failure: Literal["retry", "recompute", "fail"] = "retry"
    """What to do when the decode worker does not take over what leg 1 has computed. ``retry``: ask
    another one that can read it, if the first has not begun; then compute it again. ``recompute``:
    do that at once. ``fail``: never compute it again."""
    max_queued: int = 1024
    """Requests that may wait for a prefill worker; the next gets a 429."""
    max_unprefilled_tokens: int = 4096
    """Tokens at one prefill worker that are dispatched and not computed."""
    min_uncached_tokens: int = 0
    """A prompt with fewer tokens that are not cached where it is decoded has no leg 1."""
    prefix_pull: bool = True
    """Have a prefill worker fetch a prefix from another that holds it, where both can."""
    follow_tokens: int = 8192
    """From so many tokens to compute on, a decode worker takes blocks while leg 1 runs, where both
    can; 0: never. Fewer are computed in a step or two of an engine."""
    block_tokens: int = 512
    """Of the blocks that prompts are compared by; fewer for models with short contexts."""
    keys_file: Path | None = None
    """API keys; None lets everybody in."""
    insecure: bool = False
    """Lets everybody in even from other machines."""
    allowed_origins: tuple[str, ...] = ()
    """Of the web pages that may ask from a browser, such as "https://chat.example.org"; "*": all.
    Without API keys any page that somebody opens near the router then asks as it likes."""
    classes: Classes = field(default_factory=Classes)
    """What requests are promised, by class."""
    max_attempts: int = 3
    """Workers tried per leg, so that a request that kills engines cannot kill all of them."""
    max_body_bytes: int = 32 * MIB
    """Images travel inside a request; 32 MiB holds several, and 1,000 such requests fit a node."""
    max_answer_bytes: int = 64 * MIB
    """Of an answer that is not streamed, which is held until it is whole; log probabilities of a
    long answer take some MiB."""
    max_kept_bytes: int = MIB
    """Of a stream, to go on with it elsewhere if its worker breaks; about 5,000 tokens."""
    body_timeout_seconds: float = 60.0
    """For the whole request to arrive, so that a slow sender holds no memory for long."""
    request_timeout_seconds: float = 600.0
    """From arrival to the last byte. Long answers take minutes."""
    connect_timeout_seconds: float = 2.0
    """To a worker in the same cluster: two lost SYN packets, then somebody else is asked."""
    leg_1_timeout_seconds: float = 120.0
    """A million tokens at 10,000 tokens a second, and some waiting."""
    first_byte_timeout_seconds: float = 120.0
    """For a stream to begin, beyond what was predicted; then another worker is asked. As long as
    for leg 1, whose work it may include. An answer in one piece begins with its end: each time that
    so long has passed it is seen whether its worker hangs."""
    release_timeout_seconds: float = 30.0
    """The lease on the blocks ends by itself after this long (kv_lease_duration)."""
    drain_timeout_seconds: float = 20.0
    """For requests in flight at shutdown; below Kubernetes' 30 s until it kills."""
    drain_delay_seconds: float = 0.0
    """Before that: how long to serve on as if nothing were, but not ready, since whoever sends
    requests hears later than we that this router ends. Kubernetes takes some seconds."""
    suspect_seconds: float = 1.0
    """A worker that cannot be connected to gets nothing new for this long; those who follow the
    workers take longer to know. One that broke a connection off is only left out by the request
    that it failed, which may be what broke it."""

    def __post_init__(self) -> None:
        if self.workers:
            self._require(
                "service", not self.service, "empty with workers: they are followed without Redis"
            )
        else:
            if self.engine_api_key:
                message = "the engines' API key is for workers that are given, and there are none"
                raise InvalidSettingError(message)
            self._require("service", bool(self.service), "not empty without workers")
            self._require("redis_url", bool(self.redis_url), "not empty")
        self._require("policy", self.policy in POLICIES, f"one of {', '.join(POLICIES)}")
        for name, allowed in _CHOICES.items():
            self._require(name, getattr(self, name) in allowed, f"one of {allowed}")
        self._require("port", 0 <= self.port <= 65535, "from 0 to 65535")
        self._require("processes", 1 <= self.processes <= 64, "from 1 to 64")
        self._require(
            "allowed_origins",
            all(map(is_origin, self.allowed_origins)),
            "origins such as https://chat.example.org, or *",
        )
        for name in ("max_queued", "min_uncached_tokens", "follow_tokens", "max_kept_bytes"):
            self._require(name, getattr(self, name) >= 0, "0 or more")
        for name in (
            *("max_unprefilled_tokens", "block_tokens", "max_attempts"),
            *("max_body_bytes", "max_answer_bytes"),
        ):
            self._require(name, getattr(self, name) >= 1, "1 or more")
        try:
            check_exposure(self.host, self.keys_file, insecure=self.insecure)
        except InvalidAccessError as error:
            raise InvalidSettingError(str(error)) from error
        for setting in fields(self):
            if setting.name.endswith("_seconds"):
                value = getattr(self, setting.name)
                if setting.name in _MAY_BE_NOTHING:
                    self._require(setting.name, 0 <= value < math.inf, "0 or more, and finite")
                else:
                    self._require(setting.name, 0 < value < math.inf, "more than 0, and finite")

    def _require(self, name: str, holds: bool, range_: str) -> None:
        if not holds:
            raise InvalidSettingError(f"{name} is {getattr(self, name)!r}, and must be {range_}")

    @property
    def block_bytes(self) -> int:
        return self.block_tokens * BYTES_PER_TOKEN

    def placement(self) -> PlacementSettings:
        return PlacementSettings(
            disaggregate=self.disaggregate,
            on_no_prefill=self.on_no_prefill,
            max_queued=self.max_queued,
            max_unprefilled_tokens=self.max_unprefilled_tokens,
            min_uncached_tokens=self.min_uncached_tokens,
            prefix_pull=self.prefix_pull,
            ttft_slo_seconds=self.classes["default"].ttft_slo_seconds,
        )

    def server_limits(self) -> ServerLimits:
        return ServerLimits(body_bytes=self.max_body_bytes, body_seconds=self.body_timeout_seconds)

    def engine_headers(self) -> HeaderPairs:
        """Return what each request to an engine carries beside its own headers."""
        return engine_headers(self.engine_api_key)

    def client_limits(self) -> ClientLimits:
        return ClientLimits(connect_seconds=self.connect_timeout_seconds)
