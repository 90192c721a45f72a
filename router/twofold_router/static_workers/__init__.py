"""Workers given on the command line: any vLLM servers, known by what they answer."""

from twofold_router.static_workers.engine_key import (
    KEY_FILE_FLAG,
    KEY_VARIABLE,
    check_engine_key,
    engine_headers,
    read_engine_key,
)
from twofold_router.static_workers.errors import InvalidEngineKeyError, InvalidWorkerFlagError
from twofold_router.static_workers.fetching import fetch_with
from twofold_router.static_workers.flags import GivenWorker, parse_worker_flag, parse_worker_flags
from twofold_router.static_workers.following import ProbeSettings, StaticWorkers
from twofold_router.static_workers.probing import Fetch
from twofold_router.static_workers.watching import UNKNOWN_MODEL_TOKENS

__all__ = [
    "KEY_FILE_FLAG",
    "KEY_VARIABLE",
    "UNKNOWN_MODEL_TOKENS",
    "Fetch",
    "GivenWorker",
    "InvalidEngineKeyError",
    "InvalidWorkerFlagError",
    "ProbeSettings",
    "StaticWorkers",
    "check_engine_key",
    "engine_headers",
    "fetch_with",
    "parse_worker_flag",
    "parse_worker_flags",
    "read_engine_key",
]
