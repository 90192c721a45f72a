"""``python -m twofold_engine.draining``: what Kubernetes runs before it ends a node of Ray."""

import argparse
import asyncio
import logging
import sys
from pathlib import Path

from twofold_cluster.logs import log_json
from twofold_engine.draining.addresses import LOG_DIR
from twofold_engine.draining.machine import drain_machine

_log = logging.getLogger(__name__)


def main() -> int:
    """Return 0 once nobody has work left; 1, with their names, at the limit."""
    options = parser().parse_args()
    log_json("info")
    busy = asyncio.run(drain_machine(Path(options.log_dir), options.limit_seconds))
    if busy:  # Kubernetes shows this in the event FailedPreStopHook
        _log.error("still busy after %g s: %s", options.limit_seconds, ", ".join(busy))
    return 1 if busy else 0


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m twofold_engine.draining",
        description="Have the workers of this machine refuse new requests, and wait until they "
        "have none and until no pool manager runs: what is to be done before the machine goes.",
    )
    parser.add_argument(
        "--log-dir", default=LOG_DIR, help="that of the workers; default: %(default)s"
    )
    parser.add_argument(
        "--limit-seconds",
        type=float,
        required=True,
        help="how long it may take; what is still being served then is left to itself",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
