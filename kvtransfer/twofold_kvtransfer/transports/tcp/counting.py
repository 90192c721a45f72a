"""What a TCP transport has done."""

import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from twofold_kvtransfer.transports.tcp.failing import Failure


@dataclass(frozen=True, slots=True)
class TcpSnapshot:
    bytes_sent: int
    """Of blocks, for both sides' transfers."""
    bytes_received: int
    done_count: int
    """Transfers that this side started, and that ended well."""
    failed_counts: Mapping[Failure, int]
    """Those that did not."""
    refused_count: int
    """Connections and requests of others that were turned away."""
    damaged_count: int
    """Runs of bytes received with a wrong checksum, for both sides' transfers."""
    open_pairs: int
    accepted_streams: int


class Counts:
    """Counted from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bytes_sent = 0
        self._bytes_received = 0
        self._done = 0
        self._failed: Counter[Failure] = Counter()
        self._refused = 0
        self._damaged = 0

    def sent(self, size_bytes: int) -> None:
        with self._lock:
            self._bytes_sent += size_bytes

    def received(self, size_bytes: int) -> None:
        with self._lock:
            self._bytes_received += size_bytes

    def ended(self, failure: Failure | None) -> None:
        with self._lock:
            if failure is None:
                self._done += 1
            else:
                self._failed[failure] += 1

    def refused(self) -> None:
        with self._lock:
            self._refused += 1

    def damaged(self) -> None:
        with self._lock:
            self._damaged += 1

    def snapshot(self, open_pairs: int, accepted_streams: int) -> TcpSnapshot:
        with self._lock:
            return TcpSnapshot(
                bytes_sent=self._bytes_sent,
                bytes_received=self._bytes_received,
                done_count=self._done,
                failed_counts=MappingProxyType(dict(self._failed)),
                refused_count=self._refused,
                damaged_count=self._damaged,
                open_pairs=open_pairs,
                accepted_streams=accepted_streams,
            )
