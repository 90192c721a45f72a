"""Workers given on the command line: any vLLM servers, known by what they answer."""

from twofold_router.static_workers.errors import InvalidWorkerFlagError
from twofold_router.static_workers.fetching import fetch_with
from twofold_router.static_workers.flags import GivenWorker, parse_worker_flag, parse_worker_flags
from twofold_router.static_workers.following import ProbeSettings, StaticWorkers
from twofold_router.static_workers.probing import Fetch

__all__ = [
    "Fetch",
    "GivenWorker",
    "InvalidWorkerFlagError",
    "ProbeSettings",
    "StaticWorkers",
    "fetch_with",
    "parse_worker_flag",
    "parse_worker_flags",
]
