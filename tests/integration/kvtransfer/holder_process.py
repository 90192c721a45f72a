"""A node in a process of its own, which holds the blocks of one request and moves them slowly.

Run as a module with the port of its side channel. It says ``ready``, and stands there until its
input ends.
"""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from twofold_kvtransfer.leases import LeaseTable
from twofold_kvtransfer.node import Node, Rank
from twofold_kvtransfer.receiving import Receiver
from twofold_kvtransfer.settings import ConnectorSettings
from twofold_kvtransfer.sources import Source
from twofold_kvtransfer.transports.tcp import TcpSettings, TcpTransport
from twofold_kvtransfer.transports.testing import host_blocks

LOCALHOST = "127.0.0.1"
ENGINE_ID = "p:1"
BLOCK_BYTES = 1_000_000
BYTES_PER_SECOND = 100_000
"""Of blocks of a megabyte: one takes ten seconds."""


@contextmanager
def holder_process(port: int) -> Iterator[tuple["subprocess.Popen[bytes]", Source]]:
    """Start the process, and yield it with the source of the blocks that it holds."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.integration.kvtransfer.holder_process", str(port)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[3],
    )
    try:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield process, Source(ENGINE_ID, "r", LOCALHOST, port, 1, (0, 1))
    finally:
        process.kill()
        process.communicate()


def main() -> None:
    blocks = host_blocks(1, 2, BLOCK_BYTES, seed=1)
    transport = TcpTransport(blocks.map, TcpSettings(bytes_per_second=BYTES_PER_SECOND))
    settings = ConnectorSettings(host=LOCALHOST, port=int(sys.argv[1]), transport="tcp")
    node = Node(Rank(ENGINE_ID, "c"), blocks.map, transport, settings)
    node.start()
    granted = threading.Event()

    def grant(leases: LeaseTable, receiver: Receiver) -> None:
        leases.grant("r", time.monotonic())
        granted.set()

    node.order(grant)
    granted.wait()
    print("ready", flush=True)
    sys.stdin.read()
    node.close()


if __name__ == "__main__":
    main()
