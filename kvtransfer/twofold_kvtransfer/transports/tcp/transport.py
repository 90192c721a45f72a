"""The TCP transport: a server of the local blocks, and pairs with peers."""

import secrets
import time
from collections.abc import Callable

from twofold_kvtransfer.blocks import BlockMap, InvalidBlocksError, check_alike
from twofold_kvtransfer.transports.sockets.cells import Regions
from twofold_kvtransfer.transports.sockets.connection import address_of
from twofold_kvtransfer.transports.sockets.pairs import Pairs
from twofold_kvtransfer.transports.sockets.parts import part_of
from twofold_kvtransfer.transports.sockets.wire import KEY_BYTES
from twofold_kvtransfer.transports.tcp.choosing import Chooser
from twofold_kvtransfer.transports.tcp.compressing import Compression, are_alike
from twofold_kvtransfer.transports.tcp.counting import Counts, TcpSnapshot
from twofold_kvtransfer.transports.tcp.description import (
    Description,
    decode_description,
    encode_description,
)
from twofold_kvtransfer.transports.tcp.limiting import RateLimit
from twofold_kvtransfer.transports.tcp.moving import Mover
from twofold_kvtransfer.transports.tcp.pair import TcpPair
from twofold_kvtransfer.transports.tcp.payloads import PayloadMover
from twofold_kvtransfer.transports.tcp.serving import Service, listen
from twofold_kvtransfer.transports.tcp.settings import TcpSettings
from twofold_kvtransfer.transports.tcp.stream import Ends


class TcpTransport:
    """Serves *local* to peers from its making to its close, in threads of its own."""

    name = "tcp"

    def __init__(
        self,
        local: BlockMap,
        settings: TcpSettings | None = None,
        *,
        compression: Compression | None = None,
        clock: Callable[[], float] = time.monotonic,
        new_key: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        """Without *compression* blocks move as they lie; its coder is closed with the transport,
        or when that cannot listen.

        Raises:
            InvalidBlocksError: the blocks are on an accelerator.
            OSError: the address of the settings cannot be listened on.
        """
        if local.memory != "dram":
            raise InvalidBlocksError(
                f"the tcp transport does not reach blocks in {local.memory}: use nixl"
            )
        self._settings = settings or TcpSettings()
        self.checks_integrity = self._settings.checksum
        self._clock = clock
        self._pairs = Pairs[TcpPair]()
        self._counts = Counts()
        rate = self._settings.bytes_per_second
        self._mover = Mover(self._counts, None if rate is None else RateLimit(rate, clock))
        self._regions = Regions(local)
        key = new_key(KEY_BYTES)
        self._compression = compression
        self._chooser = None if compression is None else Chooser(compression)
        self._payloads = None if compression is None else self._payload_mover(compression)
        service = Service(
            key, self._regions, self._mover, self._payloads, self._settings.serves_writes
        )
        try:
            self._acceptor = listen(service, self._settings)
        except OSError:
            if self._payloads is not None:
                self._payloads.close()
            raise
        self._description = encode_description(
            Description(
                host=self._settings.host,
                port=self._acceptor.port,
                key=key,
                blocks=local,
                shape=None if compression is None else compression.coder.shape,
            )
        )

    @property
    def ended_for(self) -> str | None:
        return self._pairs.ended_for

    def describe(self) -> bytes:
        return self._description

    def open(self, description: bytes, remote: BlockMap) -> TcpPair:
        self._pairs.check_open()
        peer = decode_description(description)
        check_alike(self._regions.map, remote)
        part = part_of(remote, peer.blocks)
        address = address_of(peer.host, peer.port)
        ends = Ends(
            peer.host, address, peer.key, self._regions, self._mover, self._settings, self._payloads
        )
        chooser = self._chooser if self._codes_with(peer, part) else None
        pair = TcpPair(ends, remote, part, self._clock, self._pairs.forget, chooser)
        self._pairs.add(pair)
        return pair

    def close(self) -> None:
        if not self._pairs.close():
            return
        self._acceptor.close()
        if self._payloads is not None:
            self._payloads.close()

    def snapshot(self) -> TcpSnapshot:
        return self._counts.snapshot(len(self._pairs), self._acceptor.accepted_count)

    def _payload_mover(self, compression: Compression) -> PayloadMover:
        return PayloadMover(compression.coder, self._counts, self._mover.limit, self._clock)

    def _codes_with(self, peer: Description, part: tuple[int, int]) -> bool:
        """Whether a payload of *part* of the peer's blocks is one of the local blocks."""
        if self._compression is None:
            return False
        return are_alike(self._compression.coder.shape, peer.shape, part)
