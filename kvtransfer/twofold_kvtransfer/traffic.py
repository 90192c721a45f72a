"""What has moved over a link, and how fast."""

import statistics
from collections import deque
from dataclasses import dataclass

from twofold_kvtransfer.transports import Transfer, TransferState, payload_bytes_of

RECENT_COUNT = 32
"""Transfers that the measured bandwidth is of."""


@dataclass(frozen=True, slots=True)
class TrafficSnapshot:
    """Bytes and seconds are of the transfers that are done; transfers may overlap."""

    done_count: int
    failed_count: int
    read_bytes: int
    read_seconds: float
    bytes_per_second: float | None
    """Of blocks, whether coded or not. None: nothing has moved yet."""
    payload_bytes: int = 0
    """What was moved in place of ``read_bytes``; fewer if some were coded."""


class Traffic:
    """Counts transfers that have ended."""

    def __init__(self) -> None:
        self._done_count = 0
        self._failed_count = 0
        self._read_bytes = 0
        self._read_seconds = 0.0
        self._payload_bytes = 0
        self._recent: deque[float] = deque(maxlen=RECENT_COUNT)

    def note(self, transfer: Transfer) -> None:
        """Count *transfer*; one that is abandoned while it moves counts as failed."""
        if transfer.poll() is not TransferState.DONE:
            self._failed_count += 1
            return
        self._done_count += 1
        self._read_bytes += transfer.size_bytes
        self._read_seconds += transfer.seconds
        self._payload_bytes += payload_bytes_of(transfer)
        if transfer.size_bytes and transfer.seconds > 0:
            self._recent.append(transfer.size_bytes / transfer.seconds)

    def snapshot(self) -> TrafficSnapshot:
        """The bandwidth is the median of the last: one that waited for a core does not shift it."""
        return TrafficSnapshot(
            self._done_count,
            self._failed_count,
            self._read_bytes,
            self._read_seconds,
            statistics.median(self._recent) if self._recent else None,
            self._payload_bytes,
        )
