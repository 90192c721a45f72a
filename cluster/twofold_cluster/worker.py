"""A worker's entry in the membership: all that a router needs to know of it."""

import enum

import msgspec

from twofold_cluster.identity import Incarnation, Role, WorkerId


class WorkerState(enum.StrEnum):
    """Only a ready worker takes new requests; a draining one finishes what it has.

    One on standby takes no new requests, but the second legs of those whose blocks the prefill
    workers of its revision hold: nobody else can read them.
    """

    READY = "ready"
    STANDBY = "standby"
    DRAINING = "draining"


class Engine(msgspec.Struct, frozen=True):
    """The engine behind a worker. Two workers pair only if ``compatibility`` is equal."""

    version: str
    compatibility: str
    tensor_parallel: int = 1


class Topology(msgspec.Struct, frozen=True):
    node: str = ""
    zone: str = ""


class Load(msgspec.Struct, frozen=True):
    """What a worker is busy with now.

    ``kv_used_fraction`` is of ``Worker.kv_capacity_tokens``. ``seconds_per_prefill_token`` is the
    median over the last prefills, None until there was one.
    """

    running_count: int = 0
    waiting_count: int = 0
    unprefilled_count: int = 0
    kv_used_fraction: float = 0.0
    seconds_per_prefill_token: float | None = None


class Worker(msgspec.Struct, frozen=True, kw_only=True, tag="worker"):
    """One worker as it announces itself; replaced as a whole at every change."""

    worker_id: WorkerId
    incarnation: Incarnation
    service: str
    role: Role
    revision: str
    address: str
    """Base URL of the engine's HTTP API, without a slash at the end."""
    model: str
    """The name that clients send."""
    aliases: tuple[str, ...] = ()
    """Further names that clients may send instead. None of them is an adapter's."""
    engine: Engine
    kv_capacity_tokens: int
    kv_block_tokens: int
    max_model_tokens: int
    kv_events: str = ""
    """Endpoint where the engine publishes what its cache holds (ZMQ, PUB); empty: it does not."""
    kv_events_replay: str = ""
    """Endpoint that sends the last of these again (ZMQ, ROUTER); empty: there is none."""
    kv_transfer: str = ""
    """``host:port`` where the engine's first rank tells of its peers and leases (gRPC,
    ``twofold.kvtransfer.v1``), the others at the ports that follow; empty: its connector does not.
    """
    kv_side_channel: str = ""
    """``host:port`` where peers of the same revision ask the engine for prefixes; empty: it lets
    nobody fetch one, and fetches none."""
    adapters: tuple[str, ...] = ()
    """LoRA adapters that are loaded, by the names that clients send as the model."""
    topology: Topology = Topology()
    state: WorkerState = WorkerState.READY
    load: Load = Load()

    @property
    def names(self) -> tuple[str, ...]:
        """Return what clients may send as the model: its names, and those of the adapters."""
        return tuple(dict.fromkeys((self.model, *self.aliases, *self.adapters)))

    @property
    def engine_id(self) -> str:
        """Return what its engine is called among its peers; a restarted one is another peer."""
        return f"{self.worker_id}:{self.incarnation}"


class Gone(msgspec.Struct, frozen=True, kw_only=True, tag="gone"):
    """Said of a worker that has left, or that was seen to be dead."""

    worker_id: WorkerId
    incarnation: Incarnation
