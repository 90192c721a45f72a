"""Two processes of which one reads a MiB of the other, for :mod:`trying`.

``lend`` writes where its memory is, and stays until its input ends. ``read`` takes that as its
input, reads, and says how it ended; UCX prints to the same output.
"""

import os
import sys
import time

import msgspec
import numpy as np

from twofold_cluster.errors import TwofoldError
from twofold_kvtransfer.blocks import BlockMap, Move
from twofold_kvtransfer.transports.nixl.transport import NixlTransport
from twofold_kvtransfer.transports.port import TransferState

SIZE_BYTES = 1 << 20
READ_SECONDS = 10.0
LOOK_SECONDS = 0.001

DONE = "twofold: the block was read"
FAILED = "twofold: nothing was read: "


class Offer(msgspec.Struct, frozen=True):
    description: bytes
    blocks: BlockMap


def lend() -> None:
    # What libraries print must not come between the words of the offer.
    channel = os.dup(1)
    os.dup2(2, 1)
    memory = np.zeros(SIZE_BYTES, dtype=np.uint8)
    blocks = _map(memory.ctypes.data)
    transport = NixlTransport(blocks)
    os.write(channel, msgspec.msgpack.encode(Offer(transport.describe(), blocks)))
    os.close(channel)
    sys.stdin.buffer.read()
    transport.close()


def read() -> None:
    memory = np.zeros(SIZE_BYTES, dtype=np.uint8)
    transport = NixlTransport(_map(memory.ctypes.data))
    offer = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=Offer)
    pair = transport.open(offer.description, offer.blocks)
    transfer = pair.read(Move(local=(0,), remote=(0,)))
    give_up_at = time.monotonic() + READ_SECONDS
    while transfer.poll() is TransferState.MOVING and time.monotonic() < give_up_at:
        time.sleep(LOOK_SECONDS)
    if transfer.poll() is not TransferState.DONE:
        raise TimeoutError(transfer.reason or f"not within {READ_SECONDS} s")
    transport.close()


def main(role: str) -> None:
    try:
        {"lend": lend, "read": read}[role]()
    except (TwofoldError, TimeoutError, msgspec.DecodeError) as error:
        _say(f"{FAILED}{error}")
        sys.exit(1)
    if role == "read":
        _say(DONE)


def _say(line: str) -> None:
    os.write(1, f"\n{line}\n".encode())


def _map(address: int) -> BlockMap:
    return BlockMap(
        addresses=(address,), block_count=1, block_bytes=SIZE_BYTES, stride_bytes=SIZE_BYTES
    )


if __name__ == "__main__":
    main(sys.argv[1])
