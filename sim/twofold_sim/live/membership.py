"""An engine as a worker of a Twofold cluster: announced, drained, given another role.

It speaks as ``twofold_engine`` does: the same entry in Redis, the same paths to steer it.
"""

import asyncio
import contextlib
import hashlib
import statistics
from collections.abc import AsyncIterator

import msgspec

from twofold_cluster.identity import Role
from twofold_cluster.membership import Announcer, connect
from twofold_cluster.worker import Engine, Load, Topology, Worker, WorkerState
from twofold_router.http import Request, Responder
from twofold_sim.live.engine import SimEngine
from twofold_sim.live.errors import BadRequestError
from twofold_sim.live.exchange import JSON
from twofold_sim.live.settings import EngineSettings, MembershipSettings

PREFIX = "/twofold/v1/"

ENGINE_NAME = "sim"
"""A worker's engine says by its version what it is."""

_encode = msgspec.json.Encoder().encode


class _RoleChange(msgspec.Struct):
    role: Role


_decode_role = msgspec.json.Decoder(_RoleChange).decode


class Membership:
    """Owns what is announced of one engine."""

    def __init__(self, engine: SimEngine, place: MembershipSettings, address: str) -> None:
        self._engine = engine
        self._place = place
        self._announcer: Announcer | None = None
        self._worker = _describe(engine, place, address)

    async def run(self) -> None:
        """Announce the worker until cancelled, then withdraw it.

        Raises:
            FencedError: a newer incarnation has taken its id.
        """
        if self._place.redis is None:
            await asyncio.get_running_loop().create_future()
            return
        async with connect(self._place.redis) as redis:
            self._announcer = Announcer(redis, self._worker)
            self._engine.on_change = self._refresh
            await self._announcer.run()

    async def handle(self, request: Request, responder: Responder) -> None:
        """Answer what steers a worker.

        Raises:
            BadRequestError: the role is none.
        """
        verb = request.path.removeprefix(PREFIX)
        if verb == "busy":
            responder.send(200, [JSON], _encode({"busy": self._engine.is_busy}))
            return
        if verb == "drain" and request.method == "POST":
            self._engine.gate.is_closed = True
            self._announce(msgspec.structs.replace(self._worker, state=WorkerState.DRAINING))
        elif verb == "role" and request.method == "POST":
            self._engine.role = _role_of(request.body)
            self._announce(msgspec.structs.replace(self._worker, role=self._engine.role))
        elif verb != "worker":
            responder.send(404, [JSON], _encode({"detail": "Not Found"}))
            return
        self._refresh()
        responder.send(200, [JSON], _encode(self._worker))

    def _refresh(self) -> None:
        self._announce(msgspec.structs.replace(self._worker, load=_load(self._engine)))

    def _announce(self, worker: Worker) -> None:
        self._worker = worker
        if self._announcer is not None:
            self._announcer.update(worker)


@contextlib.asynccontextmanager
async def announced(membership: Membership | None) -> AsyncIterator[None]:
    """Announce the worker for the duration of the block."""
    if membership is None:
        yield
        return
    async with asyncio.TaskGroup() as tasks:
        announcing = tasks.create_task(membership.run())
        try:
            yield
        finally:
            announcing.cancel()


def compatibility(settings: EngineSettings) -> str:
    """Hash what two engines must have in common to lend each other blocks."""
    profile = settings.profile
    facts = f"{ENGINE_NAME}\0{settings.model}\0{profile.name}\0{profile.block_tokens}"
    return hashlib.sha256(facts.encode()).hexdigest()[:16]


def _describe(engine: SimEngine, place: MembershipSettings, address: str) -> Worker:
    settings, publisher = engine.settings, engine.publisher
    profile = settings.profile
    return Worker(
        worker_id=place.worker_id,
        incarnation=place.incarnation,
        service=place.service,
        role=engine.role,
        revision=place.revision,
        address=address,
        model=settings.model,
        engine=Engine(
            version=f"{ENGINE_NAME} {profile.name}", compatibility=compatibility(settings)
        ),
        kv_capacity_tokens=profile.kv_capacity_tokens,
        kv_block_tokens=profile.block_tokens,
        max_model_tokens=settings.max_model_tokens,
        kv_events=publisher.endpoint if publisher else "",
        kv_events_replay=publisher.replay_endpoint if publisher else "",
        topology=Topology(node=place.node, zone=place.zone),
        load=_load(engine),
    )


def _load(engine: SimEngine) -> Load:
    counts, speeds = engine.driver.counts(), engine.prefill_speeds
    return Load(
        running_count=counts.running,
        waiting_count=counts.waiting,
        unprefilled_count=engine.gate.unprefilled_count,
        kv_used_fraction=round(counts.kv_used_fraction, 3),
        seconds_per_prefill_token=float(f"{statistics.median(speeds):.3g}") if speeds else None,
    )


def _role_of(body: bytes) -> Role:
    try:
        return _decode_role(body).role
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequestError(f"role must be one of {', '.join(Role)}") from error
