"""One real cluster for all tests of this folder: real engines, real transfers, one real model."""

import contextlib
import dataclasses
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from twofold_cli.shared_memory import mapped_files

START_LIMIT_SECONDS = 480
LEASE_SECONDS = 30
TITLE_LIMIT_SECONDS = 30

CONNECTORS = ("nixl", "twofold")
"""What moves blocks: vLLM's NixlConnector, and ours."""

_FOR_EACH_CONNECTOR = {
    "test_exactness",
    "test_aborts",
    "test_kills",
    "test_pinning",
    "test_pulling",
}

_RECEIVED_BYTES = {
    "nixl": "vllm:nixl_bytes_transferred_sum",
    "twofold": "twofold_kv_transfer_bytes_sum",
}
_EXPIRED_LEASES = {
    "nixl": "vllm:nixl_num_kv_expired_reqs_total",
    "twofold": 'twofold_kv_leases_ended_total{cause="expired"}',
}

_SAMPLE = re.compile(r"^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)$")


@dataclasses.dataclass
class Cluster:
    """A running cluster, seen from outside: HTTP, ``twofold status --json`` and process ids."""

    url: str
    env: dict[str, str]
    connector: str
    _addresses: dict[str, str] = dataclasses.field(default_factory=dict)

    def twofold(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "twofold_cli", *arguments],
            env=self.env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=check,
            timeout=START_LIMIT_SECONDS,
        )

    def status(self) -> dict[str, Any]:
        status: dict[str, Any] = json.loads(self.twofold("status", "--json", check=False).stdout)
        return status

    def worker(self, role: str) -> dict[str, Any]:
        (worker,) = (w for w in self.status()["workers"] if w["role"] == role)
        assert isinstance(worker, dict)
        return worker

    def address(self, role: str) -> str:
        """Return where the worker of *role* listens; asked once, until ``forget_addresses``."""
        if role not in self._addresses:
            self._addresses[role] = str(self.worker(role)["address"])
        return self._addresses[role]

    def forget_addresses(self) -> None:
        """To be called when a worker may have been replaced."""
        self._addresses.clear()

    def metrics(self, address: str | None = None) -> dict[str, float]:
        """Return the samples of the router, or of the worker at *address*; see ``samples_of``."""
        return samples_of(address or self.url)

    def received_bytes(self) -> float:
        """Return the bytes of blocks that the decode worker has fetched."""
        return self.metrics(self.address("decode")).get(_RECEIVED_BYTES[self.connector], 0.0)

    def expired_leases(self) -> float:
        """Return how many requests' blocks the prefill worker has kept until nobody wanted them."""
        return self.metrics(self.address("prefill"))[_EXPIRED_LEASES[self.connector]]

    def until(
        self, condition: Callable[[], bool], *, seconds: float, what: str, every: float = 0.25
    ) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
            time.sleep(every)

    def until_idle(self) -> None:
        """Wait until nothing is in flight and no block is held; leases bound that."""

        def kv_used(role: str) -> float:
            return self.metrics(self.address(role))["vllm:kv_cache_usage_perc"]

        for role in ("prefill", "decode"):
            self.until(
                lambda role=role: kv_used(role) == 0.0,  # type: ignore[misc]
                seconds=2 * LEASE_SECONDS,
                what=f"the {role} worker's blocks are free",
            )
        self.until(
            lambda: self.metrics()["twofold_router_in_flight"] == 0,
            seconds=60,
            what="the router's counts are zero",
        )

    def until_disaggregated(self, *, seconds: float) -> None:
        """Wait until a request is served by two workers again."""

        def served() -> bool:
            try:
                response = self.complete("Hello", max_tokens=1)
            except httpx.HTTPError:
                return False
            mode: str | None = response.headers.get("x-twofold-mode")
            return mode == "disaggregated"

        self.until(served, seconds=seconds, what="a request is disaggregated")

    def complete(self, prompt: str | list[int], **fields: Any) -> httpx.Response:
        body = {"model": "smollm2", "prompt": prompt, "temperature": 0, **fields}
        return httpx.post(f"{self.url}/v1/completions", json=body, timeout=60)


def samples_of(address: str) -> dict[str, float]:
    """Return what *address* measures of itself, summed over labels other than those in the key:
    ``name`` and ``name{label="value"}``."""
    samples: dict[str, float] = {}
    for line in httpx.get(f"{address}/metrics", timeout=10).text.splitlines():
        if found := _SAMPLE.match(line):
            name, labels, value = found.group(1), found.group(2) or "", float(found.group(3))
            samples[name] = samples.get(name, 0.0) + value
            for label in filter(None, labels.split(",")):
                samples[f"{name}{{{label}}}"] = samples.get(f"{name}{{{label}}}", 0.0) + value
    return samples


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what is about moving blocks for each connector, and the rest for the default."""
    if "cluster" in metafunc.fixturenames:
        each = metafunc.definition.path.stem in _FOR_EACH_CONNECTOR
        connectors = CONNECTORS if each else CONNECTORS[:1]
        metafunc.parametrize("cluster", connectors, indirect=True, scope="session")


@pytest.fixture(scope="session")
def cluster(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    """Start one prefill and one decode worker with the command that a user types."""
    connector: str = request.param
    port = _free_port()
    state = tmp_path_factory.mktemp("state")
    env = os.environ | {"TWOFOLD_STATE_DIR": str(state)}
    cluster = Cluster(f"http://127.0.0.1:{port}", env, connector)
    arguments = ("--detach", "--port", str(port), "--connector", connector, "--kv-events")
    started = cluster.twofold("up", *arguments, check=False)
    assert started.returncode == 0, started.stdout + started.stderr
    processes = _descendants(int(cluster.status()["supervisor"]["pid"]))
    shared_memory = mapped_files(process.pid for process in processes)
    yield cluster
    processes |= _descendants(int(cluster.status()["supervisor"]["pid"]))
    shared_memory |= mapped_files(process.pid for process in processes)
    cluster.twofold("down")
    left = [process for process in processes if _alive(process)]
    assert not left, left
    assert not [path for path in shared_memory if Path(path).exists()]


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def child_named(pid: int, name: str) -> int:
    """Return the descendant of *pid* whose title holds *name*; a process may be yet to take one."""
    deadline = time.monotonic() + TITLE_LIMIT_SECONDS
    while time.monotonic() < deadline:
        for process in psutil.Process(pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                if name in " ".join(process.cmdline()):
                    return process.pid
        time.sleep(0.25)
    raise AssertionError(f"no {name} below {pid}")


def _descendants(pid: int) -> set[psutil.Process]:
    supervisor = psutil.Process(pid)
    return {supervisor, *supervisor.children(recursive=True)}


def _alive(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
