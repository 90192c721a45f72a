"""How one worker is started; the same on a command line and between processes."""

import argparse
import dataclasses
import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

from twofold_cluster.identity import Incarnation, Role, WorkerId, new_incarnation
from twofold_kvtransfer.settings import (
    CompressionName,
    ConnectorName,
    TransportName,
    host_and_port,
)

MOVERS: Mapping[str, tuple[str, ...]] = {
    "connector": get_args(ConnectorName),
    "transport": get_args(TransportName),
    "compression": get_args(CompressionName),
}
"""What can be said of how blocks move."""

REDIS_ENV = "TWOFOLD_REDIS_URL"

MAX_DIRECTORY_HOLDINGS = 1_000_000_000
"""At least 26 GB of Redis: more is a slip of the finger."""

_NOT_OPTIONS = ("engine_args", "redis")


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSettings:
    """Each field is a command line option of the same name."""

    service: str
    worker_id: WorkerId
    role: Role
    model: str
    """A directory or a hub's name, as vLLM takes it."""
    served_name: str
    """What clients send as ``model``."""
    revision: str = "1"
    incarnation: Incarnation = dataclasses.field(default_factory=new_incarnation)
    redis: str | None = None
    """URL of the Redis to announce in; None: serve without being announced. It may hold a
    password, so that it goes to another process by the environment (``REDIS_ENV``)."""
    host: str = "127.0.0.1"
    """Where to listen, and the address that others are told: a pod's own, not a wildcard."""
    port: int = 0
    """0: one that is free."""
    tensor_parallel: int = 1
    threads: int = 1
    """OpenMP threads of a CPU engine. One each lets two engines share two cores."""
    kv_cache_gib: float = 1.0
    """KV cache of a CPU engine, where vLLM would claim nearly all memory for itself. On a GPU
    vLLM takes what is free."""
    max_unprefilled: int = 64
    """Requests in a prefill worker that have no first token yet. A router bounds what it sends by
    tokens; this is for several of them, and for those that do not."""
    max_in_flight: int = 256
    """Requests in a decode worker; vLLM's own default for sequences in a batch."""
    connector: str = "nixl"
    """What moves cache blocks: vLLM's NixlConnector (``nixl``), or ours (``twofold``)."""
    transport: str = "nixl"
    """What ``twofold`` moves them over: ``nixl``, ``tcp`` or ``nccl``."""
    compression: str = "off"
    """What ``tcp`` may code blocks with where that is quicker: the roughest codec allowed."""
    unverified: bool = False
    """Have ``twofold`` not compare what it moved with what was sent."""
    lease_seconds: int = 30
    """How long a prefill worker keeps blocks that nobody fetches."""
    rdma: bool = False
    """Blocks are to cross the network by RDMA. Where they would not, the worker serves all the
    same, and says so in its log and to its supervisor."""
    kv_events: bool = False
    """Publish what the cache holds, so that the routers need not guess it. Costs the engine an
    encoding of every token it stores, and shows these to all who reach its host."""
    directory_holdings: int | None = None
    """Most that the service's block directory lists, one block in one tier of one worker being
    one; None: its own limit. All workers of a service should have the same."""
    node: str = dataclasses.field(default_factory=socket.gethostname)
    zone: str = ""
    standby: bool = False
    """Take no new requests until told otherwise; announced so from the first moment."""
    events_fd: int | None = None
    """Where to write progress for a supervisor; None: nobody listens."""
    parent_pid: int | None = None
    """The process to end with; None: outlive whoever started it."""
    engine_args: tuple[str, ...] = ()
    """vLLM's own command line arguments, after ours, so that they win."""

    def __post_init__(self) -> None:
        for name in ("tensor_parallel", "threads", "max_unprefilled", "max_in_flight"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        for name, known in MOVERS.items():
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be {' or '.join(known)}, not {getattr(self, name)}")
        if lack := compression_lack(self.compression, self.connector, self.transport):
            raise ValueError(lack)
        if self.lease_seconds < 6:
            raise ValueError("lease_seconds must be at least 6: a heartbeat is a sixth of it")
        if lack := holdings_lack(self.directory_holdings):
            raise ValueError(lack)
        if self.kv_cache_gib <= 0:
            raise ValueError(f"kv_cache_gib must be more than 0, not {self.kv_cache_gib}")

    def url(self, port: int) -> str:
        """Return where others reach the worker that listens on *port*."""
        return f"http://{host_and_port(self.host, port)}"


def compression_lack(compression: str, connector: str, transport: str) -> str | None:
    """Return why blocks would not be compressed though they should be; None: nothing is wrong."""
    if compression == "off" or (connector, transport) == ("twofold", "tcp"):
        return None
    return (
        f"compression {compression} needs connector twofold and transport tcp,"
        f" not {connector} and {transport}"
    )


def holdings_lack(directory_holdings: int | None) -> str | None:
    """Return why a directory cannot be bounded so; None: it can."""
    if directory_holdings is None or 1 <= directory_holdings <= MAX_DIRECTORY_HOLDINGS:
        return None
    return f"directory_holdings must be 1 to {MAX_DIRECTORY_HOLDINGS}, not {directory_holdings}"


def to_argv(settings: WorkerSettings) -> list[str]:
    """Return the options that :func:`from_argv` reads back as *settings*, but for ``redis``."""
    argv: list[str] = []
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if isinstance(value, bool):
            argv += [_option(field.name)] if value else []
        elif field.name not in _NOT_OPTIONS and value is not None:
            argv += [_option(field.name), str(value)]
    return [*argv, "--", *settings.engine_args]


def from_argv(argv: Sequence[str], *, module: str, role: Role) -> WorkerSettings:
    """Read a worker's options; *role* is what it is unless they say otherwise.

    Raises:
        SystemExit: an option is missing or wrong; argparse has said which.
    """
    parser = _parser(module, role)
    options = vars(parser.parse_args(argv))
    options["served_name"] = options["served_name"] or options["model"]
    options["engine_args"] = tuple(options["engine_args"])
    given = {name: value for name, value in options.items() if value is not None}
    try:
        return WorkerSettings(**given)
    except ValueError as error:
        parser.error(str(error))


def _parser(module: str, role: Role) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"python -m {module}",
        description=f"Serve one vLLM engine as a {role} worker.",
        epilog="Arguments after -- go to vLLM as they are.",
    )
    parser.add_argument("--service", default="local", help="the service it belongs to")
    parser.add_argument("--worker-id", type=WorkerId, default=f"{role}-{os.getpid()}")
    parser.add_argument("--role", type=Role, default=role, choices=list(Role))
    parser.add_argument("--model", required=True, help="a directory or a hub's name")
    parser.add_argument("--served-name", help="what clients send as model; default: --model")
    parser.add_argument("--revision")
    parser.add_argument("--incarnation", type=Incarnation, help=argparse.SUPPRESS)
    parser.add_argument(
        "--redis",
        default=os.environ.get(REDIS_ENV),
        help=f"URL; default: {REDIS_ENV}; without one the worker is not announced",
    )
    parser.add_argument("--host", help="the address to listen on and to be reached at")
    parser.add_argument("--port", type=int, help="default: one that is free")
    parser.add_argument("--tensor-parallel", type=int)
    parser.add_argument("--threads", type=int, help="OpenMP threads of a CPU engine")
    parser.add_argument("--kv-cache-gib", type=float, help="KV cache of a CPU engine")
    parser.add_argument("--max-unprefilled", type=int, help="a prefill worker refuses beyond this")
    parser.add_argument("--max-in-flight", type=int, help="a decode worker refuses beyond this")
    parser.add_argument("--connector", choices=MOVERS["connector"], help="what moves cache blocks")
    parser.add_argument(
        "--transport", choices=MOVERS["transport"], help="what --connector twofold uses"
    )
    parser.add_argument(
        "--compression", choices=MOVERS["compression"], help="what --transport tcp may code with"
    )
    parser.add_argument(
        "--unverified",
        action="store_true",
        help="have --connector twofold not compare what it moved with what was sent",
    )
    parser.add_argument("--lease-seconds", type=int, help="how long unfetched blocks are kept")
    parser.add_argument("--rdma", action="store_true", help="warn where blocks do not go by RDMA")
    parser.add_argument("--kv-events", action="store_true", help="publish what the cache holds")
    parser.add_argument(
        "--directory-holdings",
        type=int,
        metavar="N",
        help="most that the block directory of the service lists; the same for all its workers",
    )
    parser.add_argument("--node", help="default: the host's name")
    parser.add_argument("--zone")
    parser.add_argument("--standby", action="store_true", help="take no new requests at first")
    parser.add_argument("--events-fd", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--parent-pid", type=int, help=argparse.SUPPRESS)
    parser.add_argument("engine_args", nargs="*", metavar="VLLM_ARG")
    return parser


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")
