"""Accepts the lines that peers open, each in a thread of its own."""

import contextlib
import logging
import socket
import threading
from collections.abc import Callable

from twofold_kvtransfer.transports.tcp.connection import resolve
from twofold_kvtransfer.transports.tcp.failing import Failure, TransferError
from twofold_kvtransfer.transports.tcp.joining import join_all
from twofold_kvtransfer.transports.two_sided.line import Line
from twofold_kvtransfer.transports.two_sided.serving import Service
from twofold_kvtransfer.transports.two_sided.settings import TwoSidedSettings

_log = logging.getLogger(__name__)

_RETRY_SECONDS = 0.1
"""After a failed accept, which is mostly a lack of file descriptors."""


class Server:
    """Owns the listening socket, its thread, and each accepted line with its thread."""

    def __init__(
        self,
        service: Service,
        make_line: Callable[[socket.socket], Line],
        settings: TwoSidedSettings,
    ) -> None:
        """Raises:
        OSError: the address cannot be listened on.
        """
        self._service = service
        self._make_line = make_line
        self._settings = settings
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._accepted: dict[Line, threading.Thread] = {}
        family, address = resolve(settings.host, settings.port)
        self._listener = socket.create_server(address, family=family, backlog=128)
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(
            target=self._accept_all, name=f"kv-two-sided-listen-{self.port}", daemon=True
        )
        self._thread.start()

    @property
    def line_count(self) -> int:
        with self._lock:
            return len(self._accepted)

    def close(self) -> None:
        """Cut all lines and end all threads: none touches the blocks after it."""
        self._closing.set()
        # Wakes the accept, which a mere close would not.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        join_all([self._thread])
        self._listener.close()
        with self._lock:
            accepted = dict(self._accepted)
        for line in accepted:
            line.cut()
        join_all(accepted.values())

    def _accept_all(self) -> None:
        while not self._closing.is_set():
            try:
                sock, _ = self._listener.accept()
            except OSError as error:
                if not self._closing.is_set():
                    _log.warning("a connection was not accepted", extra={"error": str(error)})
                    self._closing.wait(_RETRY_SECONDS)
                continue
            self._take(sock)

    def _take(self, sock: socket.socket) -> None:
        if self.line_count >= self._settings.max_accepted_lines:
            sock.close()
            return
        try:
            line = self._make_line(sock)
        except OSError:  # gone again
            sock.close()
            return
        thread = threading.Thread(
            target=self._serve, args=(line,), name="kv-two-sided-serve", daemon=True
        )
        with self._lock:
            self._accepted[line] = thread
        thread.start()

    def _serve(self, line: Line) -> None:
        try:
            with contextlib.closing(line):
                line.control.connection.limit_waits(self._settings.connect_seconds)
                self._service.greet(line)
                self._service.serve(line)
        except TransferError as error:
            if error.failure in (Failure.REFUSED, Failure.PROTOCOL):
                _log.warning("a peer was turned away", extra={"reason": str(error)})
            else:
                _log.debug("a peer's line ended", extra={"reason": str(error)})
        except Exception:  # noqa: BLE001 - an edge: the peer sees its line end, and we why
            _log.exception("a peer's line failed")
        finally:
            with self._lock:
                del self._accepted[line]
