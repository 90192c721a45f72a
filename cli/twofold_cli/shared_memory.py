"""Files in shared memory that killed processes leave behind."""

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

import psutil

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  # where POSIX shared memory is, not a scratch file


def mapped_files(pids: Iterable[int], *, below: Path = SHARED_MEMORY) -> set[str]:
    """Return the files in *below* that any of *pids* has mapped and that still have a name.

    Files are told by their number: a named semaphore is mapped under a name that it lost.
    """
    numbers = {number for pid in pids for number in _mapped_by(pid, f"{below}/")}
    return {path for path, number in _files_in(below) if number in numbers}


def remove_unmapped(paths: Iterable[str], *, below: Path = SHARED_MEMORY) -> list[str]:
    """Remove those of *paths* that are this user's and that no living process maps; name them."""
    candidates = {path for path in paths if path.startswith(f"{below}/")}
    if not candidates:
        return []
    unmapped = candidates - mapped_files(psutil.pids(), below=below)
    return sorted(path for path in unmapped if _remove_own(path))


def _mapped_by(pid: int, prefix: str) -> Iterable[int]:
    try:
        maps = Path(f"/proc/{pid}/maps").read_text(errors="surrogateescape")
    except OSError:  # it has ended, or is another user's
        return
    for line in maps.splitlines():
        # address permissions offset device inode path
        fields = line.split(maxsplit=5)
        if len(fields) == 6 and fields[5].startswith(prefix):
            yield int(fields[4])


def _files_in(directory: Path) -> Iterable[tuple[str, int]]:
    with contextlib.suppress(OSError), os.scandir(directory) as entries:
        for entry in entries:
            yield entry.path, entry.inode()


def _remove_own(path: str) -> bool:
    with contextlib.suppress(OSError):
        if os.stat(path, follow_symlinks=False).st_uid == os.getuid():
            os.unlink(path)
            return True
    return False
