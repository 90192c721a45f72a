"""Accepts what peers open, and serves each in a thread of its own."""

import contextlib
import logging
import socket
import threading
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from twofold_kvtransfer.transports.sockets.connection import resolve
from twofold_kvtransfer.transports.sockets.failing import Failure, TransferError
from twofold_kvtransfer.transports.sockets.joining import join_all

_log = logging.getLogger(__name__)

_RETRY_SECONDS = 0.1
"""After a failed accept, which is mostly a lack of file descriptors."""


class Accepted(Protocol):
    """One thread serves it and closes it; any may cut it."""

    def cut(self) -> None:
        """End it for both sides: who waits for it wakes up and fails."""

    def close(self) -> None:
        """Cut it, and give back what it holds."""


T = TypeVar("T", bound=Accepted)


class Acceptor(Generic[T]):
    """Owns the listening socket, its thread, and each that was accepted with its thread."""

    def __init__(
        self,
        name: str,
        host: str,
        port: int,
        limit: int,
        make: Callable[[socket.socket], T],
        serve: Callable[[T], None],
        *,
        error_text: str,
        when_refused: Callable[[], None] = lambda: None,
    ) -> None:
        """*name* is in the names of the threads. One more than *limit* is turned away. *serve*
        returns or raises when the peer has ended; *error_text* is logged when that was an error
        here. *when_refused* is called for each that was turned away, or ended by such an error.

        Raises:
            OSError: the address cannot be listened on.
        """
        self._name = name
        self._limit = limit
        self._make = make
        self._serve = serve
        self._error_text = error_text
        self._when_refused = when_refused
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._accepted: dict[T, threading.Thread] = {}
        family, address = resolve(host, port)
        self._listener = socket.create_server(address, family=family, backlog=128)
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(
            target=self._accept_all, name=f"kv-{name}-listen-{self.port}", daemon=True
        )
        self._thread.start()

    @property
    def accepted_count(self) -> int:
        with self._lock:
            return len(self._accepted)

    def close(self) -> None:
        """Cut all that were accepted and end all threads: none touches the blocks after it."""
        self._closing.set()
        # Wakes the accept, which a mere close would not.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        join_all([self._thread])
        self._listener.close()
        with self._lock:
            accepted = dict(self._accepted)
        for each in accepted:
            each.cut()
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
        if self.accepted_count >= self._limit:
            self._when_refused()
            sock.close()
            return
        try:
            accepted = self._make(sock)
        except OSError:  # gone again
            sock.close()
            return
        thread = threading.Thread(
            target=self._work, args=(accepted,), name=f"kv-{self._name}-serve", daemon=True
        )
        with self._lock:
            self._accepted[accepted] = thread
        thread.start()

    def _work(self, accepted: T) -> None:
        try:
            with contextlib.closing(accepted):
                self._serve(accepted)
        except TransferError as error:
            if error.failure in (Failure.REFUSED, Failure.PROTOCOL):
                self._when_refused()
                _log.warning("a peer was turned away", extra={"reason": str(error)})
            else:
                _log.debug("a peer's connection ended", extra={"reason": str(error)})
        except Exception:  # noqa: BLE001 - an edge: the peer sees its connection end, and we why
            self._when_refused()
            _log.exception(self._error_text)
        finally:
            with self._lock:
                del self._accepted[accepted]
