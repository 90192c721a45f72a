"""One address, and a socket on it for each gateway process.

With SO_REUSEPORT the kernel spreads connections over the sockets by a hash. From one socket that
all accept from, whoever wakes first takes what there is: on a busy machine of two cores that was up
to nine tenths of the connections for one of two processes, for as long as their clients keep them.

A socket of its own must not end with its process, or what waits in its queue would be lost: the
placement process keeps all of them open, and the next process in that place finds the queue as it
was left.
"""

import socket
from contextlib import ExitStack

from twofold_router.gateway import listen


def listen_together(host: str, port: int, count: int) -> list[socket.socket]:
    """Listen *count* times on *host* and *port*, 0 for a free one.

    Raises:
        CannotListenError: the address cannot be had.
    """
    # A socket that does not share finds out whether a router is there already.
    with listen(host, port) as alone:
        port = alone.getsockname()[1]
    with ExitStack() as stack:
        sockets = [stack.enter_context(listen(host, port, reuse_port=True)) for _ in range(count)]
        stack.pop_all()
    return sockets
