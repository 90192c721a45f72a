"""How one engine is started."""

import dataclasses
import secrets
import socket
from dataclasses import dataclass
from typing import Literal

from twofold_cluster.errors import TwofoldError
from twofold_cluster.identity import Incarnation, Role, WorkerId, new_incarnation
from twofold_sim.live.faults import FaultOrder
from twofold_sim.live.gate import NO_LIMITS, GateLimits
from twofold_sim.live.kv_encoding import Encoding
from twofold_sim.profiles import Profile

LoadFailurePolicy = Literal["fail", "recompute"]


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
        if not 0.0 < self.speed < float("inf"):
            raise InvalidEngineError(f"speed must be above 0, not {self.speed}")
        if self.lease_seconds <= 0:
            raise InvalidEngineError(f"lease_seconds must be above 0, not {self.lease_seconds}")
        if self.max_model_tokens < 2:
            raise InvalidEngineError(f"the profile {self.profile.name} holds not even two tokens")

    @property
    def max_model_tokens(self) -> int:
        """Return how long a prompt with its answer may be: no longer than the cache holds."""
        profile = self.profile
        blocks = profile.kv_capacity_tokens // profile.block_tokens
        return min(profile.max_model_tokens, blocks * profile.block_tokens)
