"""The systems under test: mock engines, and the routers that may stand before them."""

import argparse
import shlex
import subprocess
import sys
import venv
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import msgspec

from benchmarks.mock_answers import MODEL
from benchmarks.processes import HOST, MeasuredProcess, ask, free_ports, running, wait_until_ready

VLLM_ROUTER_VERSION = "0.1.17"
CACHE = Path.home() / ".cache" / "twofold-benchmarks"

READY_SECONDS = 60.0

Mode = Literal["aggregated", "disaggregated"]
"""Every engine does both; or the first half of them prefill and the others decode."""

_ONE_TOKEN = msgspec.json.encode(
    {"model": MODEL, "max_tokens": 1, "messages": [{"role": "user", "content": "Ready?"}]}
)


@dataclass(frozen=True, slots=True)
class Engines:
    """Mock engines, all in one process."""

    process: MeasuredProcess
    ports: list[int]

    def pace(self, seconds: float) -> None:
        """Set the time between two events of a stream."""
        status, _ = ask(self.ports[0], "POST", "/mock/pace", str(seconds).encode())
        assert status == 200, status


@dataclass(frozen=True, slots=True)
class Router:
    """A router as a command line."""

    name: str
    mode: Mode
    command: tuple[str, ...]
    worker_flags: Callable[[Sequence[str], Sequence[str]], list[str]]
    """From the URLs of those that prefill, and of those that decode or do both."""

    def command_line(self, engine_ports: Sequence[int], port: int) -> list[str]:
        urls = [f"http://{HOST}:{engine_port}" for engine_port in engine_ports]
        prefill_count = len(urls) // 2 if self.mode == "disaggregated" else 0
        flags = self.worker_flags(urls[:prefill_count], urls[prefill_count:])
        return [*self.command, "--host", HOST, "--port", str(port), *flags]


@dataclass(frozen=True, slots=True)
class RunningRouter:
    """A router that has answered."""

    router: Router
    process: MeasuredProcess
    port: int


def twofold(mode: Mode, arguments: Sequence[str] = ()) -> Router:
    """Ours, without Redis; *arguments* go to it as they are."""
    name = " ".join(["twofold", *(["pd"] if mode == "disaggregated" else [])])
    command = (sys.executable, "-m", "twofold_router", *arguments)
    return Router(name, mode, command, _twofold_workers)


def vllm_router(executable: Path, policy: str, mode: Mode) -> Router:
    """The Rust one, quieter than its default, which makes it cheaper."""
    name = " ".join(["vllm-router", *(["pd"] if mode == "disaggregated" else []), policy])
    quiet = ("--log-level", "warning", "--prometheus-port", str(free_ports(1)[0]))
    start = ("--worker-startup-check-interval", "1")
    command = (str(executable), "--policy", policy, *quiet, *start)
    return Router(name, mode, command, _vllm_router_workers)


def install_vllm_router() -> Path:
    """Return the executable of vllm-router in an environment of its own, made if it is not there.

    Raises:
        subprocess.CalledProcessError: pip could not install it.
    """
    home = CACHE / f"vllm-router-{VLLM_ROUTER_VERSION}"
    executable = home / "bin" / "vllm-router"
    if not executable.exists():
        venv.create(home, with_pip=True)
        pip = [str(home / "bin" / "python"), "-m", "pip", "install", "--quiet"]
        subprocess.run([*pip, f"vllm-router=={VLLM_ROUTER_VERSION}"], check=True)
    return executable


def add_router_arguments(parser: argparse.ArgumentParser) -> None:
    """Let *parser* take which router a benchmark is for; ours, if nothing is said."""
    parser.add_argument("--twofold", default="", help="more arguments for our router")
    parser.add_argument("--vllm-router", type=Path, help="its executable, to test it in our place")
    parser.add_argument("--policy", default="cache_aware", help="vllm-router's")
    parser.add_argument("--mode", choices=get_args(Mode), default="aggregated")


def router_under_test(parsed: argparse.Namespace) -> Router:
    """Return the router that the arguments of ``add_router_arguments`` ask for."""
    if parsed.vllm_router is not None:
        return vllm_router(parsed.vllm_router, parsed.policy, parsed.mode)
    return twofold(parsed.mode, shlex.split(parsed.twofold))


@contextmanager
def engines_running(count: int, logs: Path, arguments: Sequence[str] = ()) -> Iterator[Engines]:
    """Serve *count* mock engines; *arguments* are ``mock_engine``'s."""
    ports = free_ports(count)
    flags = [flag for port in ports for flag in ("--port", str(port))]
    command = [sys.executable, "-m", "benchmarks.mock_engine", *flags, *arguments]
    with running("mock engines", command, logs) as process:
        wait_until_ready(process, ports[-1], ("GET", "/health", None), READY_SECONDS)
        yield Engines(process, ports)


@contextmanager
def router_running(router: Router, engines: Engines, logs: Path) -> Iterator[RunningRouter]:
    """Run *router* before *engines*, and wait for its first answer."""
    port = free_ports(1)[0]
    with running(router.name, router.command_line(engines.ports, port), logs) as process:
        request = ("POST", "/v1/chat/completions", _ONE_TOKEN)
        wait_until_ready(process, port, request, READY_SECONDS)
        yield RunningRouter(router, process, port)


def _twofold_workers(prefill: Sequence[str], others: Sequence[str]) -> list[str]:
    role = "decode" if prefill else "both"
    workers = [f"prefill={url}" for url in prefill] + [f"{role}={url}" for url in others]
    return [word for worker in workers for word in ("--worker", worker)]


def _vllm_router_workers(prefill: Sequence[str], others: Sequence[str]) -> list[str]:
    if not prefill:
        return ["--worker-urls", *others]
    workers = [word for url in prefill for word in ("--prefill", url)]
    workers += [word for url in others for word in ("--decode", url)]
    return ["--vllm-pd-disaggregation", *workers]
