"""The transport over a two-sided library: a server of the local blocks, and pairs with peers."""

import secrets
import socket
import time
from collections.abc import Callable

from twofold_kvtransfer.blocks import BlockMap, InvalidBlocksError, check_alike
from twofold_kvtransfer.transports.sockets.connection import address_of
from twofold_kvtransfer.transports.sockets.pairs import Pairs
from twofold_kvtransfer.transports.sockets.parts import part_of
from twofold_kvtransfer.transports.sockets.wire import KEY_BYTES
from twofold_kvtransfer.transports.two_sided.carrier import Ends
from twofold_kvtransfer.transports.two_sided.description import (
    Description,
    decode_description,
    encode_description,
)
from twofold_kvtransfer.transports.two_sided.line import Line
from twofold_kvtransfer.transports.two_sided.pair import TwoSidedPair
from twofold_kvtransfer.transports.two_sided.port import Library
from twofold_kvtransfer.transports.two_sided.serving import Service, listen
from twofold_kvtransfer.transports.two_sided.settings import TwoSidedSettings


class TwoSidedTransport:
    """Serves *local* to peers from its making to its close, in threads of its own; it is called
    as its *library* is."""

    def __init__(
        self,
        local: BlockMap,
        library: Library,
        settings: TwoSidedSettings | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        new_key: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        """Raises:
        InvalidBlocksError: the blocks are in a memory that the library does not reach.
        OSError: the address of the settings cannot be listened on.
        """
        if local.memory != library.memory:
            raise InvalidBlocksError(
                f"{library.name} moves blocks in {library.memory}, and these are in {local.memory}:"
                " use nixl, or for dram tcp"
            )
        self.name = library.name
        self.checks_integrity = library.checks_integrity
        self._local = local
        self._library = library
        self._settings = settings or TwoSidedSettings()
        self._clock = clock
        self._pairs = Pairs[TwoSidedPair]()
        key = new_key(KEY_BYTES)
        self._acceptor = listen(
            Service(key, self._settings.serves_writes), self._make_line, self._settings
        )
        self._description = encode_description(
            Description(
                library=library.name,
                host=self._settings.host,
                port=self._acceptor.port,
                key=key,
                blocks=local,
            )
        )

    @property
    def ended_for(self) -> str | None:
        return self._pairs.ended_for

    @property
    def accepted_lines(self) -> int:
        """Those that peers have opened, each with a thread and buffers here."""
        return self._acceptor.accepted_count

    def describe(self) -> bytes:
        return self._description

    def open(self, description: bytes, remote: BlockMap) -> TwoSidedPair:
        self._pairs.check_open()
        peer = decode_description(description, self._library.name)
        check_alike(self._local, remote)
        part = part_of(remote, peer.blocks)
        address = address_of(peer.host, peer.port)
        ends = Ends(address, peer.key, self._make_line, self._settings)
        maps = (self._local, remote)
        pair = TwoSidedPair(ends, self._library, maps, part, self._clock, self._pairs.forget)
        self._pairs.add(pair)
        return pair

    def close(self) -> None:
        if not self._pairs.close():
            return
        self._acceptor.close()
        self._library.close()

    def _make_line(self, sock: socket.socket) -> Line:
        return Line(sock, self._library, self._local, self._settings)
