"""Sockets that servers listen on, of whichever family a machine has."""

import socket

BACKLOG = 1024


def listening_socket(host: str, port: int, *, reuse_port: bool = False) -> socket.socket:
    """Return a socket that listens at *host* and *port*, 0 for a free one.

    An empty *host* is all addresses: of both families, or IPv4's alone where the kernel has no
    IPv6, as with ``ipv6.disable=1``. A pod has no other that is right on every cluster.

    Raises:
        OSError: the address cannot be had.
    """
    both = not host and socket.has_dualstack_ipv6()
    return socket.create_server(
        (host, port),
        family=socket.AF_INET6 if both or ":" in host else socket.AF_INET,
        backlog=BACKLOG,
        reuse_port=reuse_port,
        dualstack_ipv6=both,
    )
