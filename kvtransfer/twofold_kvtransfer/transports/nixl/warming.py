"""The first read of a pair, before any that counts."""

import numpy as np

from twofold_kvtransfer.blocks import BlockMap
from twofold_kvtransfer.transports.nixl.agent import MEMORY_TYPES, Agent, Handle

_FIRST = np.zeros(1, dtype=np.int32)


class Warmer:
    """Reads the first byte of a peer's blocks into memory of its own.

    UCX connects its transports with the first request and needs the peer's help for that; a pair
    that was not warmed up would hang on a peer that stands still even where memory is read without
    its help. The byte may still arrive when the peer was given up, so its memory and the handles
    stay: until the read has ended, which the next opening of that peer waits for, or the agent.
    """

    def __init__(self, agent: Agent) -> None:
        self._memory = np.zeros(1, dtype=np.uint8)
        place = self._memory.ctypes.data
        agent.register_memory([(place, 1, 0, "")], "DRAM")
        self._here: Handle | None = agent.prep_xfer_dlist("", [(place, 1, 0)], "DRAM")
        self._given_up: list[tuple[str, Handle, Handle]] = []

    def start(self, agent: Agent, peer: str, remote: BlockMap) -> tuple[str, Handle, Handle]:
        """Return NIXL's state of the read, its handle and that of the remote byte."""
        place = [(remote.addresses[0], 1, remote.device if remote.memory == "vram" else 0)]
        there = agent.prep_xfer_dlist(peer, place, MEMORY_TYPES[remote.memory])
        read = agent.make_prepped_xfer("READ", self._here, _FIRST, there, _FIRST)
        return agent.transfer(read), read, there

    def give_up(self, peer: str, read: Handle, there: Handle) -> None:
        self._given_up.append((peer, read, there))

    def resume(self, peer: str) -> tuple[Handle, Handle] | None:
        """Take back a read of *peer* that was given up."""
        for given_up in self._given_up:
            if given_up[0] == peer:
                self._given_up.remove(given_up)
                return given_up[1:]
        return None

    def take_given_up(self) -> list[tuple[str, Handle, Handle]]:
        """Hand over what was given up, to be given up again or released."""
        given_up, self._given_up = self._given_up, []
        return given_up

    def end(self) -> list[Handle]:
        """Hand over what is to be released before the agent goes."""
        handles = [handle for _, *both in self.take_given_up() for handle in both]
        here, self._here = self._here, None
        return handles if here is None else [*handles, here]
