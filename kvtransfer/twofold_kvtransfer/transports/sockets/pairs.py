"""The pairs of a transport that are open."""

import threading
from typing import Generic, TypeVar

from twofold_kvtransfer.transports.port import Pair, PeerError

P = TypeVar("P", bound=Pair)


class Pairs(Generic[P]):
    """Closed with its transport; each pair says itself when it was closed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: set[P] = set()
        self._closed = False

    def __len__(self) -> int:
        with self._lock:
            return len(self._open)

    @property
    def ended_for(self) -> str | None:
        return "the transport was closed" if self._closed else None

    def check_open(self) -> None:
        """Raises:
        PeerError: the transport is closed.
        """
        if self._closed:
            raise PeerError("the transport is closed")

    def add(self, pair: P) -> None:
        with self._lock:
            self._open.add(pair)

    def forget(self, pair: P) -> None:
        with self._lock:
            self._open.discard(pair)

    def close(self) -> bool:
        """Close all; return False if that was done before."""
        if self._closed:
            return False
        self._closed = True
        with self._lock:
            pairs = list(self._open)
        for pair in pairs:
            pair.close("the transport was closed")
        return True
