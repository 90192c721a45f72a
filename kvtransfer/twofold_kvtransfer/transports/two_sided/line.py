"""A control connection with the communicator beside it: one side of a pair's way to its peer."""

import socket
import threading

from twofold_kvtransfer.blocks import BlockMap
from twofold_kvtransfer.transports.sockets.failing import Failure, TransferError
from twofold_kvtransfer.transports.sockets.wire import MAX_RUN_CELLS
from twofold_kvtransfer.transports.two_sided.control import Control
from twofold_kvtransfer.transports.two_sided.port import Communicator, Library
from twofold_kvtransfer.transports.two_sided.settings import TwoSidedSettings

OPENER_RANK = 1
ACCEPTER_RANK = 0


def chunk_cells_for(cell_bytes: int, library: Library) -> int:
    """Return how many cells of *cell_bytes* go through a buffer at once."""
    return max(1, min(MAX_RUN_CELLS, library.chunk_bytes // cell_bytes))


class Line:
    """One thread uses it and closes it; any may cut it."""

    def __init__(
        self,
        sock: socket.socket,
        library: Library,
        blocks: BlockMap,
        settings: TwoSidedSettings,
    ) -> None:
        """*blocks* are those of this side."""
        self.control = Control(sock, settings.idle_seconds)
        self.blocks = blocks
        self.library = library
        self.buffer_bytes = max(library.chunk_bytes, blocks.block_bytes)
        self._settings = settings
        self._lock = threading.Lock()
        self._cut = False
        self._communicator: Communicator | None = None

    @property
    def communicator(self) -> Communicator:
        assert self._communicator is not None, "not joined yet"
        return self._communicator

    def join(self, rank: int) -> None:
        """Make the communicator, and move a byte each way, so that the first transfer finds all
        connections made.

        Raises:
            TransferError: the peer has gone or takes too long, the line was cut, or the library
                lacks something here.
        """
        try:
            self._join(rank)
        except (RuntimeError, MemoryError, OSError) as error:
            text = f"{self.library.name} cannot be used: {error}"
            raise TransferError(Failure.PROTOCOL, text) from error

    def cut(self) -> None:
        """End it for both sides: who waits here wakes up and fails."""
        self.control.connection.cut()
        with self._lock:
            self._cut = True
            if self._communicator is not None:
                self._communicator.cut()

    def close(self) -> None:
        self.cut()
        with self._lock:
            communicator, self._communicator = self._communicator, None
        try:
            if communicator is not None:
                communicator.close()
        finally:
            self.control.connection.close()

    def _join(self, rank: int) -> None:
        settings = self._settings
        self.control.connection.limit_waits(settings.connect_seconds)
        communicator = self.library.join(
            rank, self.control, self.blocks, self.buffer_bytes, settings.limits
        )
        with self._lock:
            self._communicator = communicator
            if self._cut:
                raise TransferError(Failure.PEER_LOST, "the line was cut")
        for sender in (OPENER_RANK, ACCEPTER_RANK):
            move = communicator.send if rank == sender else communicator.receive
            move(0, 1).wait()
        self.control.connection.limit_waits(settings.idle_seconds)
