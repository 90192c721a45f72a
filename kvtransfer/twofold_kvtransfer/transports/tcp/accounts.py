"""What the stages of one transfer took."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType


class BusyTime:
    """The time in which at least one was inside: a thread as a context, or a job from ``begin`` to
    ``end``, which may be called in different threads."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._inside = 0
        self._since = 0.0
        self._seconds = 0.0

    @property
    def seconds(self) -> float:
        """Until now, if somebody is inside."""
        with self._lock:
            return self._seconds + (self._clock() - self._since if self._inside else 0.0)

    def __enter__(self) -> None:
        self.begin()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.end()

    def begin(self) -> None:
        with self._lock:
            if not self._inside:
                self._since = self._clock()
            self._inside += 1

    def end(self) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._seconds += self._clock() - self._since


@dataclass(frozen=True, slots=True)
class Stages:
    """Seconds are those in which any stream was at it, or its jobs waited for a thread."""

    payload_bytes: int
    encode_seconds: float = 0.0
    """As the peer says."""
    move_seconds: float = 0.0
    decode_seconds: float = 0.0
    held_up_seconds: float = 0.0
    """In which a stream received nothing because its payloads waited to be decoded. What arrived
    meanwhile was received in no time afterwards."""
    is_coded: bool = False
    """Whether any payload came; else the transfer went wholly as it lies."""
    is_mixed: bool = False
    """Whether a share went otherwise than was chosen."""


class Account:
    """Of one transfer; its streams write into it, each in a thread of its own."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.moving = BusyTime(clock)
        self.decoding = BusyTime(clock)
        self.held_up = BusyTime(clock)
        self._lock = threading.Lock()
        self._payload_bytes = 0
        self._encode_seconds = 0.0
        self._is_coded = False
        self._is_mixed = False

    def moved(self, payload_bytes: int) -> None:
        with self._lock:
            self._payload_bytes += payload_bytes

    def encoded(self, seconds: float) -> None:
        """Note what the peer took for one share, at the same time as for the others."""
        with self._lock:
            self._is_coded = True
            self._encode_seconds = max(self._encode_seconds, seconds)

    def mix(self) -> None:
        """Note that a share goes as it lies, though a codec was chosen."""
        self._is_mixed = True

    def stages(self) -> Stages:
        with self._lock:
            return Stages(
                self._payload_bytes,
                self._encode_seconds,
                self.moving.seconds,
                self.decoding.seconds,
                self.held_up.seconds,
                self._is_coded,
                self._is_mixed,
            )
