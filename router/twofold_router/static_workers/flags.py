"""The flag ``--worker ROLE=URL``."""

import re
from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import urlsplit

from twofold_cluster.identity import Role, WorkerId
from twofold_router.static_workers.errors import InvalidWorkerFlagError

HTTP_PORT = 80

_HOST = re.compile(r"[a-z0-9_.-]+|[0-9a-f:.]+")
"""A name or an IPv4 address, or an IPv6 address: what may stand in a header as it is."""

_PASSWORD = re.compile(r"(?<=//).*@", re.DOTALL)


class GivenWorker(NamedTuple):
    role: Role
    origin: str
    """``http://host:port``, in lower case, the port always given, without a slash at the end."""

    @property
    def worker_id(self) -> WorkerId:
        """Return ``host:port``: it is in headers and metrics, and the same after a restart."""
        return WorkerId(self.origin.removeprefix("http://"))


def parse_worker_flags(flags: Sequence[str]) -> tuple[GivenWorker, ...]:
    """Parse all flags of one router.

    Raises:
        InvalidWorkerFlagError: one is wrong, two give the same URL, or no worker can decode.
    """
    workers = tuple(map(parse_worker_flag, flags))
    flag_by_origin: dict[str, str] = {}
    for flag, worker in zip(flags, workers, strict=True):
        if worker.origin in flag_by_origin:
            other = flag_by_origin[worker.origin]
            raise _invalid(flag, f"{other!r} gives the same worker; for both roles, use both=URL")
        flag_by_origin[worker.origin] = flag
    if not any(worker.role.decodes for worker in workers):
        raise InvalidWorkerFlagError("no --worker decodes: give at least one decode= or both=URL")
    return workers


def parse_worker_flag(flag: str) -> GivenWorker:
    """Parse one flag, such as ``prefill=http://10.0.0.1:8000``.

    Raises:
        InvalidWorkerFlagError: it is not a role and the origin of a plain HTTP server.
    """
    role, equals, url = flag.partition("=")
    if not equals:
        raise _invalid(flag, "it must be ROLE=URL, such as both=http://127.0.0.1:8000")
    if role not in list(Role):
        raise _invalid(flag, f"the role is {role!r}, and must be one of {', '.join(Role)}")
    return GivenWorker(Role(role), _origin_of(url, flag))


def _origin_of(url: str, flag: str) -> str:
    try:
        parts = urlsplit(url)
        port = HTTP_PORT if parts.port is None else parts.port
    except ValueError as error:
        raise _invalid(flag, f"the URL is none: {error}") from error
    if parts.scheme == "https":
        raise _invalid(flag, "https is not supported; the URL must begin with http://")
    if parts.scheme != "http" or not url.lower().startswith("http://"):
        raise _invalid(flag, "the URL must begin with http://")
    if parts.username is not None:
        raise _invalid(flag, "the URL has a user in it, and must have none")
    if parts.path not in ("", "/") or "?" in url or "#" in url:
        raise _invalid(flag, "the URL must end after the host and port, without a path or query")
    if not parts.hostname or not _HOST.fullmatch(parts.hostname) or port == 0:
        raise _invalid(flag, f"{parts.netloc!r} is not a host name or an address, and a port")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"http://{host}:{port}"


def _invalid(flag: str, reason: str) -> InvalidWorkerFlagError:
    shown = _PASSWORD.sub("***@", flag)
    return InvalidWorkerFlagError(f"--worker {shown!r}: {reason}")
