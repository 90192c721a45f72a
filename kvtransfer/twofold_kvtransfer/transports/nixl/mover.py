"""NIXL's agent on the local blocks, and what it is moving."""

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from twofold_kvtransfer.blocks import BlockMap
from twofold_kvtransfer.transports.nixl.agent import MEMORY_TYPES, Agent, Errors, Handle
from twofold_kvtransfer.transports.nixl.failing import Failure, reason_of
from twofold_kvtransfer.transports.nixl.lists import regions_to_register, strided_list
from twofold_kvtransfer.transports.nixl.posting import Poster
from twofold_kvtransfer.transports.nixl.settings import NixlSettings
from twofold_kvtransfer.transports.nixl.transfer import NixlTransfer
from twofold_kvtransfer.transports.nixl.turns import Turns
from twofold_kvtransfer.transports.nixl.warming import Warmer
from twofold_kvtransfer.transports.port import PeerError

LOCAL = "NIXL_INIT_AGENT"
"""NIXL's name for this side of a transfer."""
LOOK_SECONDS = 0.001


@dataclass(slots=True)
class RemoteBlocks:
    """A peer's blocks, prepared."""

    agent: str
    blocks: Handle | None
    """None when given back."""


class Mover:
    """Owns the agent, of which one thread at a time takes a turn, and the thread that posts.

    A transfer is in ``_moving`` exactly while NIXL has it. After ``end`` nothing refers to the
    agent any more: only its destruction makes UCX let go of what it has.
    """

    def __init__(
        self,
        agent: Agent,
        errors: Errors,
        local: BlockMap,
        settings: NixlSettings,
        clock: Callable[[], float],
    ) -> None:
        self.local = local
        self.clock = clock
        self.errors = errors
        self._settings = settings
        self._agent: Agent | None = agent
        self._turns = Turns()
        self._moving: set[NixlTransfer] = set()
        self._peers: Counter[str] = Counter()
        memory = MEMORY_TYPES[local.memory]
        agent.register_memory(regions_to_register(local), memory)
        self._local_blocks: Handle | None = agent.prep_xfer_dlist(
            LOCAL, strided_list(local), memory
        )
        self._warmer = Warmer(agent)
        self._poster = Poster(self._post_in_turn)

    @property
    def metadata(self) -> bytes:
        with self._turns:
            assert self._agent is not None
            return self._agent.get_agent_metadata()

    def meet(self, name: str, metadata: bytes, remote: BlockMap) -> RemoteBlocks:
        """Connect to the agent *name*, prepare *remote* and read a byte of it.

        Raises:
            PeerError: NIXL finds nobody there or no such blocks, or there is no answer.
        """
        try:
            with self._turns:
                blocks = self._prepare(name, metadata, remote)
            try:
                self._warm_up(name, remote)
            except BaseException:
                self.part(blocks)
                raise
        except self.errors as error:
            raise PeerError(f"no pair with {name}: {reason_of(error)}") from error
        return blocks

    def start(self, transfer: NixlTransfer) -> None:
        """Hand *transfer* to NIXL, or to the thread that does it where that would take long.

        UCX copies GPU memory in the background, and wants a thread that has used the GPU.
        """
        small = (
            self.local.memory == "vram" or transfer.size_bytes <= self._settings.inline_bytes
        ) and not self._poster.left
        if small and self._turns.try_acquire():
            try:
                self._post(transfer)
            finally:
                self._turns.release()
        elif self._poster.left >= self._settings.max_waiting:
            self._ended(transfer, f"{Failure.BUSY}: {self._poster.left} transfers wait")
        else:
            self._poster.put(transfer)

    def advance(self, transfer: NixlTransfer) -> None:
        """See whether *transfer* has ended, if nobody else has the agent: the thread that posts
        looks after all that move."""
        if (self._poster.left and not transfer.is_unwanted) or not self._turns.try_acquire():
            return
        try:
            self._look_at(transfer)
        finally:
            self._turns.release()

    def is_overdue(self, transfer: NixlTransfer) -> bool:
        at = transfer.posted_at
        limit = self._settings.limit_seconds(transfer.size_bytes)
        return at is not None and not transfer.has_ended and self.clock() - at > limit

    def let_go(self, transfers: set[NixlTransfer], limit_seconds: float) -> None:
        """End *transfers*, which are unwanted, as NIXL is done with each, for so long."""
        give_up_at = self.clock() + limit_seconds
        while True:
            with self._turns:
                for transfer in list(transfers):
                    self._look_at(transfer)
            if not transfers or self.clock() >= give_up_at:
                return
            time.sleep(LOOK_SECONDS)

    def part(self, peer: RemoteBlocks) -> None:
        """Give back *peer*'s blocks, of which nothing moves."""
        with self._turns:
            self._part(peer)

    def end(self, peers: list[RemoteBlocks]) -> None:
        """Destroy the agent, and so make UCX let go of all memory. What was moving is unwanted."""
        self._poster.close()
        with self._turns:
            for transfer in list(self._moving):
                self._ended(transfer, "the transport was closed")
            for peer in peers:
                self._part(peer)
            for handle in [*self._warmer.end(), self._local_blocks]:
                self._release(handle)
            self._local_blocks = self._agent = None

    def _prepare(self, name: str, metadata: bytes, remote: BlockMap) -> RemoteBlocks:
        agent = self._agent
        assert agent is not None
        if not self._peers[name]:
            agent.add_remote_agent(metadata)
        self._peers[name] += 1
        try:
            memory = MEMORY_TYPES[remote.memory]
            return RemoteBlocks(name, agent.prep_xfer_dlist(name, strided_list(remote), memory))
        except self.errors:
            self._leave(name)
            raise

    def _warm_up(self, name: str, remote: BlockMap) -> None:
        assert self._agent is not None
        with self._turns:
            self._look_at_given_up()
            given_up = self._warmer.resume(name)
            if given_up is None:
                state, read, there = self._warmer.start(self._agent, name, remote)
                self._peers[name] += 1  # as long as it goes on
            else:
                state, (read, there) = "PROC", given_up
        give_up_at = self.clock() + self._settings.open_seconds
        try:
            while state == "PROC" and self.clock() < give_up_at:
                time.sleep(LOOK_SECONDS)
                with self._turns:
                    state = self._agent.check_xfer_state(read)
        except self.errors:
            with self._turns:
                self._end_warming(name, read, there)
            raise
        with self._turns:
            if state == "PROC":
                self._warmer.give_up(name, read, there)
            else:
                self._end_warming(name, read, there)
        if state != "DONE":
            raise PeerError(f"no pair with {name}: no answer in {self._settings.open_seconds} s")

    def _look_at_given_up(self) -> None:
        """Let go of the warming reads that were given up and have ended."""
        assert self._agent is not None
        for name, read, there in self._warmer.take_given_up():
            try:
                state = self._agent.check_xfer_state(read)
            except self.errors:
                state = "ERR"
            if state == "PROC":
                self._warmer.give_up(name, read, there)
            else:
                self._end_warming(name, read, there)

    def _end_warming(self, name: str, read: Handle, there: Handle) -> None:
        self._release(read)
        self._release(there)
        self._leave(name)

    def _post_in_turn(self, transfer: NixlTransfer) -> None:
        with self._turns:
            self._post(transfer)
            for other in list(self._moving):
                self._look_at(other)

    def _post(self, transfer: NixlTransfer) -> None:
        """Hand *transfer* to NIXL, unless it has ended while it waited."""
        remote = transfer.pair.remote.blocks
        if transfer.has_ended:
            return
        if transfer.is_unwanted or remote is None or self._agent is None:
            self._ended(transfer)
            return
        local_indices, remote_indices = transfer.indices
        with self._failing(transfer):
            transfer.handle = self._agent.make_prepped_xfer(
                transfer.operation, self._local_blocks, local_indices, remote, remote_indices
            )
            self._moving.add(transfer)
            transfer.posted_at = self.clock()
            self._settle(transfer, self._agent.transfer(transfer.handle))

    def _look_at(self, transfer: NixlTransfer) -> None:
        if transfer.has_ended:
            return
        if transfer in self._moving:
            assert self._agent is not None
            with self._failing(transfer):
                self._settle(transfer, self._agent.check_xfer_state(transfer.handle))
        elif transfer.is_unwanted:
            self._ended(transfer)  # it waits, and nobody is posting it: that takes a turn

    def _settle(self, transfer: NixlTransfer, state: str) -> None:
        if state == "DONE":
            self._ended(transfer)
        elif state != "PROC":
            self._ended(transfer, f"{Failure.REFUSED}: {state}")

    @contextlib.contextmanager
    def _failing(self, transfer: NixlTransfer) -> Iterator[None]:
        try:
            yield
        except self.errors as error:
            self._ended(transfer, reason_of(error))

    def _ended(self, transfer: NixlTransfer, failure: str | None = None) -> None:
        self._moving.discard(transfer)
        if transfer.handle is not None:
            self._release(transfer.handle)
            transfer.handle = None
        transfer.end(failure)
        pair = transfer.pair
        pair.unended.discard(transfer)
        if pair.is_closed and not pair.unended:
            self._part(pair.remote)

    def _part(self, peer: RemoteBlocks) -> None:
        if peer.blocks is not None:
            self._release(peer.blocks)
            peer.blocks = None
            self._leave(peer.agent)

    def _leave(self, name: str) -> None:
        self._peers[name] -= 1
        if self._peers[name]:
            return
        del self._peers[name]
        if self._agent is not None:
            with contextlib.suppress(*self.errors):  # NIXL has forgotten a peer that died
                self._agent.remove_remote_agent(name)

    def _release(self, handle: Handle | None) -> None:
        if handle is None:
            return
        with contextlib.suppress(*self.errors):
            handle.release()
