"""The flag ``--worker ROLE=URL[,kv-events=ENDPOINT[,kv-events-replay=ENDPOINT]]``."""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple
from urllib.parse import urlsplit

from twofold_cluster.identity import Role, WorkerId
from twofold_router.static_workers.errors import InvalidWorkerFlagError

HTTP_PORT = 80

EVENTS = "kv-events"
REPLAY = "kv-events-replay"

_HOST = re.compile(r"[a-z0-9_.-]+|[0-9a-f:.]+")
"""A name or an IPv4 address, or an IPv6 address: what may stand in a header as it is."""

_PASSWORD = re.compile(r"(?<=//).*@", re.DOTALL)


class GivenWorker(NamedTuple):
    role: Role
    origin: str
    """``http://host:port``, in lower case, the port always given, without a slash at the end."""
    kv_events: str = ""
    """``tcp://host:port`` where the engine publishes what its cache holds; empty: it does not."""
    kv_events_replay: str = ""
    """Likewise, where it sends the last of these again."""

    @property
    def worker_id(self) -> WorkerId:
        """Return ``host:port``: it is in headers and metrics, and the same after a restart."""
        return WorkerId(self.origin.removeprefix("http://"))


def parse_worker_flags(flags: Sequence[str]) -> tuple[GivenWorker, ...]:
    """Parse all flags of one router.

    Raises:
        InvalidWorkerFlagError: one is wrong, two give the same URL or endpoint, or no worker can
            decode.
    """
    workers = tuple(map(parse_worker_flag, flags))
    flag_by_address: dict[str, str] = {}
    for flag, worker in zip(flags, workers, strict=True):
        if worker.origin in flag_by_address:
            other = flag_by_address[worker.origin]
            raise _invalid(flag, f"{other!r} gives the same worker; for both roles, use both=URL")
        flag_by_address[worker.origin] = flag
        for endpoint in filter(None, (worker.kv_events, worker.kv_events_replay)):
            if endpoint in flag_by_address:
                raise _invalid(flag, f"{endpoint} is in {flag_by_address[endpoint]!r} already")
            flag_by_address[endpoint] = flag
    if not any(worker.role.decodes for worker in workers):
        raise InvalidWorkerFlagError("no --worker decodes: give at least one decode= or both=URL")
    return workers


def parse_worker_flag(flag: str) -> GivenWorker:
    """Parse one flag, such as ``prefill=http://10.0.0.1:8000,kv-events=tcp://10.0.0.1:5557``.

    Raises:
        InvalidWorkerFlagError: it is not a role and the origin of a plain HTTP server, perhaps with
            the endpoints of its KV events.
    """
    if "@" in flag:
        raise _invalid(flag, "the URL has a user in it, and must have none")
    named, *options = flag.split(",")
    role, equals, url = named.partition("=")
    if not equals:
        raise _invalid(flag, "it must be ROLE=URL, such as both=http://127.0.0.1:8000")
    if role not in list(Role):
        raise _invalid(flag, f"the role is {role!r}, and must be one of {', '.join(Role)}")
    endpoints = _endpoints_of(options, flag)
    if REPLAY in endpoints and EVENTS not in endpoints:
        raise _invalid(flag, f"{REPLAY} is of no use without {EVENTS}")
    if REPLAY in endpoints and endpoints[REPLAY] == endpoints[EVENTS]:
        raise _invalid(flag, f"{REPLAY} is the same as {EVENTS}, and must be another port")
    return GivenWorker(
        Role(role), _origin_of(url, flag), endpoints.get(EVENTS, ""), endpoints.get(REPLAY, "")
    )


def _endpoints_of(options: Sequence[str], flag: str) -> Mapping[str, str]:
    """Return the endpoints by the names of their options."""
    endpoints: dict[str, str] = {}
    for option in options:
        name, _, value = option.partition("=")
        if name not in (EVENTS, REPLAY):
            raise _invalid(flag, f"{name!r} is no option; there are {EVENTS} and {REPLAY}")
        if name in endpoints:
            raise _invalid(flag, f"{name} is given twice")
        endpoints[name] = _endpoint_of(name, value, flag)
    return endpoints


def _endpoint_of(name: str, value: str, flag: str) -> str:
    wanted = f"{name} must be tcp://HOST:PORT, as the router reaches the engine"
    try:
        parts = urlsplit(value)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise _invalid(flag, f"{wanted}: {error}") from error
    if not host or not _HOST.fullmatch(host) or not port:
        raise _invalid(flag, wanted)
    endpoint = f"tcp://{_bracketed(host)}:{port}"
    if value.lower() != endpoint:
        raise _invalid(flag, wanted)
    return endpoint


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
    if parts.path not in ("", "/") or "?" in url or "#" in url:
        raise _invalid(flag, "the URL must end after the host and port, without a path or query")
    if not parts.hostname or not _HOST.fullmatch(parts.hostname) or port == 0:
        raise _invalid(flag, f"{parts.netloc!r} is not a host name or an address, and a port")
    return f"http://{_bracketed(parts.hostname)}:{port}"


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _invalid(flag: str, reason: str) -> InvalidWorkerFlagError:
    shown = _PASSWORD.sub("***@", flag)
    return InvalidWorkerFlagError(f"--worker {shown!r}: {reason}")
