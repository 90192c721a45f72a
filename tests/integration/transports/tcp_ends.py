"""Two TCP transports for tests of what is their own."""

import socket
from contextlib import AbstractContextManager
from dataclasses import replace

from tests.integration.transports.ends import Two, two_of
from tests.integration.transports.peers import Geometry

from twofold_kvtransfer.transports.tcp import TcpSettings, TcpTransport
from twofold_kvtransfer.transports.tcp.description import (
    Description,
    decode_description,
)
from twofold_kvtransfer.transports.testing import HostBlocks

QUICK = TcpSettings(connect_seconds=0.3, idle_seconds=0.3)
SLOW = TcpSettings(bytes_per_second=2e6)
LARGE = Geometry(regions=8, blocks=64, block_bytes=131_072, seed=1)
HALF = tuple(range(32))


def two(
    here: TcpSettings | None = None,
    there: TcpSettings | None = None,
    geometry: Geometry | None = None,
) -> AbstractContextManager[Two[TcpTransport]]:
    return two_of(over_tcp, here, there, geometry)


def over_tcp(blocks: HostBlocks, settings: TcpSettings | None = None) -> TcpTransport:
    """Make one that also lets peers write."""
    return TcpTransport(blocks.map, replace(settings or TcpSettings(), serves_writes=True))


def dialled(transport: TcpTransport) -> tuple[socket.socket, Description]:
    described = decode_description(transport.describe())
    return socket.create_connection((described.host, described.port)), described
