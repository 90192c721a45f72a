"""The socket that clients connect to. Taken first, so that a bad address is known at once."""

import socket

from twofold_cluster.errors import TwofoldError

BACKLOG = 1024


class CannotListenError(TwofoldError):
    """The address is taken, or is not one of this machine."""


def listen(host: str, port: int) -> socket.socket:
    """Listen on *host* and *port*, 0 for a free one.

    Raises:
        CannotListenError: the address cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise CannotListenError(f"cannot listen on {host}:{port}: {error.strerror}") from error


def url_of(listener: socket.socket) -> str:
    """Return the base URL at which *listener* is reached."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
