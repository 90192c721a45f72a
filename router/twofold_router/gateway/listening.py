"""The socket that clients connect to. Taken first, so that a bad address is known at once."""

import socket

from twofold_cluster.errors import TwofoldError
from twofold_cluster.listening import listening_socket


class CannotListenError(TwofoldError):
    """The address is taken, or is not one of this machine."""


def listen(host: str, port: int, *, reuse_port: bool = False) -> socket.socket:
    """Listen on *host*, if empty on all addresses, and *port*, 0 for a free one.

    Raises:
        CannotListenError: the address cannot be had.
    """
    try:
        return listening_socket(host, port, reuse_port=reuse_port)
    except OSError as error:
        raise CannotListenError(f"cannot listen on {host}:{port}: {error.strerror}") from error


def url_of(listener: socket.socket) -> str:
    """Return the base URL at which *listener* is reached."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
