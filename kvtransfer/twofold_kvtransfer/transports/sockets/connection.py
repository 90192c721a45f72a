"""One TCP connection, with a bound on every wait."""

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from twofold_kvtransfer.transports.port import PeerError
from twofold_kvtransfer.transports.sockets.failing import Failure, TransferError
from twofold_kvtransfer.vanishing import notice_vanished_host

Address = tuple[socket.AddressFamily, Any]
"""Of a peer, resolved: the family and what the socket calls take."""

_SHORTEST_WAIT_SECONDS = 0.001
"""The kernel takes a limit of no seconds for none."""


class Connection:
    """One thread uses it and closes it; any may cut it.

    The socket is a blocking one with timeouts in the kernel. A run of bytes is then one system
    call, and the thread asks for the interpreter's lock once for it, not once for each wake-up.
    """

    def __init__(
        self,
        sock: socket.socket,
        idle_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._socket = sock
        self._clock = clock
        self._give_up_at: float | None = None
        self._cut = threading.Event()
        # Else a cut might reach the next file that has the number of the one just closed.
        self._closing = threading.Lock()
        sock.setblocking(True)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        notice_vanished_host(sock, idle_seconds)
        self.limit_waits(idle_seconds)

    def limit_waits(self, seconds: float) -> None:
        """Fail from now on what takes *seconds* without a byte sent or received."""
        whole, rest = divmod(seconds, 1)
        timeval = struct.pack("@ll", int(whole), int(rest * 1_000_000))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeval)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, timeval)

    @contextlib.contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """Fail what is not sent and received in here when *seconds* are over, also if its bytes
        come one by one. What comes later may wait as long each time, until it is limited otherwise.
        """
        self._give_up_at = self._clock() + seconds
        try:
            yield
        finally:
            self._give_up_at = None
        self.limit_waits(seconds)

    def connect(self, address: Any, seconds: float) -> None:
        """Raises:
        TransferError: nobody is there.
        """
        try:
            self._socket.settimeout(seconds)
            self._socket.connect(address)
            self._socket.setblocking(True)
        except OSError as error:
            raise TransferError(Failure.PEER_LOST, f"no connection: {error}") from error

    def send(self, buffers: list[memoryview], *, more: bool = False) -> None:
        """Send all *buffers*, at most IOV_MAX; *more* says that others follow at once.

        Raises:
            TransferError: the peer is gone or does not take them.
        """
        flags = socket.MSG_NOSIGNAL | (socket.MSG_MORE if more else 0)
        left = buffers
        while left:
            self._limit_wait()
            try:
                count = self._socket.sendmsg(left, [], flags)
            except OSError as error:
                raise _failed(error) from error
            left = _after(left, count)

    def send_bytes(self, *buffers: bytes, more: bool = False) -> None:
        self.send([memoryview(b"".join(buffers))], more=more)

    def receive(self, buffers: list[memoryview]) -> None:
        """Fill all *buffers*, at most IOV_MAX.

        Raises:
            TransferError: the peer is gone or sends nothing.
        """
        left = buffers
        while left:
            self._limit_wait()
            try:
                count = self._socket.recvmsg_into(left, 0, socket.MSG_WAITALL)[0]
            except OSError as error:
                raise _failed(error) from error
            if count == 0:
                raise TransferError(Failure.PEER_LOST, "the connection was closed")
            left = _after(left, count)

    def receive_bytes(self, size: int) -> bytes:
        buffer = bytearray(size)
        self.receive([memoryview(buffer)])
        return bytes(buffer)

    def wait_until_readable(self) -> bool:
        """Wait without a bound for a byte that may never come; return False if none will."""
        while not self._cut.is_set():
            try:
                return bool(self._socket.recv(1, socket.MSG_PEEK))
            except BlockingIOError:
                continue
            except OSError:
                return False
        return False

    def is_usable(self) -> bool:
        """Whether the connection is up and nothing unasked for has arrived."""
        if self._cut.is_set():
            return False
        try:
            self._socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    def pause(self, seconds: float) -> None:
        """Wait *seconds*, or until the connection is cut."""
        if seconds > 0 and self._cut.wait(seconds):
            raise TransferError(Failure.PEER_LOST, "the connection was cut")

    def cut(self) -> None:
        """End it for both sides: who waits in a call here wakes up and fails."""
        self._cut.set()
        # Not connected yet or any more, or closed by its thread: then nobody waits.
        with self._closing, contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        # A process forked from this one may hold the file too; the cut is for both.
        self.cut()
        with self._closing:
            self._socket.close()

    def _limit_wait(self) -> None:
        if self._give_up_at is None:
            return
        left = self._give_up_at - self._clock()
        if left <= 0:
            raise TransferError(Failure.TIMEOUT, "not all came in time")
        self.limit_waits(max(left, _SHORTEST_WAIT_SECONDS))


def resolve(host: str, port: int) -> Address:
    """Raises:
    OSError: *host* is not known.
    """
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    return family, address


def address_of(host: str, port: int) -> Address:
    """Return that of a peer.

    Raises:
        PeerError: *host* is not known.
    """
    try:
        return resolve(host, port)
    # What is no name, such as one with a label of more than 63 characters, is a ValueError.
    except (OSError, ValueError) as error:
        raise PeerError(f"{host} is not known: {error}") from error


def open_socket(family: socket.AddressFamily) -> socket.socket:
    """Raises:
    TransferError: this process has no more.
    """
    try:
        return socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise TransferError(Failure.PEER_LOST, f"no socket: {error}") from error


def _after(buffers: list[memoryview], count: int) -> list[memoryview]:
    """Return what is left of *buffers* after *count* bytes."""
    if count == sum(map(len, buffers)):
        return []
    for index, buffer in enumerate(buffers):
        if count < len(buffer):
            return [buffer[count:], *buffers[index + 1 :]]
        count -= len(buffer)
    return []


def _failed(error: OSError) -> TransferError:
    if isinstance(error, BlockingIOError | TimeoutError):
        return TransferError(Failure.TIMEOUT, "not a byte moved for too long")
    return TransferError(Failure.PEER_LOST, str(error))
