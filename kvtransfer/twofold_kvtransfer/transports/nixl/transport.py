"""The nixl transport: an agent on the local blocks, and pairs with peers."""

import logging
import threading
import time
import uuid
from collections.abc import Callable

from twofold_kvtransfer.blocks import BlockMap
from twofold_kvtransfer.transports.nixl.agent import MakeAgent, make_agent
from twofold_kvtransfer.transports.nixl.description import describe, read_description
from twofold_kvtransfer.transports.nixl.failing import Failure
from twofold_kvtransfer.transports.nixl.mover import Mover
from twofold_kvtransfer.transports.nixl.pair import NixlPair
from twofold_kvtransfer.transports.nixl.settings import NixlSettings
from twofold_kvtransfer.transports.nixl.transfer import NixlTransfer
from twofold_kvtransfer.transports.port import PeerError

CLOSED = "the transport was closed"

_log = logging.getLogger(__name__)


class NixlTransport:
    """Moves *local*, in host or in GPU memory, through NIXL over UCX.

    A peer that dies is reported by UCX, at once when its process ends. One that stands still (or
    is stopped) is not missed by RDMA and shared memory, which need no help of it. Over TCP its
    answer may come at any time and be written to local memory, and no call of NIXL takes that back
    but the destruction of the agent. So a transfer that is over its time limit ends the transport:
    all that moves fails, all pairs are closed, and the owner makes a new transport.

    What arrives is not compared with what was sent: that would take a pass over the memory of
    both sides. RDMA and TCP have checksums of their own.
    """

    name = "nixl"
    checks_integrity = False

    def __init__(
        self,
        local: BlockMap,
        settings: NixlSettings | None = None,
        *,
        make_agent: MakeAgent = make_agent,
        new_name: Callable[[], str] = lambda: f"twofold-{uuid.uuid4().hex}",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """*new_name* returns what no agent was ever called.

        Raises:
            NixlMissingError: there is no NIXL, or UCX has none of the devices that it shall use.
        """
        self._settings = settings or NixlSettings()
        name = new_name()
        agent, errors = make_agent(name, self._settings)
        self._mover = Mover(agent, errors, local, self._settings, clock)
        self._description = describe(name, self._mover.metadata, local)
        self._pairs: list[NixlPair] = []
        self._adding = threading.Lock()
        self._ended_for: str | None = None

    @property
    def ended_for(self) -> str | None:
        return self._ended_for

    def describe(self) -> bytes:
        return self._description

    def open(self, description: bytes, remote: BlockMap) -> NixlPair:
        if self._ended_for is not None:
            raise PeerError(f"this transport has ended: {self._ended_for}")
        mover = self._mover
        peer = read_description(description, mover.local, remote)
        blocks = mover.meet(peer.agent, peer.metadata, remote)
        pair = NixlPair(mover, blocks, remote, self._settings.letting_go_seconds, self._give_up)
        with self._adding:
            kept = [each for each in self._pairs if not each.is_closed or each.unended]
            self._pairs = [*kept, pair]
        return pair

    def close(self) -> None:
        self._end(CLOSED, self._settings.letting_go_seconds)

    def _give_up(self, transfer: NixlTransfer) -> None:
        limit_seconds = self._settings.limit_seconds(transfer.size_bytes)
        reason = f"{Failure.TIMEOUT}: no answer in {limit_seconds:.1f} s"
        _log.warning(
            "a transfer is lost, and the transport ends with it",
            extra={"peer": transfer.pair.remote.agent, "size_bytes": transfer.size_bytes},
        )
        self._end(reason, 0.0)

    def _end(self, reason: str, letting_go_seconds: float) -> None:
        if self._ended_for is not None:
            return
        self._ended_for = reason
        for pair in self._pairs:
            pair.refuse(reason)
        for pair in self._pairs:
            self._mover.let_go(pair.unended, letting_go_seconds)
        self._mover.end([pair.remote for pair in self._pairs])
        self._pairs.clear()
