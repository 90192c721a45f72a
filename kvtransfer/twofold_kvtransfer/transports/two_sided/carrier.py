"""The thread of a pair, which carries its transfers over a line to the peer."""

import logging
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass

from twofold_kvtransfer.transports.sockets.connection import Address, open_socket
from twofold_kvtransfer.transports.sockets.conversation import expect, introduce
from twofold_kvtransfer.transports.sockets.failing import Failure, TransferError
from twofold_kvtransfer.transports.sockets.waiting import Share
from twofold_kvtransfer.transports.sockets.wire import Direction, Verdict, encode_request
from twofold_kvtransfer.transports.two_sided.line import OPENER_RANK, Line
from twofold_kvtransfer.transports.two_sided.moving import course, read, write
from twofold_kvtransfer.transports.two_sided.settings import TwoSidedSettings
from twofold_kvtransfer.transports.two_sided.transfer import TwoSidedTransfer

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Ends:
    """The two ends of a pair's line."""

    address: Address
    key: bytes
    """The peer's."""
    make_line: Callable[[socket.socket], Line]
    settings: TwoSidedSettings


class Carrier:
    """Makes its line once, and again only when it has failed."""

    def __init__(self, ends: Ends, take: Callable[[], Share[TwoSidedTransfer] | None]) -> None:
        """*take* waits for the next transfer; None ends the thread."""
        self._ends = ends
        self._take = take
        self._lock = threading.Lock()
        self._line: Line | None = None
        self._cut = False
        self.thread = threading.Thread(target=self._work, name="kv-two-sided-pair", daemon=True)

    def connect(self) -> Line:
        """Return a line on which the peer awaits requests.

        Raises:
            TransferError: nobody is there, it refuses, or the carrier was cut.
        """
        if self._line is not None and self._line.control.connection.is_usable():
            return self._line
        self.disconnect()
        family, address = self._ends.address
        line = self._ends.make_line(open_socket(family))
        with self._lock:
            self._line = line
            if self._cut:
                raise TransferError(Failure.CLOSED, "the pair was closed")
        seconds = self._ends.settings.connect_seconds
        introduce(line.control.connection, address, self._ends.key, seconds)
        line.join(OPENER_RANK)
        return line

    def disconnect(self) -> None:
        with self._lock:
            line, self._line = self._line, None
        if line is not None:
            line.close()

    def cut(self) -> None:
        """End what it is at, for good."""
        with self._lock:
            self._cut = True
            if self._line is not None:
                self._line.cut()

    def _work(self) -> None:
        while (share := self._take()) is not None:
            if share.transfer.is_wanted:
                self._carry(share)
        self.disconnect()

    def _carry(self, share: Share[TwoSidedTransfer]) -> None:
        try:
            self._exchange(self.connect(), share)
        except TransferError as error:
            # Who polls need not wait until a library has given back what it holds.
            share.transfer.fail(error.failure, str(error))
            self.disconnect()
        except Exception:  # noqa: BLE001 - an edge: who polls has to hear of it
            _log.exception("a pair failed")
            reason = f"{Failure.PROTOCOL}: an error on this side, see its log"
            share.transfer.fail(Failure.PROTOCOL, reason)
            self.disconnect()

    def _exchange(self, line: Line, share: Share[TwoSidedTransfer]) -> None:
        head, ids, digest = encode_request(share.request, share.remote)
        line.control.connection.send_bytes(head, ids)
        expect(line.control.connection, Verdict.OK)
        moving = course(line, share.request, digest, share.local, (0, line.blocks.block_bytes))
        if share.request.direction is Direction.READ:
            read(moving, share.transfer)
        else:
            write(moving, share.transfer)
