"""Simulated engines, each a process, for the routers to be compared on."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from benchmarks.exposition import total
from benchmarks.mock_answers import MODEL
from benchmarks.processes import HOST, ask, free_ports, running, wait_until_ready

READY_SECONDS = 60.0


class Prefilled(msgspec.Struct, frozen=True):
    """What one engine has computed of prompts, in tokens."""

    asked: int
    cached: int


@dataclass(frozen=True, slots=True)
class SimEngines:
    """Engines with one profile. Each publishes its KV events, in vLLM's own topic, for routers
    that follow them."""

    ports: list[int]
    event_ports: list[int]

    @property
    def urls(self) -> list[str]:
        return [f"http://{HOST}:{port}" for port in self.ports]

    def event_endpoint(self, url: str) -> str:
        """Return where the engine at *url* publishes its events."""
        port = int(url.rpartition(":")[2])
        return f"tcp://{HOST}:{self.event_ports[self.ports.index(port)]}"

    def prefilled(self) -> list[Prefilled]:
        """Return what each has computed so far."""
        return [_prefilled(port) for port in self.ports]


@contextmanager
def sim_engines_running(
    count: int, logs: Path, *, profile: str, speed: float
) -> Iterator[SimEngines]:
    """Serve *count* engines with empty caches, *speed* times as fast as *profile* says."""
    ports, event_ports = free_ports(count), free_ports(count)
    common = [sys.executable, "-m", "twofold_sim", "engine", "--model", MODEL]
    common += ["--profile", profile, "--speed", str(speed), "--log-level", "warning"]
    with ExitStack() as stack:
        processes = []
        for number, (port, event_port) in enumerate(zip(ports, event_ports, strict=True)):
            command = [*common, "--port", str(port), "--kv-events", "--kv-events-topic", ""]
            command += ["--kv-events-endpoint", f"tcp://{HOST}:{event_port}"]
            process = stack.enter_context(running(f"engine {number}", command, logs))
            processes.append(process)
        for process, port in zip(processes, ports, strict=True):
            wait_until_ready(process, port, ("GET", "/health", None), READY_SECONDS)
        yield SimEngines(ports, event_ports)


def _prefilled(port: int) -> Prefilled:
    status, page = ask(port, "GET", "/metrics")
    assert status == 200, status
    asked, cached = (
        int(total(page.decode(), f"vllm:prefix_cache_{name}_total") or 0)
        for name in ("queries", "hits")
    )
    return Prefilled(asked, cached)
