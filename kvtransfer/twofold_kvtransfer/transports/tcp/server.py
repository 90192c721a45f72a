"""Accepts the connections of peers, each in a thread of its own."""

import contextlib
import logging
import socket
import threading

from twofold_kvtransfer.transports.tcp.connection import Connection, resolve
from twofold_kvtransfer.transports.tcp.failing import Failure, TransferError
from twofold_kvtransfer.transports.tcp.joining import join_all
from twofold_kvtransfer.transports.tcp.serving import Service
from twofold_kvtransfer.transports.tcp.settings import TcpSettings

_log = logging.getLogger(__name__)

_RETRY_SECONDS = 0.1
"""After a failed accept, which is mostly a lack of file descriptors."""


class Server:
    """Owns the listening socket, its thread, and each accepted connection with its thread."""

    def __init__(self, service: Service, settings: TcpSettings) -> None:
        """Raises:
        OSError: the address cannot be listened on.
        """
        self._service = service
        self._settings = settings
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._accepted: dict[Connection, threading.Thread] = {}
        family, address = resolve(settings.host, settings.port)
        self._listener = socket.create_server(address, family=family, backlog=128)
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(
            target=self._accept_all, name=f"kv-tcp-listen-{self.port}", daemon=True
        )
        self._thread.start()

    @property
    def stream_count(self) -> int:
        with self._lock:
            return len(self._accepted)

    def close(self) -> None:
        """Cut all connections and end all threads: none touches the blocks after it."""
        self._closing.set()
        # Wakes the accept, which a mere close would not.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        join_all([self._thread])
        self._listener.close()
        with self._lock:
            accepted = dict(self._accepted)
        for connection in accepted:
            connection.cut()
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
        if self.stream_count >= self._settings.max_accepted_streams:
            self._service.mover.counts.refused()
            sock.close()
            return
        try:
            connection = Connection(sock, self._settings.idle_seconds)
        except OSError:  # gone again
            sock.close()
            return
        thread = threading.Thread(
            target=self._serve, args=(connection,), name="kv-tcp-serve", daemon=True
        )
        with self._lock:
            self._accepted[connection] = thread
        thread.start()

    def _serve(self, connection: Connection) -> None:
        try:
            connection.limit_waits(self._settings.connect_seconds)
            self._service.greet(connection)
            connection.limit_waits(self._settings.idle_seconds)
            self._service.serve(connection)
        except TransferError as error:
            if error.failure in (Failure.REFUSED, Failure.PROTOCOL):
                self._service.mover.counts.refused()
                _log.warning("a peer was turned away", extra={"reason": str(error)})
            else:
                _log.debug("a peer's stream ended", extra={"reason": str(error)})
        except Exception:  # noqa: BLE001 - an edge: else nobody hears of it
            self._service.mover.counts.refused()
            _log.exception("a peer could not be served")
        finally:
            connection.close()
            with self._lock:
                del self._accepted[connection]
