"""Noticing that a peer's host has gone without a word."""

import socket

_PROBE_COUNT = 4


def notice_vanished_host(sock: socket.socket, seconds: float) -> None:
    """Have the kernel end the connection when its peer's host is silent for *seconds* (tcp(7)).

    A process that dies closes its connections, a host that loses its power does not. There are
    probes when nothing is under way, and a limit on what is sent and not acknowledged.
    """
    pause_seconds = max(1, int(seconds / (_PROBE_COUNT + 1)))
    tcp = socket.IPPROTO_TCP
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(tcp, socket.TCP_KEEPIDLE, pause_seconds)
    sock.setsockopt(tcp, socket.TCP_KEEPINTVL, pause_seconds)
    sock.setsockopt(tcp, socket.TCP_KEEPCNT, _PROBE_COUNT)
    sock.setsockopt(tcp, socket.TCP_USER_TIMEOUT, int(seconds * 1000))
