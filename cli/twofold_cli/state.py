"""What is known of the local cluster, and the directory where the supervisor keeps it."""

import contextlib
import enum
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from twofold_cli.errors import CannotStartError, NotRunningError
from twofold_cli.processes import ProcessId
from twofold_cluster.identity import Role

LOCK_TRIES = 5
LOCK_RETRY_SECONDS = 0.05
"""Who only looks whether the lock is taken holds it for an instant."""


class ClusterPhase(enum.StrEnum):
    STARTING = "starting"
    READY = "ready"
    DEGRADED = "degraded"
    """It was ready, and something of it is not now."""
    STOPPING = "stopping"
    FAILED = "failed"
    """It never became ready, and has ended."""


class Phase(enum.StrEnum):
    """Of one component or worker."""

    PENDING = "pending"
    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    DEAD = "dead"


class ComponentState(msgspec.Struct, frozen=True, kw_only=True):
    """One child of the supervisor."""

    name: str
    phase: Phase = Phase.PENDING
    message: str = ""
    restarts: int = 0
    process: ProcessId | None = None
    since: float = 0.0
    """Seconds since 1970 at which the phase began."""


class WorkerState(msgspec.Struct, frozen=True, kw_only=True):
    """One worker, as the pool manager tells of it."""

    worker_id: str
    role: Role
    phase: Phase
    message: str = ""
    restarts: int = 0
    address: str = ""
    pid: int = 0
    since: float = 0.0


class ClusterState(msgspec.Struct, frozen=True, kw_only=True):
    """The whole cluster; replaced as a whole at every change."""

    supervisor: ProcessId
    mark: str
    """Stands in the environment of every child, so that what nobody counted is found too."""
    service: str
    model: str
    served_name: str
    host: str
    port: int
    redis_url: str
    grpc_address: str
    started_at: float
    wants_keys: bool = False
    """Its router serves nobody without an API key."""
    phase: ClusterPhase = ClusterPhase.STARTING
    reason: str = ""
    """Why it failed, or what is degraded."""
    components: tuple[ComponentState, ...] = ()
    workers: tuple[WorkerState, ...] = ()
    processes: tuple[ProcessId, ...] = ()
    """All living descendants of the supervisor: what must be gone in the end."""
    shared_memory: tuple[str, ...] = ()
    """Files that they have mapped."""

    @property
    def endpoint(self) -> str:
        """Base URL for a client on this machine."""
        host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"


class StateDirectory:
    """The directory of one local cluster. Whoever holds its lock alone writes there."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.logs = path / "logs"
        self._file = path / "state.json"
        self._lock = path / "lock"

    def log(self, name: str) -> Path:
        return self.logs / f"{name}.log"

    def create(self) -> None:
        """Make the directory, its owner's alone: logs may tell what others should not read.

        Raises:
            CannotStartError: it cannot be written.
        """
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.logs.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise CannotStartError(
                f"cannot write to {self.path} ({error.strerror}); "
                "choose another place with TWOFOLD_STATE_DIR"
            ) from error

    def read(self) -> ClusterState | None:
        """Return the last state written, None if there is none or it is another version's."""
        try:
            return msgspec.json.decode(self._file.read_bytes(), type=ClusterState)
        except (FileNotFoundError, NotADirectoryError, msgspec.DecodeError):
            return None

    def running(self) -> ClusterState | None:
        """Return the state of the cluster that runs here, None if none does."""
        return self.read() if self.is_locked() else None

    def write(self, state: ClusterState) -> None:
        """Replace the state; a reader sees the one before or this one, never a half."""
        beside = self._file.with_suffix(".new")
        beside.write_bytes(msgspec.json.encode(state))
        os.replace(beside, self._file)

    def remove(self) -> None:
        self._file.unlink(missing_ok=True)

    def is_locked(self) -> bool:
        """Return whether a supervisor lives, or a command that is about to start one."""
        try:
            descriptor = os.open(self._lock, os.O_RDWR)
        except (FileNotFoundError, NotADirectoryError):
            return False
        try:
            return not _try_lock(descriptor)
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def locked(self) -> Iterator[int]:
        """Hold the lock; the descriptor may be passed to a child, which then holds it too.

        Raises:
            CannotStartError: another one holds it.
        """
        self.create()
        descriptor = os.open(self._lock, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            for _ in range(LOCK_TRIES):
                if _try_lock(descriptor):
                    break
                time.sleep(LOCK_RETRY_SECONDS)
            else:
                raise CannotStartError(_already_running(self.read()))
            yield descriptor
        finally:
            os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _already_running(state: ClusterState | None) -> str:
    where = f" at {state.endpoint}, serving {state.served_name}" if state is not None else ""
    return f"a cluster is already running{where}; stop it with: twofold down"


def running_cluster(directory: StateDirectory) -> ClusterState:
    """Return the cluster to talk to.

    Raises:
        NotRunningError: there is none.
    """
    state = directory.running()
    if state is None:
        raise NotRunningError("no cluster is running; start one with: twofold up")
    return state
