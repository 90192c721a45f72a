"""The log of a worker's process on disk, and where somebody reads along."""

import io
from pathlib import Path
from typing import BinaryIO, Self

LIMIT_BYTES = 32 * 2**20
"""Of one file; with the one before it twice as much for each worker."""


class LogFile:
    """Keeps the end of a log: a full file becomes ``NAME.1``, in place of the one before."""

    def __init__(
        self, path: Path, limit_bytes: int = LIMIT_BYTES, echo: BinaryIO | None = None
    ) -> None:
        """Go on with the file at *path*, from the first line on. What is written is also written
        to *echo*, the caller's."""
        self._path = path
        self._limit_bytes = limit_bytes
        self._echo = echo
        self._file: io.FileIO | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def write(self, line: bytes) -> None:
        """Write *line*, which is not divided over two files.

        Raises:
            OSError: a full disk, or there can be no such file; the next line may be written again.
        """
        if self._echo is not None:
            self._echo.write(line)
            self._echo.flush()
        if self._file is None:
            self._file = self._path.open("ab", buffering=0)
        written_bytes = self._file.tell()
        if written_bytes and written_bytes + len(line) > self._limit_bytes:
            self._file = self._begun_anew(self._file)
        self._file.write(line)

    def _begun_anew(self, full: io.FileIO) -> io.FileIO:
        self._path.replace(self._path.with_name(f"{self._path.name}.1"))
        file = self._path.open("ab", buffering=0)
        full.close()
        return file
