"""Transfers that a test holds up, and waiting for what a node tells."""

import threading
import time
from collections.abc import Callable
from typing import TypeVar

from tests.integration.kvtransfer.holders import WAIT_SECONDS

from twofold_kvtransfer.blocks import BlockMap, Move
from twofold_kvtransfer.transports import Pair, Transfer, TransferState, Transport

T = TypeVar("T")


class Gate:
    """What befalls a transfer: it begins when it may, and something happens when it has ended."""

    def __init__(self) -> None:
        self.may_begin = threading.Event()
        self.may_begin.set()
        self.was_shut = threading.Event()
        """Before a transfer that was to begin."""
        self.when_done: Callable[[], None] = lambda: None


class GatedTransfer:
    def __init__(self, begin: Callable[[], Transfer], gate: Gate, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        self._begin = begin
        self._gate = gate
        self._inner: Transfer | None = None
        self._was_done = False

    def poll(self) -> TransferState:
        if self._inner is None:
            if not self._gate.may_begin.is_set():
                self._gate.was_shut.set()
                return TransferState.MOVING
            self._inner = self._begin()
        state = self._inner.poll()
        if state is TransferState.DONE and not self._was_done:
            self._was_done = True
            self._gate.when_done()
        return state

    @property
    def reason(self) -> str | None:
        return None if self._inner is None else self._inner.reason

    @property
    def seconds(self) -> float:
        return 0.0 if self._inner is None else self._inner.seconds

    def cancel(self) -> None:
        if self._inner is not None:
            self._inner.cancel()


class GatedPair:
    def __init__(self, inner: Pair, gate: Gate, block_bytes: int) -> None:
        self._inner = inner
        self._gate = gate
        self._block_bytes = block_bytes

    def read(self, move: Move) -> GatedTransfer:
        size_bytes = len(move.local) * self._block_bytes
        return GatedTransfer(lambda: self._inner.read(move), self._gate, size_bytes)

    def write(self, move: Move) -> Transfer:
        raise NotImplementedError

    def close(self, reason: str) -> None:
        self._inner.close(reason)


class GatedTransport:
    """A transport whose transfers pass a gate."""

    def __init__(self, inner: Transport) -> None:
        self.name = inner.name
        self.checks_integrity = inner.checks_integrity
        self.gate = Gate()
        self._inner = inner

    @property
    def ended_for(self) -> str | None:
        return self._inner.ended_for

    def describe(self) -> bytes:
        return self._inner.describe()

    def open(self, description: bytes, remote: BlockMap) -> GatedPair:
        pair = self._inner.open(description, remote)
        return GatedPair(pair, self.gate, remote.bytes_per_block)

    def close(self) -> None:
        self._inner.close()


def only(take: Callable[[], list[T]]) -> T:
    """Take results until there is one, and no more than one."""
    taken: list[T] = []

    def look() -> list[T]:
        taken.extend(take())
        return taken

    wait_until(look)
    assert len(taken) == 1
    return taken[0]


def wait_until(what: Callable[[], object]) -> None:
    give_up_at = time.monotonic() + WAIT_SECONDS
    while not what():
        assert time.monotonic() < give_up_at
        time.sleep(0.001)
