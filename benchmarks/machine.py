"""Where a figure was measured: machine and versions."""

import os
import platform
import sys
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

PACKAGES = ("aiohttp", "httptools", "msgspec", "uvloop", "xxhash")

GIB = 1 << 30


def describe_machine(packages: Iterable[str] = PACKAGES) -> dict[str, str]:
    """Say what a reader needs to judge a figure.

    Ask before the benchmark begins: its load average shows whether others used the cores.
    """
    one, five, _ = os.getloadavg()
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    described = {
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "memory": f"{memory_bytes / GIB:.0f} GiB",
        "kernel": platform.release(),
        "load average before": f"{one:.2f} (1 min), {five:.2f} (5 min)",
        "python": sys.version.split()[0],
    }
    return described | {name: _version(name) for name in packages}


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
