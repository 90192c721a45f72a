"""``python -m twofold_router``: one router for one service."""

import argparse
import asyncio
import logging
import signal
import sys
from collections.abc import Sequence
from dataclasses import fields

from twofold_cluster.logs import log_json
from twofold_cluster.membership import Roster, connect
from twofold_router.gateway import CannotListenError, Dispatcher, listen, open_gateway
from twofold_router.placement import POLICIES
from twofold_router.settings import MIB, InvalidSettingError, RouterSettings

USAGE_ERROR = 2

_DEFAULT = {field.name: field.default for field in fields(RouterSettings)}

_log = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a router until SIGTERM or SIGINT. Returns the exit code."""
    parsed = _parser().parse_args(arguments)
    log_json(parsed.log_level)
    try:
        settings = _settings_of(parsed)
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(run_router(settings))
    except (InvalidSettingError, CannotListenError) as error:
        sys.stderr.write(f"twofold_router: {error}\n")
        return USAGE_ERROR
    return 0


async def run_router(settings: RouterSettings) -> None:
    """Follow the service's workers and serve until a signal comes.

    Raises:
        CannotListenError: the address cannot be had.
        InvalidSettingError: the Redis URL is none.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    dispatcher = Dispatcher(
        POLICIES[settings.policy](settings.placement()), suspect_seconds=settings.suspect_seconds
    )
    try:
        redis = connect(settings.redis_url)
    except ValueError as error:
        raise InvalidSettingError(f"redis_url is {settings.redis_url!r}: {error}") from error
    listener = listen(settings.host, settings.port)
    roster = Roster(redis, settings.service, on_change=lambda: dispatcher.follow(roster.workers))
    async with redis, asyncio.TaskGroup() as tasks:
        following = tasks.create_task(roster.run())
        try:
            async with open_gateway(settings, dispatcher, lambda: roster.stale, listener):
                await stop.wait()
        finally:
            following.cancel()
    _log.info("stopped")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m twofold_router", description="Route OpenAI requests to a service's workers."
    )
    add = parser.add_argument
    add("--service", required=True, help="the service whose workers are followed")
    add("--redis", default=_DEFAULT["redis_url"], metavar="URL", help="default: %(default)s")
    add("--host", default=_DEFAULT["host"], help="address to listen on (default: %(default)s)")
    add("--port", type=int, default=_DEFAULT["port"], help="0: a free one (default: %(default)s)")
    add("--policy", default=_DEFAULT["policy"], choices=POLICIES, help="default: %(default)s")
    add("--no-disaggregation", action="store_true", help="serve each request on one worker")
    add(
        "--on-no-prefill",
        default=_DEFAULT["on_no_prefill"],
        choices=("aggregate", "fail"),
        help="what to do while no prefill worker serves (default: %(default)s)",
    )
    _add_bounds(parser)
    add("--log-level", default="info", choices=("debug", "info", "warning", "error"))
    return parser


def _add_bounds(parser: argparse.ArgumentParser) -> None:
    def add(flag: str, type_: type, default: object, unit: str) -> None:
        help_ = f"{unit} (default: %(default)s)"
        parser.add_argument(flag, type=type_, default=default, metavar="N", help=help_)

    add("--max-body-mib", int, 32, "largest request, MiB")
    add("--max-answer-mib", int, 64, "largest answer that is not streamed, MiB")
    add("--max-queued", int, _DEFAULT["max_queued"], "requests that may wait")
    add("--max-unprefilled", int, _DEFAULT["max_unprefilled"], "unprefilled per prefill worker")
    add("--request-timeout", float, _DEFAULT["request_timeout_seconds"], "whole request, s")
    add("--leg-1-timeout", float, _DEFAULT["leg_1_timeout_seconds"], "prefill, s")
    add("--connect-timeout", float, _DEFAULT["connect_timeout_seconds"], "to a worker, s")
    add("--drain-timeout", float, _DEFAULT["drain_timeout_seconds"], "at shutdown, s")


def _settings_of(parsed: argparse.Namespace) -> RouterSettings:
    return RouterSettings(
        service=parsed.service,
        redis_url=parsed.redis,
        host=parsed.host,
        port=parsed.port,
        policy=parsed.policy,
        disaggregate=not parsed.no_disaggregation,
        on_no_prefill=parsed.on_no_prefill,
        max_body_bytes=parsed.max_body_mib * MIB,
        max_answer_bytes=parsed.max_answer_mib * MIB,
        max_queued=parsed.max_queued,
        max_unprefilled=parsed.max_unprefilled,
        request_timeout_seconds=parsed.request_timeout,
        leg_1_timeout_seconds=parsed.leg_1_timeout,
        connect_timeout_seconds=parsed.connect_timeout,
        drain_timeout_seconds=parsed.drain_timeout,
    )


def _loop_factory() -> "type[asyncio.AbstractEventLoop] | None":
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.Loop


if __name__ == "__main__":
    sys.exit(main())
