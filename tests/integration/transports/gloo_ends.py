"""Two transports over gloo for tests of what is their own, and a gloo that can be steered."""

import threading
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import cast

from tests.integration.transports.ends import Two, two_of
from tests.integration.transports.peers import Geometry

from twofold_kvtransfer.blocks import BlockMap
from twofold_kvtransfer.communicators.gloo import GlooCommunicator, GlooLibrary
from twofold_kvtransfer.transports import Transport
from twofold_kvtransfer.transports.testing import HostBlocks
from twofold_kvtransfer.transports.two_sided import (
    Cells,
    Limits,
    Mailbox,
    TwoSidedSettings,
    TwoSidedTransport,
)

HOST = "127.0.0.1"
LARGE = Geometry(regions=8, blocks=64, block_bytes=131_072, seed=1)
"""64 MiB, 16 chunks."""
ALL = tuple(range(64))
BOUND_SECONDS = 30.0


class SteeredGloo(GlooLibrary):
    """Can flip bits of what arrives, and stop before the second chunk of a read is looked at."""

    def __init__(self) -> None:
        super().__init__(HOST)
        self.flips_left = 0
        self.arrived_count = 0
        """Chunks, since the last ``stop_in_the_middle``."""
        self._is_stopped = threading.Event()
        self._may_go_on = threading.Event()
        self._may_go_on.set()

    @classmethod
    def of(cls, transport: Transport) -> "SteeredGloo":
        library = cast("TwoSidedTransport", transport)._library
        assert isinstance(library, cls)
        return library

    def join(
        self, rank: int, mailbox: Mailbox, blocks: BlockMap, buffer_bytes: int, limits: Limits
    ) -> GlooCommunicator:
        communicator = super().join(rank, mailbox, blocks, buffer_bytes, limits)
        load, checksum = communicator.load, communicator.checksum
        loaded: set[int] = set()

        def load_and_tell(slot: int, cells: Cells) -> None:
            loaded.add(slot)
            load(slot, cells)

        def look(slot: int, size_bytes: int, seed: int) -> int:
            if slot in loaded:  # it is to be sent, and did not arrive
                loaded.remove(slot)
                return checksum(slot, size_bytes, seed)
            self.arrived_count += 1
            if self.arrived_count == 2:
                self._is_stopped.set()
                assert self._may_go_on.wait(BOUND_SECONDS)
            if self.flips_left:
                self.flips_left -= 1
                communicator._slots[slot][5] ^= 1
            return checksum(slot, size_bytes, seed)

        communicator.load = load_and_tell
        communicator.checksum = look
        return communicator

    def stop_in_the_middle(self) -> None:
        """Let the next transfer stop there."""
        self.arrived_count = 0
        self._is_stopped.clear()
        self._may_go_on.clear()

    def wait_until_stopped(self) -> None:
        assert self._is_stopped.wait(BOUND_SECONDS)

    def go_on(self) -> None:
        self._may_go_on.set()


def two(
    here: TwoSidedSettings | None = None,
    there: TwoSidedSettings | None = None,
    geometry: Geometry | None = None,
) -> AbstractContextManager[Two[TwoSidedTransport]]:
    return two_of(over_gloo, here, there, geometry)


def over_gloo(blocks: HostBlocks, settings: TwoSidedSettings | None = None) -> TwoSidedTransport:
    """Make one that also lets peers write."""
    serving = replace(settings or TwoSidedSettings(), serves_writes=True)
    return TwoSidedTransport(blocks.map, SteeredGloo(), serving)


def threads_of_pairs() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name == "kv-two-sided-pair"]
