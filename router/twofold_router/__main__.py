"""``python -m twofold_router``: one router for one service."""

import argparse
import asyncio
import gc
import os
import sys
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from twofold_cluster.logs import log_json
from twofold_router.access import Classes, InvalidAccessError, parse_class
from twofold_router.gateway import CannotListenError
from twofold_router.open_files import raise_open_files
from twofold_router.placement import POLICIES
from twofold_router.processes import (
    GATEWAY_FLAG,
    Assignment,
    log_as_gateway,
    run_gateway_process,
    run_processes,
)
from twofold_router.running import run_router
from twofold_router.settings import MIB, InvalidSettingError, RouterSettings
from twofold_router.static_workers import (
    KEY_FILE_FLAG,
    KEY_VARIABLE,
    InvalidEngineKeyError,
    InvalidWorkerFlagError,
    check_engine_key,
    parse_worker_flags,
    read_engine_key,
)

USAGE_ERROR = 2

REDIS_VARIABLE = "TWOFOLD_REDIS_URL"
"""A URL may hold a password, which has no place among the arguments of a process."""

_BAD_START = (
    CannotListenError,
    InvalidAccessError,
    InvalidEngineKeyError,
    InvalidSettingError,
    InvalidWorkerFlagError,
)

_DEFAULT = {field.name: field.default for field in fields(RouterSettings)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a router until SIGTERM or SIGINT. Returns the exit code."""
    parsed = make_parser().parse_args(arguments)
    _collect_garbage_rarely()
    log_json(parsed.log_level)
    try:
        settings = settings_of(parsed, os.environ)
        if parsed.gateway_process is None:  # who has it from the process that started it
            # Each connection of a client may have one to a worker.
            raise_open_files(2 * settings.server_limits().connection_count)
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(_work_of(settings, parsed.gateway_process))
    except _BAD_START as error:
        sys.stderr.write(f"twofold_router: {error}\n")
        return USAGE_ERROR
    return 0


def _work_of(settings: RouterSettings, assignment: Assignment | None) -> Coroutine[Any, Any, None]:
    if assignment is not None:
        log_as_gateway(assignment.process)
        return run_gateway_process(settings, assignment)
    if settings.processes > 1:
        return run_processes(settings, [sys.executable, *sys.orig_argv[1:]])
    return run_router(settings)


def make_parser() -> argparse.ArgumentParser:
    """Make the parser of the router's flags."""
    parser = argparse.ArgumentParser(
        prog="python -m twofold_router", description="Route OpenAI requests to vLLM engines."
    )
    add = parser.add_argument
    add("--service", default="", help="follow the workers of this service in Redis")
    add(
        "--worker",
        action="append",
        default=[],
        metavar="ROLE=URL[,kv-events=ENDPOINT[,kv-events-replay=ENDPOINT]]",
        help="serve these engines without Redis; ROLE is prefill, decode or both; repeat it",
    )
    add(
        KEY_FILE_FLAG,
        type=Path,
        metavar="FILE",
        help=f"the API key that the engines of --worker want (default: ${KEY_VARIABLE})",
    )
    add("--redis", metavar="URL", help=f"default: ${REDIS_VARIABLE}, or {_DEFAULT['redis_url']}")
    add(
        "--host",
        default=_DEFAULT["host"],
        help="address to listen on; empty: all (default: %(default)s)",
    )
    add("--port", type=int, default=_DEFAULT["port"], help="0: a free one (default: %(default)s)")
    add("--policy", default=_DEFAULT["policy"], choices=POLICIES, help="default: %(default)s")
    add("--processes", type=int, default=1, metavar="N", help="that share the port")
    add(GATEWAY_FLAG, type=Assignment.parse, help=argparse.SUPPRESS)
    add("--no-disaggregation", action="store_true", help="serve each request on one worker")
    add("--no-prefix-pull", action="store_true", help="never fetch a prefix from a third worker")
    add(
        "--on-no-prefill",
        default=_DEFAULT["on_no_prefill"],
        choices=("aggregate", "fail"),
        help="what to do while no prefill worker serves (default: %(default)s)",
    )
    add(
        "--on-transfer-failure",
        default=_DEFAULT["on_transfer_failure"],
        choices=("retry", "recompute", "fail"),
        help="what to do when a decode worker does not take over a prompt (default: %(default)s)",
    )
    add("--keys-file", type=Path, metavar="FILE", help="API keys; without it everybody is let in")
    add("--insecure", action="store_true", help="listen on any address without API keys")
    add(
        "--allowed-origin",
        action="append",
        default=[],
        metavar="ORIGIN",
        help="whose web pages may ask from a browser, as https://a.example; *: all; repeat it",
    )
    add(
        "--class",
        dest="classes",
        action="append",
        default=[],
        metavar="NAME:FIELD=VALUE,...",
        help="what requests are promised: priority, ttft, ttft-per-token, tpot, late=serve|refuse",
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
    add("--max-unprefilled-tokens", int, _DEFAULT["max_unprefilled_tokens"], "per prefill worker")
    add("--follow-tokens", int, _DEFAULT["follow_tokens"], "as many to compute: moved meanwhile")
    add("--min-uncached-tokens", int, _DEFAULT["min_uncached_tokens"], "fewer: no leg 1")
    add("--block-tokens", int, _DEFAULT["block_tokens"], "by which prompts are compared")
    add("--request-timeout", float, _DEFAULT["request_timeout_seconds"], "whole request, s")
    add("--leg-1-timeout", float, _DEFAULT["leg_1_timeout_seconds"], "prefill, s")
    first_byte = "for a stream to begin, beyond the prediction, s"
    add("--first-byte-timeout", float, _DEFAULT["first_byte_timeout_seconds"], first_byte)
    add("--connect-timeout", float, _DEFAULT["connect_timeout_seconds"], "to a worker, s")
    add("--drain-delay", float, _DEFAULT["drain_delay_seconds"], "from SIGTERM to the drain, s")
    add("--drain-timeout", float, _DEFAULT["drain_timeout_seconds"], "at shutdown, s")


def settings_of(parsed: argparse.Namespace, environment: Mapping[str, str]) -> RouterSettings:
    """Return what the flags say, and for the rest the *environment*.

    Raises:
        InvalidSettingError: a value is out of its range, or flags contradict each other.
        InvalidAccessError: a class cannot be read.
        InvalidWorkerFlagError: a worker cannot be read.
        InvalidEngineKeyError: the engines' key cannot be read.
    """
    if parsed.worker and parsed.redis is not None:
        raise InvalidSettingError("--redis goes with --service: with --worker nothing is in Redis")
    redis_url = parsed.redis or environment.get(REDIS_VARIABLE) or str(_DEFAULT["redis_url"])
    return RouterSettings(
        service=parsed.service,
        workers=parse_worker_flags(parsed.worker) if parsed.worker else (),
        engine_api_key=_engine_key_of(parsed, environment),
        redis_url=redis_url,
        host=parsed.host,
        port=parsed.port,
        processes=parsed.processes,
        policy=parsed.policy,
        keys_file=parsed.keys_file,
        insecure=parsed.insecure,
        allowed_origins=tuple(parsed.allowed_origin),
        classes=Classes(map(parse_class, parsed.classes)),
        disaggregate=not parsed.no_disaggregation,
        prefix_pull=not parsed.no_prefix_pull,
        follow_tokens=parsed.follow_tokens,
        on_no_prefill=parsed.on_no_prefill,
        on_transfer_failure=parsed.on_transfer_failure,
        max_body_bytes=parsed.max_body_mib * MIB,
        max_answer_bytes=parsed.max_answer_mib * MIB,
        max_queued=parsed.max_queued,
        max_unprefilled_tokens=parsed.max_unprefilled_tokens,
        min_uncached_tokens=parsed.min_uncached_tokens,
        block_tokens=parsed.block_tokens,
        request_timeout_seconds=parsed.request_timeout,
        leg_1_timeout_seconds=parsed.leg_1_timeout,
        first_byte_timeout_seconds=parsed.first_byte_timeout,
        connect_timeout_seconds=parsed.connect_timeout,
        drain_delay_seconds=parsed.drain_delay,
        drain_timeout_seconds=parsed.drain_timeout,
    )


def _engine_key_of(parsed: argparse.Namespace, environment: Mapping[str, str]) -> str:
    if parsed.engine_api_key_file is not None:
        return read_engine_key(parsed.engine_api_key_file)
    key = environment.get(KEY_VARIABLE, "")
    return check_engine_key(key, f"${KEY_VARIABLE}") if key and parsed.worker else ""


def _collect_garbage_rarely() -> None:
    """Leave what the modules hold alone, and look for cycles a hundred times less often.

    A request makes some hundred objects and no cycle, but the mirrors of the caches hold millions
    of them, and by default a collection comes every few requests: a fifth of the router's time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)


def _loop_factory() -> "type[asyncio.AbstractEventLoop] | None":
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.Loop


if __name__ == "__main__":
    sys.exit(main())
