"""``python -m twofold_sim engine``: engines until a signal comes."""

import argparse
import asyncio
import dataclasses
import gc
import logging
import os
import secrets
import socket
import sys
from collections.abc import Sequence

from twofold_cluster.identity import Incarnation, Role, WorkerId, new_incarnation
from twofold_cluster.logs import log_json
from twofold_cluster.membership import FencedError
from twofold_router.gateway.listening import CannotListenError
from twofold_router.running import stop_event
from twofold_sim.live.faults import InvalidFaultError, parse_fault
from twofold_sim.live.gate import GateLimits
from twofold_sim.live.serving import Serving, open_engines
from twofold_sim.live.settings import (
    EngineSettings,
    InvalidEngineError,
    KvEventSettings,
    MembershipSettings,
)
from twofold_sim.live.supervised import Reporter, end_with_parent
from twofold_sim.profiles import ProfileError, load_profile

REDIS_ENV = "TWOFOLD_REDIS_URL"

USAGE_ERROR, EXIT_FENCED, EXIT_CRASHED = 2, 1, 70

_DEFAULT = {field.name: field.default for field in dataclasses.fields(EngineSettings)}
_EVENTS = KvEventSettings()

_log = logging.getLogger(__name__)


def add_engine_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command with its options."""
    parser = subparsers.add_parser(
        "engine",
        help="serve engines without a model",
        description="Serve engines without a model that speak HTTP as vLLM does.",
    )
    add = parser.add_argument
    add("--profile", required=True, metavar="NAME_OR_FILE", help="what the engine costs")
    add("--model", help="what clients send as model (default: the profile's name)")
    add("--adapter", action="append", default=[], metavar="NAME", help="a LoRA adapter's name")
    add("--role", type=Role, choices=list(Role), default=Role.BOTH, help="default: %(default)s")
    add("--host", default=_DEFAULT["host"], help="default: %(default)s")
    add(
        "--port",
        type=int,
        action="append",
        default=None,
        help="0: a free one; repeat it for several engines in this process",
    )
    add("--side-channel-port", type=int, default=0, metavar="PORT", help="default: a free one")
    add("--speed", type=float, default=1.0, metavar="X", help="run X times as fast")
    add("--lease-seconds", type=float, default=_DEFAULT["lease_seconds"], metavar="N")
    add(
        "--kv-load-failure-policy",
        choices=("fail", "recompute"),
        default=_DEFAULT["on_load_failure"],
    )
    add("--max-unprefilled", type=int, metavar="N", help="a prefill engine refuses beyond this")
    add("--max-in-flight", type=int, metavar="N", help="an engine that decodes refuses beyond")
    add("--fault", action="append", default=[], metavar="KIND:NAME=VALUE,…", help="repeat it")
    add("--seed", type=int, default=0, help="of which requests a fault strikes")
    add("--drain-seconds", type=float, default=_DEFAULT["drain_seconds"], metavar="N")
    add("--log-level", default="info", choices=("debug", "info", "warning", "error"))
    _add_events(parser.add_argument_group("KV events, for one engine"))
    _add_membership(parser.add_argument_group("as a worker of a cluster, for one engine"))


def run_engine(parsed: argparse.Namespace) -> int:
    """Serve engines until SIGTERM or SIGINT. Returns the exit code."""
    log_json(parsed.log_level)
    gc.freeze()
    try:
        if parsed.parent_pid is not None:
            end_with_parent(parsed.parent_pid)
        settings = _settings_of(parsed)
        reporter = Reporter(parsed.events_fd)
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            return runner.run(_serve(settings, reporter))
    except (
        CannotListenError,
        InvalidEngineError,
        InvalidFaultError,
        ProfileError,
    ) as error:
        return _refuse(error)


async def _serve(settings: Sequence[EngineSettings], reporter: Reporter) -> int:
    stop = stop_event()
    reporter.starting()
    code = 0
    try:
        async with open_engines(*settings) as engines:
            if len(engines) == 1:
                reporter.ready(engines[0].url, engines[0].engine.role)
            async with asyncio.TaskGroup() as tasks:
                crashing = tasks.create_task(_end_when_all_crashed(engines))
                await stop.wait()
                crashing.cancel()
    except* FencedError:
        _log.exception("another one has taken the place of this worker")
        code = EXIT_FENCED
    except* CannotListenError as group:
        # Of a second engine, beside the tasks of the first.
        code = _refuse(_first(group))
    return code


def _refuse(error: BaseException) -> int:
    sys.stderr.write(f"twofold_sim engine: {error}\n")
    return USAGE_ERROR


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the first exception in *group* that is no group."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


async def _end_when_all_crashed(engines: Sequence[Serving]) -> None:
    """End the process when no engine of it is left: a crash is no orderly end."""
    for serving in engines:
        await serving.engine.crashed.wait()
    os._exit(EXIT_CRASHED)


def _add_events(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--kv-events", action="store_true", help="publish what the cache holds")
    group.add_argument("--kv-events-endpoint", default=_EVENTS.endpoint, metavar="ZMQ")
    group.add_argument("--kv-events-replay-endpoint", default=_EVENTS.replay_endpoint)
    group.add_argument("--kv-events-topic", help="default: kv@WORKER@MODEL; vLLM's own is empty")
    group.add_argument("--kv-events-encoding", choices=("array", "map"), default=_EVENTS.encoding)
    group.add_argument("--kv-events-buffer", type=int, default=_EVENTS.buffer_count, metavar="N")


def _add_membership(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--service", default="local")
    group.add_argument("--worker-id", type=WorkerId)
    group.add_argument("--incarnation", type=Incarnation)
    group.add_argument("--revision", default="1")
    group.add_argument(
        "--redis",
        metavar="URL",
        default=os.environ.get(REDIS_ENV),
        help=f"where it is announced; default: {REDIS_ENV}",
    )
    group.add_argument("--node", default=socket.gethostname())
    group.add_argument("--zone", default="")
    group.add_argument("--standby", action="store_true", help="take no new requests at first")
    group.add_argument("--events-fd", type=int, help=argparse.SUPPRESS)
    group.add_argument("--parent-pid", type=int, help=argparse.SUPPRESS)


def _settings_of(parsed: argparse.Namespace) -> list[EngineSettings]:
    ports = parsed.port or [0]
    if len(ports) > 1 and (parsed.kv_events or parsed.worker_id or parsed.side_channel_port):
        raise InvalidEngineError(
            "--kv-events, --worker-id and --side-channel-port are for one engine, not several"
        )
    profile = load_profile(parsed.profile)
    one = EngineSettings(
        profile=profile,
        model=parsed.model or profile.name,
        adapters=tuple(parsed.adapter),
        role=parsed.role,
        host=parsed.host,
        side_channel_port=parsed.side_channel_port,
        speed=parsed.speed,
        lease_seconds=parsed.lease_seconds,
        on_load_failure=parsed.kv_load_failure_policy,
        limits=GateLimits(parsed.max_unprefilled, parsed.max_in_flight),
        kv_events=_events_of(parsed),
        faults=tuple(map(parse_fault, parsed.fault)),
        seed=parsed.seed,
        drain_seconds=parsed.drain_seconds,
        membership=_membership_of(parsed),
    )
    return [
        dataclasses.replace(one, port=port, seed=one.seed + number, engine_id=_engine_id(one))
        for number, port in enumerate(ports)
    ]


def _engine_id(settings: EngineSettings) -> str:
    place = settings.membership
    return f"{place.worker_id}:{place.incarnation}" if place else secrets.token_hex(16)


def _events_of(parsed: argparse.Namespace) -> KvEventSettings | None:
    if not parsed.kv_events:
        return None
    name = parsed.worker_id or f"{parsed.host}:{(parsed.port or [0])[0]}"
    return KvEventSettings(
        endpoint=parsed.kv_events_endpoint.replace("*", parsed.host),
        replay_endpoint=parsed.kv_events_replay_endpoint.replace("*", parsed.host),
        topic=f"kv@{name}@{parsed.model or parsed.profile}"
        if parsed.kv_events_topic is None
        else parsed.kv_events_topic,
        encoding=parsed.kv_events_encoding,
        buffer_count=parsed.kv_events_buffer,
    )


def _membership_of(parsed: argparse.Namespace) -> MembershipSettings | None:
    if parsed.worker_id is None:
        return None
    return MembershipSettings(
        worker_id=parsed.worker_id,
        service=parsed.service,
        incarnation=parsed.incarnation or new_incarnation(),
        revision=parsed.revision,
        redis=parsed.redis,
        node=parsed.node,
        zone=parsed.zone,
        standby=parsed.standby,
    )


def _loop_factory() -> "type[asyncio.AbstractEventLoop] | None":
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.Loop
