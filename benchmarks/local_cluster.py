"""A cluster on this machine, started with the command that a user types."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec

from benchmarks.processes import free_ports

START_SECONDS = 300.0


@contextmanager
def running_cluster(*arguments: str) -> Iterator[dict[str, Any]]:
    """Run ``twofold up`` with *arguments*, and yield what ``twofold status`` says of it.

    Raises:
        SystemExit: it does not start, with what it said.
    """
    with tempfile.TemporaryDirectory() as folder:
        env = os.environ | {"TWOFOLD_STATE_DIR": folder}

        def twofold(*words: str) -> str:
            done = subprocess.run(
                [sys.executable, "-m", "twofold_cli", *words],
                env=env,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=START_SECONDS,
            )
            if done.returncode != 0 and words[0] == "up":
                raise SystemExit(done.stdout + done.stderr)
            return done.stdout

        try:
            twofold("up", "--detach", "--port", str(free_ports(1)[0]), *arguments)
            yield msgspec.json.decode(twofold("status", "--json"))
        finally:
            twofold("down")
