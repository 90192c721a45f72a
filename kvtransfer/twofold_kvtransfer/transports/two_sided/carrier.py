"""The thread of a pair, which carries its transfers over a line to the peer."""

import logging
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass

from twofold_kvtransfer.transports.tcp.connection import Address
from twofold_kvtransfer.transports.tcp.failing import Failure, TransferError
from twofold_kvtransfer.transports.tcp.wire import Direction, Hello, Request, encode_request
from twofold_kvtransfer.transports.two_sided.line import OPENER_RANK, Line
from twofold_kvtransfer.transports.two_sided.moving import course, read, write
from twofold_kvtransfer.transports.two_sided.settings import TwoSidedSettings
from twofold_kvtransfer.transports.two_sided.transfer import TwoSidedTransfer

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Job:
    transfer: TwoSidedTransfer
    request: Request
    local: tuple[int, ...]
    remote: tuple[int, ...]


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

    def __init__(self, ends: Ends, take: Callable[[], Job | None]) -> None:
        """*take* waits for the next job; None ends the thread."""
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
        settings = self._ends.settings
        try:
            sock = socket.socket(family, socket.SOCK_STREAM)
        except OSError as error:
            raise TransferError(Failure.PEER_LOST, f"no socket: {error}") from error
        line = self._ends.make_line(sock)
        with self._lock:
            self._line = line
            if self._cut:
                raise TransferError(Failure.CLOSED, "the pair was closed")
        connection = line.control.connection
        connection.connect(address, settings.connect_seconds)
        connection.limit_waits(settings.connect_seconds)
        connection.send_bytes(Hello(self._ends.key).encode())
        line.control.expect_ok()
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
        while (job := self._take()) is not None:
            if job.transfer.is_wanted:
                self._carry(job)
        self.disconnect()

    def _carry(self, job: Job) -> None:
        try:
            self._exchange(self.connect(), job)
        except TransferError as error:
            # Who polls need not wait until a library has given back what it holds.
            job.transfer.fail(error.failure, str(error))
            self.disconnect()
        except Exception:  # noqa: BLE001 - an edge: who polls has to hear of it
            _log.exception("a pair failed")
            reason = f"{Failure.PROTOCOL}: an error on this side, see its log"
            job.transfer.fail(Failure.PROTOCOL, reason)
            self.disconnect()

    def _exchange(self, line: Line, job: Job) -> None:
        head, ids, digest = encode_request(job.request, job.remote)
        line.control.connection.send_bytes(head, ids)
        line.control.expect_ok()
        moving = course(line, job.request, digest, job.local, (0, line.blocks.block_bytes))
        if job.request.direction is Direction.READ:
            read(moving, job.transfer)
        else:
            write(moving, job.transfer)
