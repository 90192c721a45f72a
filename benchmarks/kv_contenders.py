"""Those who move blocks for ``kv_transfer``: NIXL by hand, as vLLM calls it, our transports."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import numpy as np

from twofold_kvtransfer.blocks import BlockMap, Move, addresses_of
from twofold_kvtransfer.transports import Pair, Transfer, TransferState, Transport
from twofold_kvtransfer.transports.nixl import NixlTransport
from twofold_kvtransfer.transports.tcp import TcpTransport

BARE = "bare NIXL"
VLLM = "NIXL as vLLM calls it"
OURS = "nixl"
TCP = "tcp"
GLOO = "gloo"
"""The two-sided transport, as it runs where there is no second GPU for NCCL."""

LIMIT_SECONDS = 60.0


class MoveTimeoutError(Exception):
    """A transfer of the benchmark failed or did not end."""


class Side(Protocol):
    """One process's part of a contender; the one that reads connects, the other only stands."""

    def describe(self) -> bytes: ...
    def connect(self, description: bytes, remote: BlockMap) -> None: ...
    def read(self, moves: list[Move]) -> None:
        """Start all of *moves* and wait for them."""

    def close(self) -> None: ...


class BareSide:
    """NIXL's calls and nothing else: a strided list a side, prepared once, and indices."""

    _notification = b""

    def __init__(self, blocks: BlockMap) -> None:
        from nixl._api import nixl_agent

        self._local = blocks
        self._agent = nixl_agent(f"{type(self).__name__}-{time.time_ns()}", self._config())
        span = blocks.stride_bytes * blocks.block_count
        self._agent.register_memory([(each, span, 0, "") for each in blocks.addresses], "DRAM")

    def describe(self) -> bytes:
        metadata: bytes = self._agent.get_agent_metadata()
        return metadata

    def connect(self, description: bytes, remote: BlockMap) -> None:
        self._remote = remote
        peer = self._agent.add_remote_agent(description)
        self._here = self._agent.prep_xfer_dlist("", self._list(self._local), "DRAM")
        self._there = self._agent.prep_xfer_dlist(peer, self._list(remote), "DRAM")

    def read(self, moves: list[Move]) -> None:
        agent = self._agent
        handles = []
        for move in moves:
            here, there = _indices(self._local, move.local), _indices(self._remote, move.remote)
            handle = agent.make_prepped_xfer(
                "READ", self._here, here, self._there, there, self._notification
            )
            agent.transfer(handle)
            handles.append(handle)
        for handle in handles:
            wait_for(partial(self._is_moving, handle))
            if agent.check_xfer_state(handle) != "DONE":
                raise MoveTimeoutError(f"{type(self).__name__}: a transfer failed")
            self._finish(handle)

    def close(self) -> None:
        self._here = self._there = self._agent = None

    def _is_moving(self, handle: Any) -> bool:
        return bool(self._agent.check_xfer_state(handle) == "PROC")

    def _config(self) -> Any:
        from nixl._api import nixl_agent_config

        return nixl_agent_config()

    def _list(self, blocks: BlockMap) -> Any:
        rows = [
            (each, blocks.block_bytes, 0, blocks.stride_bytes, blocks.block_count)
            for each in blocks.addresses
        ]
        return np.array(rows, dtype=np.uint64)

    def _finish(self, handle: Any) -> None:
        self._agent.release_xfer_handle(handle)


class VllmSide(BareSide):
    """The calls of vLLM 0.32's NixlConnector (``base_worker``, ``pull_worker``): four threads,
    telemetry, a row for each block, a notification with each read."""

    _notification = b"request:1"

    def _config(self) -> Any:
        from nixl._api import nixl_agent_config

        return nixl_agent_config(num_threads=4, capture_telemetry=True)

    def _list(self, blocks: BlockMap) -> Any:
        addresses = addresses_of(blocks, range(blocks.block_count)).ravel()
        rows = np.zeros((len(addresses), 3), dtype=np.uint64)
        rows[:, 0] = addresses
        rows[:, 1] = blocks.block_bytes
        return rows

    def _finish(self, handle: Any) -> None:
        self._agent.get_xfer_telemetry(handle)
        super()._finish(handle)


class OurSide:
    """One of our transports."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._pair: Pair | None = None

    def describe(self) -> bytes:
        return self._transport.describe()

    def connect(self, description: bytes, remote: BlockMap) -> None:
        self._pair = self._transport.open(description, remote)

    def read(self, moves: list[Move]) -> None:
        assert self._pair is not None
        transfers = [self._pair.read(move) for move in moves]
        for transfer in transfers:
            wait_for(partial(_moves, transfer))
            if transfer.poll() is not TransferState.DONE:
                raise MoveTimeoutError(f"{self._transport.name}: {transfer.reason}")

    def close(self) -> None:
        self._transport.close()


def _over_gloo(blocks: BlockMap) -> Side:
    from twofold_kvtransfer.communicators.gloo import GlooLibrary
    from twofold_kvtransfer.transports.two_sided import TwoSidedTransport

    return OurSide(TwoSidedTransport(blocks, GlooLibrary("127.0.0.1")))


CONTENDERS: dict[str, Callable[[BlockMap], Side]] = {
    BARE: BareSide,
    VLLM: VllmSide,
    OURS: lambda blocks: OurSide(NixlTransport(blocks)),
    TCP: lambda blocks: OurSide(TcpTransport(blocks)),
    GLOO: _over_gloo,
}


def wait_for(is_moving: Callable[[], bool]) -> None:
    """Look again and again, and let other threads run in between."""
    give_up_at = time.perf_counter() + LIMIT_SECONDS
    while is_moving():
        if time.perf_counter() > give_up_at:
            raise MoveTimeoutError(f"no end in {LIMIT_SECONDS} s")
        time.sleep(0)


def _moves(transfer: Transfer) -> bool:
    return transfer.poll() is TransferState.MOVING


def _indices(blocks: BlockMap, ids: tuple[int, ...]) -> Any:
    firsts = np.arange(blocks.region_count, dtype=np.int32)[:, None] * blocks.block_count
    return (firsts + np.asarray(ids, dtype=np.int32)).ravel()
