"""``python -m twofold_sim``: engines without a model, and profiles of what an engine costs."""

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence

from twofold_sim.calibrating import add_calibrate_parser, run_calibrate
from twofold_sim.live.running import add_engine_parser, run_engine

_RUN: Mapping[str, Callable[[argparse.Namespace], int]] = {
    "engine": run_engine,
    "calibrate": lambda parsed: run_calibrate(parsed, os.environ),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m twofold_sim")
    subparsers = parser.add_subparsers(dest="command", required=True)
    add_engine_parser(subparsers)
    add_calibrate_parser(subparsers)
    parsed = parser.parse_args(arguments)
    return _RUN[parsed.command](parsed)


if __name__ == "__main__":
    sys.exit(main())
