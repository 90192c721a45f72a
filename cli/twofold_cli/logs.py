"""The supervisor's own log: one line an event, its values as JSON behind it."""

import logging
from pathlib import Path

import msgspec

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


class LineFormatter(logging.Formatter):
    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # logging's name
        line = super().formatMessage(record)
        extra = {name: value for name, value in vars(record).items() if name not in _STANDARD}
        return f"{line} {msgspec.json.encode(extra).decode()}" if extra else line


def log_to(path: Path) -> None:
    """Send this process's log to the file *path*."""
    handler = logging.FileHandler(path)
    handler.setFormatter(LineFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)


def last_lines(path: Path, *, count: int = 8, size_bytes: int = 8192) -> str:
    """Return the last *count* lines that are not empty, of the last *size_bytes* of *path*."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - size_bytes))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    return "\n".join([line for line in text.splitlines() if line.strip()][-count:])
