"""What a TCP transport has done."""

import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from twofold_kvtransfer.codecs import CodecName
from twofold_kvtransfer.transports.sockets.failing import Failure
from twofold_kvtransfer.transports.tcp.accounts import Stages


@dataclass(frozen=True, slots=True)
class CodecCounts:
    """Transfers that this side started, that ended well, and of which any payload was made by one
    codec. Of ``none``: all that went wholly as they lie."""

    done_count: int = 0
    size_bytes: int = 0
    """Of the blocks, as they lie."""
    payload_bytes: int = 0
    """Of what was moved in their place."""
    encode_seconds: float = 0.0
    """Of each transfer, while any of its streams was at it or waited for a thread; the stages
    overlap."""
    move_seconds: float = 0.0
    decode_seconds: float = 0.0

    def plus(self, size_bytes: int, stages: Stages) -> "CodecCounts":
        return CodecCounts(
            self.done_count + 1,
            self.size_bytes + size_bytes,
            self.payload_bytes + stages.payload_bytes,
            self.encode_seconds + stages.encode_seconds,
            self.move_seconds + stages.move_seconds,
            self.decode_seconds + stages.decode_seconds,
        )


@dataclass(frozen=True, slots=True)
class TcpSnapshot:
    bytes_sent: int
    """Of blocks, or of payloads in place of them, for both sides' transfers."""
    bytes_received: int
    done_count: int
    """Transfers that this side started, and that ended well."""
    failed_counts: Mapping[Failure, int]
    """Those that did not."""
    refused_count: int
    """Connections and requests of others that were turned away, or ended by an error here."""
    damaged_count: int
    """Requests, runs, payloads and their heads received with a wrong checksum, for both sides'
    transfers."""
    open_pairs: int
    accepted_streams: int
    codec_counts: Mapping[CodecName, CodecCounts]
    """Of each codec that was used, ``none`` among them."""


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
        self._codecs: dict[CodecName, CodecCounts] = {}

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

    def coded(self, codec: CodecName, size_bytes: int, stages: Stages) -> None:
        """Count a transfer that ended well."""
        with self._lock:
            before = self._codecs.get(codec, CodecCounts())
            self._codecs[codec] = before.plus(size_bytes, stages)

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
                codec_counts=MappingProxyType(dict(self._codecs)),
            )
