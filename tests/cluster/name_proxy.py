"""An HTTP proxy that knows the names of a cluster's Services, for who stands outside of it.

gRPC uses the proxy that ``grpc_proxy`` names, so that the operator under test is told addresses as
in a cluster and needs to know nothing of where they lead.
"""

import contextlib
import selectors
import socket
import socketserver
import threading
from typing import Self

HEADER_BYTES = 8192
CHUNK_BYTES = 65536
CONNECT_SECONDS = 10.0


class NameProxy:
    """``ports`` maps names to ports of this machine; it may change at any time."""

    def __init__(self) -> None:
        self.ports: dict[str, int] = {}
        self._connections: set[socket.socket] = set()
        self._server = _Server(("127.0.0.1", 0), self)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        for connection in list(self._connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._server.server_close()
        self._thread.join()

    def relay(self, client: socket.socket) -> None:
        """Read a CONNECT, then pass bytes on both ways until one side ends."""
        self._connections.add(client)
        try:
            name = _asked_name(client)
            port = self.ports.get(name)
            if port is None:
                client.sendall(b"HTTP/1.1 502 No such name\r\n\r\n")
                return
            with socket.create_connection(("127.0.0.1", port), CONNECT_SECONDS) as server:
                client.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
                _pass_on(client, server)
        except OSError:
            return  # whoever waits for it sees the connection end
        finally:
            self._connections.discard(client)


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = False

    def __init__(self, address: tuple[str, int], proxy: NameProxy) -> None:
        super().__init__(address, _Handler)
        self.proxy = proxy


class _Handler(socketserver.BaseRequestHandler):
    server: _Server

    def handle(self) -> None:
        self.server.proxy.relay(self.request)


def _asked_name(client: socket.socket) -> str:
    """Return the host of ``CONNECT HOST:PORT HTTP/1.1``."""
    head = b""
    while b"\r\n\r\n" not in head and len(head) < HEADER_BYTES:
        part = client.recv(CHUNK_BYTES)
        if not part:
            raise ConnectionError("no request")
        head += part
    _, target, _ = head.split(b" ", 2)
    return target.decode().rpartition(":")[0]


def _pass_on(left: socket.socket, right: socket.socket) -> None:
    with selectors.DefaultSelector() as selector:
        selector.register(left, selectors.EVENT_READ, right)
        selector.register(right, selectors.EVENT_READ, left)
        while True:
            for key, _ in selector.select():
                assert isinstance(key.fileobj, socket.socket)
                part = key.fileobj.recv(CHUNK_BYTES)
                if not part:
                    return
                key.data.sendall(part)
