"""``twofold up --engine sim``: a whole local cluster, real but for its engines."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from twofold_sim.live.testing import QUICK

PROMPT = "Who is there? " * 400

UP_SECONDS = 120.0
WAIT_SECONDS = 30.0


@dataclass
class Local:
    """A local cluster with its state in a directory of its own."""

    state: Path
    port: int

    def twofold(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "twofold_cli", *arguments],
            env={**os.environ, "TWOFOLD_STATE_DIR": str(self.state)},
            capture_output=True,
            text=True,
            timeout=UP_SECONDS,
            check=False,
        )

    def workers(self) -> dict[str, dict[str, Any]]:
        status = json.loads(self.twofold("status", "--json").stdout)
        return {worker["worker_id"]: worker for worker in status["workers"]}

    def held(self, role: str) -> int:
        """Return how many tokens of the prompt the only worker of a *role* is known to hold."""
        told = self.twofold("kv", "find", PROMPT, "--chat", "--json")
        if told.returncode not in (0, 1):
            return 0
        (revision,) = json.loads(told.stdout)["revisions"]
        return sum(s["token_count"] for s in revision["shares"] if s["role"] == role)

    def ask(self) -> httpx.Response:
        body = {
            "model": "quick",
            "messages": [{"role": "user", "content": PROMPT}],
            "max_tokens": 20,
        }
        url = f"http://127.0.0.1:{self.port}/v1/chat/completions"
        return httpx.post(url, json=body, timeout=WAIT_SECONDS)


@pytest.fixture
def local(tmp_path: Path) -> Iterator[Local]:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    local = Local(tmp_path / "state", port)
    try:
        yield local
    finally:
        local.twofold("down")


def until(condition: Callable[[], bool]) -> None:
    give_up_at = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < give_up_at
        time.sleep(0.1)


def test_a_cluster_of_engines_without_a_model_serves_and_repairs_itself(
    local: Local, tmp_path: Path
) -> None:
    profile = tmp_path / "quick.json"
    profile.write_bytes(msgspec.json.encode(QUICK))
    up = local.twofold(
        *("up", "--engine", "sim", "--profile", str(profile), "--prefill", "1", "--decode", "1"),
        *("--detach", "--port", str(local.port), "--kv-events"),
    )
    assert up.returncode == 0, up.stdout + up.stderr
    first = local.ask()
    full = first.json()["usage"]["prompt_tokens"] // QUICK.block_tokens * QUICK.block_tokens
    until(lambda: local.held("prefill") == full)
    before = local.workers()["local-prefill-0"]
    os.kill(before["pid"], signal.SIGKILL)

    def is_back() -> bool:
        now = local.workers().get("local-prefill-0", {})
        return now.get("phase") == "ready" and now["restarts"] == 1

    until(is_back)
    # The router hears of it a moment later.
    until(lambda: local.ask().headers["x-twofold-mode"] == "disaggregated")
    last = local.ask()
    # What the killed one held is gone with it, and what it computed since is found.
    until(lambda: local.held("prefill") == full)
    down = local.twofold("down")

    assert first.headers["x-twofold-mode"] == "disaggregated"
    assert first.headers["x-twofold-prefill"] == "local-prefill-0"
    assert last.json()["choices"] == first.json()["choices"]
    assert down.returncode == 0
