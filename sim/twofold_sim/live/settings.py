"""How one engine is started."""

import dataclasses
import secrets
import socket
from dataclasses import dataclass
from typing import Literal

from redis.asyncio.connection import parse_url

from twofold_cluster.errors import TwofoldError
from twofold_cluster.identity import Incarnation, Role, WorkerId, new_incarnation
from twofold_sim.live.faults import FaultOrder
from twofold_sim.live.gate import NO_LIMITS, GateLimits
from twofold_sim.live.kv_encoding import Encoding
from twofold_sim.profiles import Profile

LoadFailurePolicy = Literal["fail", "recompute"]

MOST_SECONDS = 86_400.0
"""Of a lease, and for the answers under way at the end: every wait has a bound."""

MOST_SPEED = 1e6
MOST_BUFFERED = 10_000_000
LAST_PORT = 65_535


class InvalidEngineError(TwofoldError):
    """An engine cannot be started so; the message names the setting."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KvEventSettings:
    """Where an engine publishes what its cache holds."""

    endpoint: str = "tcp://127.0.0.1:0"
    replay_endpoint: str = "tcp://127.0.0.1:0"
    topic: str = ""
    encoding: Encoding = "map"
    buffer_count: int = 10_000
    """Batches that can be replayed; vLLM's default."""

    def __post_init__(self) -> None:
        if not 1 <= self.buffer_count <= MOST_BUFFERED:
            raise InvalidEngineError(
                f"kv_events_buffer must be 1 to {MOST_BUFFERED}, not {self.buffer_count}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class MembershipSettings:
    """As what the engine is announced to a cluster."""

    worker_id: WorkerId
    service: str = "local"
    incarnation: Incarnation = dataclasses.field(default_factory=new_incarnation)
    revision: str = "1"
    redis: str | None = None
    """URL; None: it plays a worker that nobody is told of."""
    node: str = dataclasses.field(default_factory=socket.gethostname)
    zone: str = ""
    standby: bool = False
    """It takes no new requests until told otherwise."""

    def __post_init__(self) -> None:
        if self.redis is None:
            return
        try:
            parse_url(self.redis)
        except ValueError as error:
            # The URL may hold a password.
            raise InvalidEngineError(f"redis must be the URL of a Redis: {error}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """One engine of a process."""

    profile: Profile
    model: str
    """The name that clients send."""
    adapters: tuple[str, ...] = ()
    """Further names, each an adapter with blocks of its own; more can be loaded later."""
    role: Role = Role.BOTH
    """It serves all requests whatever it is: the role decides when it refuses, and is announced."""
    host: str = "127.0.0.1"
    """Where it listens, and where others find its side channel."""
    port: int = 0
    side_channel_port: int = 0
    engine_id: str = dataclasses.field(default_factory=lambda: secrets.token_hex(16))
    """Another one in each life."""
    speed: float = 1.0
    """How many seconds of its own pass in a real one."""
    lease_seconds: float = 30.0
    """How long blocks are kept that nobody asks for; vLLM's default, in real seconds."""
    on_load_failure: LoadFailurePolicy = "fail"
    """What becomes of a request whose blocks cannot be fetched; vLLM's default."""
    limits: GateLimits = NO_LIMITS
    kv_events: KvEventSettings | None = None
    faults: tuple[FaultOrder, ...] = ()
    seed: int = 0
    """Of what is left to chance: which requests a fault strikes. The answers do not depend on
    it."""
    drain_seconds: float = 10.0
    """For answers under way when the process is told to end."""
    membership: MembershipSettings | None = None

    def __post_init__(self) -> None:
        # So said that whatever is no number is refused as well.
        if not 1 / MOST_SPEED <= self.speed <= MOST_SPEED:
            raise InvalidEngineError(
                f"speed must be above 0, {1 / MOST_SPEED:g} to {MOST_SPEED:g}, not {self.speed}"
            )
        if not 0.0 < self.lease_seconds <= MOST_SECONDS:
            raise InvalidEngineError(
                f"lease_seconds must be above 0 and at most {MOST_SECONDS:g}, "
                f"not {self.lease_seconds}"
            )
        if not 0.0 <= self.drain_seconds <= MOST_SECONDS:
            raise InvalidEngineError(
                f"drain_seconds must be 0 to {MOST_SECONDS:g}, not {self.drain_seconds}"
            )
        for name, port in (("port", self.port), ("side_channel_port", self.side_channel_port)):
            if not 0 <= port <= LAST_PORT:
                raise InvalidEngineError(f"{name} must be 0 to {LAST_PORT}, not {port}")
        for name in ("max_unprefilled", "max_in_flight"):
            limit = getattr(self.limits, name)
            if limit is not None and limit < 0:
                raise InvalidEngineError(f"{name} must not be negative, and is {limit}")
        try:
            named = self.host.encode("idna")
        except UnicodeError as error:
            raise InvalidEngineError(f"host is no name of a machine: {error}") from error
        if not named:
            raise InvalidEngineError("host must name an address, and is empty")
        if self.max_model_tokens < 2:
            raise InvalidEngineError(f"the profile {self.profile.name} holds not even two tokens")

    @property
    def max_model_tokens(self) -> int:
        return self.profile.context_tokens
