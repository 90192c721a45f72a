"""Where the workers of this machine are, in a folder that all of its processes see."""

import contextlib
from pathlib import Path

LOG_DIR = "/tmp/twofold"  # noqa: S108
"""Of workers whose manager names no other; in Kubernetes it ends with the pod."""

_SUFFIX = ".address"


def address_file(directory: Path, worker_id: str) -> Path:
    return directory / f"{worker_id}{_SUFFIX}"


def write_address(directory: Path, worker_id: str, address: str) -> None:
    """Say that the worker answers at *address*, a URL.

    Raises:
        OSError: it cannot be written.
    """
    path = address_file(directory, worker_id)
    whole = path.with_suffix(".part")
    whole.write_text(address)
    whole.replace(path)  # whoever reads it meanwhile finds all or nothing


def remove_address(directory: Path, worker_id: str) -> None:
    """Say that the worker is no more."""
    with contextlib.suppress(OSError):
        address_file(directory, worker_id).unlink()


def read_addresses(directory: Path) -> dict[str, str]:
    """Return the address of each worker. Of one that was killed it may still be there."""
    found = {}
    for path in sorted(directory.glob(f"*{_SUFFIX}")):
        with contextlib.suppress(FileNotFoundError):  # it ended just now
            found[path.name.removesuffix(_SUFFIX)] = path.read_text()
    return found
