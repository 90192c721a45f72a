"""Cells from memory to a stream, and back; either side does either."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import xxhash

from twofold_kvtransfer.transports.sockets.connection import Connection
from twofold_kvtransfer.transports.tcp.counting import Counts
from twofold_kvtransfer.transports.tcp.limiting import RateLimit
from twofold_kvtransfer.transports.tcp.wire import (
    CHECKSUM_BYTES,
    decode_checksum,
    encode_checksum,
)

Runs = Iterable[list[memoryview]]


@dataclass(frozen=True, slots=True)
class Mover:
    """Sends and receives runs for all streams of a transport."""

    counts: Counts
    limit: RateLimit | None

    def send(self, connection: Connection, runs: Runs, seed: int | None) -> None:
        """Send *runs*, with checksums unless *seed* is None.

        Raises:
            TransferError: the connection failed.
        """
        for number, pieces in enumerate(runs):
            size = sum(map(len, pieces))
            checksum = 0 if seed is None else checksum_of(pieces, seed + number)
            if self.limit is not None:
                connection.pause(self.limit.book(size))
            connection.send([memoryview(encode_checksum(checksum)), *pieces])
            self.counts.sent(size)

    def receive(self, connection: Connection, runs: Runs, seed: int | None) -> bool:
        """Fill *runs* to the last; return whether all checksums were right.

        Raises:
            TransferError: the connection failed.
        """
        intact = True
        head = memoryview(bytearray(CHECKSUM_BYTES))
        for number, pieces in enumerate(runs):
            connection.receive([head, *pieces])
            self.counts.received(sum(map(len, pieces)))
            if seed is not None and checksum_of(pieces, seed + number) != decode_checksum(head):
                intact = False
                self.counts.damaged()
        return intact


def checksum_of(pieces: Sequence[memoryview], seed: int) -> int:
    """Return the xxh3_64 of *pieces*; the seed ties them to their request and place in it.

    The seed counts modulo 2**64, as xxhash takes it.
    """
    digest = xxhash.xxh3_64(seed=seed)
    for piece in pieces:
        digest.update(piece)
    return digest.intdigest()
