"""The start of a worker's process, common to the roles."""

import asyncio
import contextlib
import logging
import os
import sys
from collections.abc import Sequence

from twofold_cluster.identity import Role
from twofold_cluster.logs import log_json
from twofold_cluster.membership import FencedError
from twofold_engine.environment import engine_environment
from twofold_engine.errors import EngineError
from twofold_engine.events import Event, Reporter, Step
from twofold_engine.network import network_warning
from twofold_engine.settings import WorkerSettings, from_argv
from twofold_kvtransfer.vllm_plugin import end_with_parent

EXIT_FAILED = 1

_OUR_PACKAGES = (
    "twofold_cluster",
    "twofold_kvtransfer",
    "twofold_engine",
    "twofold_prefill_worker",
    "twofold_decode_worker",
)

_log = logging.getLogger(__name__)


def main(argv: Sequence[str], *, module: str, role: Role) -> int:
    """Serve one worker until SIGTERM; return the exit status."""
    settings = from_argv(argv, module=module, role=role)
    _log_to_stderr()
    if settings.parent_pid is not None:
        end_with_parent(settings.parent_pid)
    os.environ |= engine_environment(settings)
    reporter = Reporter(settings.events_fd)
    reporter.report(Event(Step.IMPORTING, warning=network_warning(settings, os.environ)))
    failures: list[BaseException] = []
    try:
        asyncio.run(_serve(settings, reporter))
    except* (EngineError, FencedError) as errors:
        failures = _leaves(errors)
    for failure in failures:
        _log.error("%s", failure)
    return EXIT_FAILED if failures else 0


def _log_to_stderr() -> None:
    log_json("info")
    # On our own loggers: what vLLM imports sets the root's level to ERROR.
    for package in _OUR_PACKAGES:
        logging.getLogger(package).setLevel(logging.INFO)


async def _serve(settings: WorkerSettings, reporter: Reporter) -> None:
    # Here and not above: vLLM reads the environment while it is imported.
    from twofold_engine.serving import serve

    with contextlib.suppress(asyncio.CancelledError):
        await serve(settings, reporter)
    sys.stdout.flush()


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    return [
        leaf
        for error in group.exceptions
        for leaf in (_leaves(error) if isinstance(error, BaseExceptionGroup) else [error])
    ]
