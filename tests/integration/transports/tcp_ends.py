"""Two TCP transports for tests of what is their own."""

import contextlib
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import msgspec
from tests.integration.transports.ends import END_SECONDS, finish
from tests.integration.transports.peers import Geometry

from twofold_kvtransfer.transports import Transfer, TransferState
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


@dataclass(frozen=True, slots=True)
class Two:
    here: TcpTransport
    there: TcpTransport
    local: HostBlocks
    remote: HostBlocks


@contextlib.contextmanager
def two(
    here: TcpSettings | None = None,
    there: TcpSettings | None = None,
    geometry: Geometry | None = None,
) -> Iterator[Two]:
    shape = geometry or Geometry(regions=2, blocks=8, block_bytes=20_000, seed=1)
    local, remote = msgspec.structs.replace(shape, seed=2).make(), shape.make()
    ends = Two(TcpTransport(local.map, here), TcpTransport(remote.map, there), local, remote)
    try:
        yield ends
    finally:
        ends.here.close()
        ends.there.close()


def kind_of(transfer: Transfer) -> str:
    """Return the kind of failure that *transfer* ends with."""
    assert finish(transfer) is TransferState.FAILED
    return (transfer.reason or "").split(":")[0]


def wait_until(holds: Callable[[], bool]) -> None:
    give_up_at = time.monotonic() + END_SECONDS
    while not holds():
        if time.monotonic() > give_up_at:
            raise TimeoutError(f"{holds} does not come true")
        time.sleep(0.001)


def dialled(transport: TcpTransport) -> tuple[socket.socket, Description]:
    described = decode_description(transport.describe())
    return socket.create_connection((described.host, described.port)), described
