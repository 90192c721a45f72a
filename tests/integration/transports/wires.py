"""A wire between a client and a server that can be damaged."""

import contextlib
import socket
import threading

HOST = "127.0.0.1"


class Wire:
    """Takes TCP connections and passes their bytes on to a server, until it is closed.

    Owns its threads: one that accepts, two for each connection.
    """

    host = HOST

    def __init__(self, host: str, port: int) -> None:
        self._server = (host, port)
        self._lock = threading.Lock()
        self._flips: dict[bool, int] = {}
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server((HOST, 0))
        self.port: int = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def flip_towards_client(self, offset: int) -> None:
        """Flip a bit of byte *offset* of the first connection that gets so far."""
        self._flips[True] = offset

    def flip_towards_server(self, offset: int) -> None:
        self._flips[False] = offset

    def cut(self) -> None:
        """End all connections of now."""
        with self._lock:
            for sock in self._sockets:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._threads[0].join()
        self._listener.close()
        self.cut()
        for thread in self._threads:
            thread.join()
        for sock in self._sockets:
            sock.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self._server)
            except OSError:
                client.close()
                continue
            with self._lock:
                self._sockets += [client, server]
            for source, target, to_client in ((client, server, False), (server, client, True)):
                thread = threading.Thread(target=self._pass_on, args=(source, target, to_client))
                self._threads.append(thread)
                thread.start()

    def _pass_on(self, source: socket.socket, target: socket.socket, to_client: bool) -> None:
        position = 0
        with contextlib.suppress(OSError):
            while data := bytearray(source.recv(1 << 16)):
                self._flip(data, position, to_client)
                position += len(data)
                target.sendall(data)
        for sock in (source, target):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def _flip(self, data: bytearray, position: int, to_client: bool) -> None:
        with self._lock:
            offset = self._flips.get(to_client, -1) - position
            if 0 <= offset < len(data):
                data[offset] ^= 1
                del self._flips[to_client]
