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
from twofold_sim.live.naming import name_chain
from twofold_sim.live.settings import EngineSettings, MembershipSettings

PREFIX = "/twofold/v1/"

DELIVERY_LIMIT_SECONDS = 3.0
"""Of a change of state to Redis; shorter than what the supervisor waits for an answer."""

ENGINE_NAME = "sim"
"""A worker's engine says by its version what it is."""

_encode = msgspec.json.Encoder().encode


class _RoleChange(msgspec.Struct):
    role: Role


class _StandbyChange(msgspec.Struct):
    standby: bool


_decode_standby = msgspec.json.Decoder(_StandbyChange).decode
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
        """Answer what steers a worker, or asks it for the names of a prompt's blocks.

        Raises:
            BadRequestError: the body is none.
            UnknownModelError: the prompt is for an adapter that is not loaded.
        """
        verb = request.path.removeprefix(PREFIX)
        if verb == "busy":
            responder.send(200, [JSON], _encode({"busy": self._engine.is_busy}))
            return
        if verb == "chain" and request.method == "POST":
            responder.send(200, [JSON], _encode(name_chain(self._engine, request.body)))
            return
        if verb == "drain" and request.method == "POST":
            self._announce(msgspec.structs.replace(self._worker, state=WorkerState.DRAINING))
            await self._delivered()
            self._engine.gate.is_closed = True
        elif verb == "standby" and request.method == "POST":
            self._stand_by(request.body)
            if not await self._delivered():
                detail = "Redis does not take the announcement"
                responder.send(503, [JSON], _encode({"detail": detail}))
                return
        elif verb == "role" and request.method == "POST":
            self._engine.role = _role_of(request.body)
            self._announce(msgspec.structs.replace(self._worker, role=self._engine.role))
        elif verb != "worker":
            responder.send(404, [JSON], _encode({"detail": "Not Found"}))
            return
        self._refresh()
        responder.send(200, [JSON], _encode(self._worker))

    def _stand_by(self, body: bytes) -> None:
        try:
            standby = _decode_standby(body).standby
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise BadRequestError("standby must be true or false") from error
        if self._worker.state is not WorkerState.DRAINING:
            self._announce(msgspec.structs.replace(self._worker, state=_state(standby)))

    async def _delivered(self) -> bool:
        """Wait until Redis has what was announced last; False when it does not come to that."""
        if self._announcer is None:
            return True
        try:
            async with asyncio.timeout(DELIVERY_LIMIT_SECONDS):
                await self._announcer.delivered()
        except TimeoutError:
            return False
        return True

    def _refresh(self) -> None:
        engine = self._engine
        self._announce(
            msgspec.structs.replace(
                self._worker, load=_load(engine), adapters=tuple(sorted(engine.adapters))
            )
        )

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
        adapters=tuple(sorted(engine.adapters)),
        topology=Topology(node=place.node, zone=place.zone),
        state=_state(place.standby),
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


def _state(standby: bool) -> WorkerState:
    return WorkerState.STANDBY if standby else WorkerState.READY


def _role_of(body: bytes) -> Role:
    try:
        return _decode_role(body).role
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequestError(f"role must be one of {', '.join(Role)}") from error
