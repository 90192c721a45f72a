"""Pairs for tests, and the end of their transfers."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

import msgspec
from tests.integration.transports.factories import Kind, Make
from tests.integration.transports.peers import Geometry, Introduction, PeerProcess

from twofold_kvtransfer.blocks import BlockMap, Move
from twofold_kvtransfer.transports import Pair, Transfer, TransferState, Transport
from twofold_kvtransfer.transports.testing import Fault, HostBlocks, MemoryTransport, host_blocks

END_SECONDS = 60.0
"""For a transfer of a test. It is far more than any needs: a bound, not a measurement."""
BEGIN_SECONDS = 0.1
"""When it is too short, a test passes that should have looked at more."""

S = TypeVar("S")
T = TypeVar("T", bound=Transport)


@dataclass(frozen=True, slots=True)
class Two(Generic[T]):
    """Two transports in this process."""

    here: T
    there: T
    local: HostBlocks
    remote: HostBlocks


@contextmanager
def two_of(
    make: Callable[[HostBlocks, S | None], T],
    here: S | None,
    there: S | None,
    geometry: Geometry | None,
) -> Iterator[Two[T]]:
    """Yield two that *make* makes of blocks and settings, with no pair yet."""
    shape = geometry or Geometry(regions=2, blocks=8, block_bytes=20_000, seed=1)
    local, remote = msgspec.structs.replace(shape, seed=2).make(), shape.make()
    ends = Two(make(local, here), make(remote, there), local, remote)
    try:
        yield ends
    finally:
        ends.here.close()
        ends.there.close()


@dataclass(frozen=True, slots=True)
class Ends:
    """Two transports in this process, with the pair that *here* has of *there*."""

    here: Transport
    there: Transport
    local: HostBlocks
    remote: HostBlocks
    pair: Pair


@contextmanager
def joined(
    make: Make, local: HostBlocks, remote: HostBlocks, part: BlockMap | None = None
) -> Iterator[Ends]:
    """Yield both ends; *part* is what *here* takes of the remote blocks, default all."""
    here, there = make(local), make(remote)
    try:
        # Some transports need both sides at once to make a pair, each then of what the other has.
        whole = part is None or part == remote.map
        with ThreadPoolExecutor(1) as other:
            opened = other.submit(there.open, here.describe(), local.map) if whole else None
            pair = here.open(there.describe(), part or remote.map)
            if opened is not None:
                opened.result(END_SECONDS)
        yield Ends(here, there, local, remote, pair)
    finally:
        here.close()
        there.close()


@dataclass(frozen=True, slots=True)
class FarEnds:
    """A transport here, with a pair of a peer in another process."""

    here: Transport
    local: HostBlocks
    remote: HostBlocks
    pair: Pair
    peer: PeerProcess


@contextmanager
def joined_to_process(name: str, kind: Kind, geometry: Geometry) -> Iterator[FarEnds]:
    local = host_blocks(geometry.regions, geometry.blocks, geometry.block_bytes)
    here = kind.new_make()(local)
    peer = PeerProcess(name, geometry)
    try:
        peer.meet(Introduction(here.describe(), local.map))
        pair = here.open(peer.introduction.description, peer.map)
        peer.wait_until_met()
        yield FarEnds(here, local, peer.blocks, pair, peer)
    finally:
        here.close()
        peer.close()


@dataclass(frozen=True, slots=True)
class Stuck:
    """A pair whose next transfer does not end by itself."""

    here: Transport
    pair: Pair
    local: HostBlocks
    remote: HostBlocks
    peer: PeerProcess | None

    def go_on(self) -> None:
        """Let the transfers after that one end."""
        if self.peer is not None:
            self.peer.go_on()


@contextmanager
def stuck(name: str, kind: Kind, geometry: Geometry) -> Iterator[Stuck]:
    if kind.reaches_processes:
        with joined_to_process(name, kind, geometry) as far:
            if kind.is_one_sided:
                # It needs the peer's help until both sides have connected, and no longer.
                finish(far.pair.read(Move((0,), (0,))))
            far.peer.stand_still()
            yield Stuck(far.here, far.pair, far.local, far.remote, far.peer)
    else:
        remote = geometry.make()
        local = host_blocks(geometry.regions, geometry.blocks, geometry.block_bytes)
        with joined(kind.new_make(), local, remote) as ends:
            assert isinstance(ends.here, MemoryTransport)
            ends.here.inject(Fault.HANG)
            yield Stuck(ends.here, ends.pair, local, remote, None)


def finish(transfer: Transfer) -> TransferState:
    """Poll *transfer* to its end."""
    give_up_at = time.monotonic() + END_SECONDS
    while (state := transfer.poll()) is TransferState.MOVING:
        if time.monotonic() > give_up_at:
            raise TimeoutError(f"a transfer of {transfer.size_bytes} bytes does not end")
        time.sleep(0.0005)
    return state


def kind_of(transfer: Transfer) -> str:
    """Return the kind of failure that *transfer* ends with."""
    assert finish(transfer) is TransferState.FAILED
    return (transfer.reason or "").split(":")[0]


def let_begin(transfer: Transfer) -> None:
    """Give threads, if a transport has some, the time to have begun with *transfer*."""
    give_up_at = time.monotonic() + BEGIN_SECONDS
    while transfer.poll() is TransferState.MOVING and time.monotonic() < give_up_at:
        time.sleep(0.001)


def wait_until(holds: Callable[[], bool]) -> None:
    give_up_at = time.monotonic() + END_SECONDS
    while not holds():
        if time.monotonic() > give_up_at:
            raise TimeoutError(f"{holds} does not come true")
        time.sleep(0.001)
