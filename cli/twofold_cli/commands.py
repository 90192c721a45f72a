"""The command lines of the supervisor's children."""

import os
from collections.abc import Sequence
from pathlib import Path

from twofold_cli.settings import Settings, module_command

LOOPBACK = "127.0.0.1"

MARK_ENV = "TWOFOLD_CLUSTER"
"""Tells the processes of one cluster from all others; see ``ClusterState.mark``."""


def tied_to_this_process(command: Sequence[str]) -> list[str]:
    """Return *command* behind the launcher that ends it when this process dies."""
    return [*module_command("twofold_cli.child"), str(os.getpid()), "--", *command]


def valkey(settings: Settings, port: int, directory: Path) -> list[str]:
    """Membership lives for seconds: nothing is kept on disk."""
    return [
        *settings.valkey_command,
        *("--port", str(port)),
        *("--bind", LOOPBACK),
        *("--save", ""),
        *("--appendonly", "no"),
        *("--dir", str(directory)),
        *("--daemonize", "no"),
    ]


def pools(settings: Settings, redis_url: str, grpc_address: str, logs: Path) -> list[str]:
    return [
        *settings.pools_command,
        *("--service", settings.service),
        *("--redis", redis_url),
        *("--listen", grpc_address),
        *("--ray", "local"),
        *("--log-dir", str(logs)),
        *(("--engine", "sim") if settings.device == "sim" else ()),
        *_directory_limit(settings.directory_holdings),
    ]


def _directory_limit(holdings: int | None) -> tuple[str, ...]:
    return () if holdings is None else ("--directory-holdings", str(holdings))


def router(settings: Settings, redis_url: str) -> list[str]:
    return [
        *settings.router_command,
        *("--service", settings.service),
        *("--redis", redis_url),
        *("--host", settings.host),
        *("--port", str(settings.port)),
        *(() if settings.prefill else ("--no-disaggregation",)),
        # The models for a CPU have short contexts, and its engines blocks of 128 tokens.
        *(("--block-tokens", "128") if settings.device == "cpu" else ()),
        *settings.router_args,
    ]
