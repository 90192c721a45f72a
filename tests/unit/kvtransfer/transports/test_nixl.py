"""The nixl transport on an agent that does as it is told; the real one is in the contract suite."""

import sys
import threading
import time
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest

from twofold_kvtransfer.blocks import BlockMap, InvalidBlocksError, Move
from twofold_kvtransfer.transports import PeerError, TransferState
from twofold_kvtransfer.transports.nixl import NixlSettings, NixlTransport
from twofold_kvtransfer.transports.nixl.agent import NIXL_ERRORS, NixlMissingError, make_agent
from twofold_kvtransfer.transports.nixl.description import Description
from twofold_kvtransfer.transports.nixl.lists import (
    first_indices,
    indices_of,
    regions_to_register,
    strided_list,
)
from twofold_kvtransfer.transports.nixl.settings import InvalidNixlSettingsError

BLOCKS = BlockMap(addresses=(1000, 2000), block_count=8, block_bytes=100, stride_bytes=100)
MOVE = Move((0, 1), (2, 3))


class nixlRemoteDisconnectError(Exception):  # noqa: N801 - NIXL's name is what counts
    pass


class FakeHandle:
    def __init__(self, is_warming: bool = False) -> None:
        self.is_warming = is_warming
        self.released = False

    def release(self) -> None:
        self.released = True


class FakeAgent:
    """Every transfer but a warming read is in ``state``, or raises ``error``."""

    def __init__(self) -> None:
        self.state = "PROC"
        self.warming_state = "DONE"
        self.error: Exception | None = None
        self.peers: list[str] = []
        self.posted: list[tuple[str, list[int], list[int]]] = []
        self.handles: list[FakeHandle] = []
        self.may_post = threading.Event()
        self.may_post.set()
        self.posting = threading.Event()

    def register_memory(self, reg_list: Any, mem_type: str) -> None: ...
    def get_agent_metadata(self) -> bytes:
        return b"here"

    def add_remote_agent(self, metadata: bytes) -> str:
        self.peers.append(metadata.decode())
        return metadata.decode()

    def remove_remote_agent(self, agent: str) -> None:
        self.peers.remove(agent)

    def prep_xfer_dlist(self, agent_name: str, xfer_list: Any, mem_type: str) -> FakeHandle:
        return self._handle()

    def make_prepped_xfer(
        self, operation: str, local: Any, local_indices: Any, remote: Any, remote_indices: Any
    ) -> FakeHandle:
        is_warming = len(local_indices) == 1
        if not is_warming:
            self.posted.append((operation, local_indices.tolist(), remote_indices.tolist()))
        return self._handle(is_warming)

    def transfer(self, handle: Any) -> str:
        if not handle.is_warming:
            self.posting.set()
            assert self.may_post.wait(30)
        return self.check_xfer_state(handle)

    def check_xfer_state(self, handle: Any) -> str:
        if handle.is_warming:
            return self.warming_state
        if self.error is not None:
            raise self.error
        return self.state

    def _handle(self, is_warming: bool = False) -> FakeHandle:
        self.handles.append(FakeHandle(is_warming))
        return self.handles[-1]


class Clock:
    """Goes on by ``step`` with each look."""

    def __init__(self) -> None:
        self.now = 0.0
        self.step = 0.0

    def __call__(self) -> float:
        self.now += self.step
        return self.now


class Stand:
    """A transport on a fake agent, with a pair."""

    def __init__(self, **settings: Any) -> None:
        self.agent = FakeAgent()
        self.clock = Clock()
        self.transport = NixlTransport(
            BLOCKS,
            NixlSettings(**settings),
            make_agent=lambda name, _: (self.agent, (nixlRemoteDisconnectError,)),
            new_name=lambda: "me",
            clock=self.clock,
        )

    def description(self, **changes: Any) -> bytes:
        mine = msgspec.msgpack.decode(self.transport.describe(), type=Description)
        changed = msgspec.structs.replace(mine, agent="peer", metadata=b"peer", **changes)
        return msgspec.msgpack.encode(changed)

    def close(self) -> None:
        self.clock.step = 1.0  # NIXL may not let go
        self.transport.close()

    def open(self) -> Any:
        return self.transport.open(self.description(), BLOCKS)


def given_up() -> Stand:
    """Return one that gave up a peer which would answer by now."""
    stand = Stand(open_seconds=2.0)
    stand.agent.warming_state = "PROC"
    stand.clock.step = 1.0
    with pytest.raises(PeerError, match="no answer"):
        stand.open()
    stand.agent.warming_state = "DONE"
    return stand


@pytest.fixture
def stand() -> Any:
    made = Stand()
    yield made
    made.close()


def test_the_pieces_of_a_move_are_each_block_in_each_region(stand: Stand) -> None:
    stand.open().read(MOVE)

    assert stand.agent.posted == [("READ", [0, 1, 8, 9], [2, 3, 10, 11])]


def test_a_cancelled_transfer_moves_until_nixl_is_done_with_it(stand: Stand) -> None:
    transfer = stand.open().read(MOVE)
    transfer.cancel()
    while_moving = (transfer.poll(), transfer.reason)
    stand.agent.state = "DONE"

    assert while_moving == (TransferState.MOVING, None)
    assert transfer.poll() is TransferState.FAILED
    assert transfer.reason == "cancelled"


def test_a_transfer_ends_when_nixl_says_so_and_its_handle_is_released(stand: Stand) -> None:
    transfer = stand.open().write(MOVE)
    stand.clock.now = 3.0
    stand.agent.state = "DONE"
    handle = stand.agent.handles[-1]

    assert transfer.poll() is TransferState.DONE
    assert handle.released
    stand.clock.now = 9.0
    assert transfer.seconds == 3.0


def test_a_lost_peer_fails_a_transfer_in_nixls_words(stand: Stand) -> None:
    transfer = stand.open().read(MOVE)
    stand.agent.error = nixlRemoteDisconnectError("NIXL_ERR_REMOTE_DISCONNECT")

    assert transfer.poll() is TransferState.FAILED
    assert transfer.reason == "peer-lost: NIXL_ERR_REMOTE_DISCONNECT"


def test_a_large_transfer_that_waits_and_is_cancelled_never_reaches_nixl() -> None:
    stand = Stand(inline_bytes=0)
    stand.agent.may_post.clear()
    pair = stand.open()
    first, second = pair.read(MOVE), pair.read(Move((4, 5), (4, 5)))
    assert stand.agent.posting.wait(30)
    second.cancel()
    while_posting = second.poll()
    third = pair.read(Move((6, 7), (6, 7)))
    stand.agent.state = "DONE"
    stand.agent.may_post.set()
    give_up_at = time.monotonic() + 30
    while third.poll() is TransferState.MOVING and time.monotonic() < give_up_at:
        pass

    assert while_posting is TransferState.MOVING
    assert first.poll() is third.poll() is TransferState.DONE
    assert (second.poll(), second.reason) == (TransferState.FAILED, "cancelled")
    assert [here for _, here, _ in stand.agent.posted] == [[0, 1, 8, 9], [6, 7, 14, 15]]
    stand.close()


def test_more_transfers_than_may_wait_fail_as_busy() -> None:
    stand = Stand(inline_bytes=0, max_waiting=2)
    stand.agent.may_post.clear()
    pair = stand.open()
    transfers = [pair.read(MOVE) for _ in range(3)]
    reason = transfers[2].reason
    stand.agent.state = "DONE"
    stand.agent.may_post.set()
    stand.close()

    assert reason == "busy: 2 transfers wait"


def test_a_pair_is_parted_from_when_the_last_of_what_moved_was_let_go() -> None:
    stand = Stand(letting_go_seconds=1.0)
    pair = stand.open()
    transfer = pair.read(MOVE)
    stand.clock.step = 0.6
    pair.close("a new incarnation")
    stand.clock.step = 0.0
    while_moving = (transfer.poll(), list(stand.agent.peers))
    stand.agent.state = "DONE"

    assert while_moving == (TransferState.MOVING, ["peer"])
    assert transfer.poll() is TransferState.FAILED
    assert transfer.reason == "a new incarnation"
    assert stand.agent.peers == []
    stand.close()


def test_a_peer_of_two_pairs_is_parted_from_with_the_second(stand: Stand) -> None:
    first, second = stand.open(), stand.open()
    first.close("one")
    between = list(stand.agent.peers)
    second.close("two")

    assert between == ["peer"]
    assert stand.agent.peers == []


def test_a_transfer_over_its_time_limit_ends_the_transport() -> None:
    stand = Stand(transfer_seconds=5.0)
    pair = stand.open()
    overdue, other = pair.read(MOVE), pair.read(MOVE)
    stand.clock.now = 5.1
    states = (overdue.poll(), other.poll())
    later = pair.read(MOVE)

    assert states == (TransferState.FAILED, TransferState.FAILED)
    assert overdue.reason == other.reason == later.reason == "timeout: no answer in 5.0 s"
    assert all(handle.released for handle in stand.agent.handles)
    with pytest.raises(PeerError, match="timeout"):
        stand.open()


def test_a_large_transfer_has_longer() -> None:
    stand = Stand(transfer_seconds=5.0, least_bytes_per_second=400.0)
    transfer = stand.open().read(MOVE)  # 400 bytes
    stand.clock.now = 5.9
    state = transfer.poll()
    stand.clock.now = 6.1

    assert state is TransferState.MOVING
    assert transfer.poll() is TransferState.FAILED
    assert transfer.reason == "timeout: no answer in 6.0 s"


def test_a_peer_that_does_not_answer_has_no_pair() -> None:
    stand = Stand(open_seconds=2.0)
    stand.agent.warming_state = "PROC"
    stand.clock.step = 1.0

    with pytest.raises(PeerError, match=r"no answer in 2\.0 s"):
        stand.open()
    stand.close()
    assert all(handle.released for handle in stand.agent.handles)


def test_a_peer_that_does_not_answer_has_one_read_under_way_however_often_it_is_tried() -> None:
    stand = Stand(open_seconds=2.0)
    stand.agent.warming_state = "PROC"
    stand.clock.step = 1.0
    for _ in range(3):
        with pytest.raises(PeerError, match="no answer"):
            stand.open()

    assert sum(not handle.released for handle in stand.agent.handles) == 2 + 2, "and what is here"
    assert sum(handle.is_warming for handle in stand.agent.handles) == 1
    assert stand.agent.peers == ["peer"]
    stand.close()


def test_a_peer_that_answers_late_is_met_by_the_next_opening() -> None:
    stand = given_up()
    stand.open().close("not wanted")

    assert sum(not handle.released for handle in stand.agent.handles) == 2, "those of what is here"
    assert stand.agent.peers == []
    assert not stand.transport._mover._peers
    stand.close()


def test_a_read_that_was_given_up_and_has_ended_is_let_go_with_the_next_opening() -> None:
    stand = given_up()
    other = msgspec.msgpack.decode(stand.description(), type=Description)
    other = msgspec.structs.replace(other, agent="other", metadata=b"other")
    stand.transport.open(msgspec.msgpack.encode(other), BLOCKS)

    assert stand.agent.peers == ["other"]
    stand.close()


def test_a_peer_that_fails_when_it_is_met_leaves_nothing(stand: Stand) -> None:
    stand.agent.warming_state = "ERR"

    with pytest.raises(PeerError):
        stand.open()
    assert sum(not handle.released for handle in stand.agent.handles) == 2
    assert not stand.transport._mover._peers


@pytest.mark.parametrize(
    "changes",
    [{"nixl": "0.1"}, {"format": "other"}, {"block_bytes": 99}, {"region_count": 3}],
)
def test_a_peer_of_another_make_is_refused(stand: Stand, changes: dict[str, Any]) -> None:
    with pytest.raises(PeerError):
        stand.transport.open(stand.description(**changes), BLOCKS)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\x81\xa4nixl\xa1\xff", id="text that is no UTF-8"),
        pytest.param(b"\x81\xa1x" + b"\x91" * 10**6, id="nested without end"),
    ],
)
def test_what_is_no_description_is_refused(stand: Stand, data: bytes) -> None:
    with pytest.raises(PeerError, match="not a description"):
        stand.transport.open(data, BLOCKS)


def test_blocks_of_another_size_are_refused(stand: Stand) -> None:
    other = msgspec.structs.replace(BLOCKS, block_bytes=50)

    with pytest.raises(InvalidBlocksError):
        stand.transport.open(stand.description(), other)


def test_regions_between_each_other_are_registered_as_one() -> None:
    between = BlockMap(addresses=(150, 100), block_count=4, block_bytes=50, stride_bytes=100)

    assert regions_to_register(between) == [(100, 400, 0, "")]
    assert regions_to_register(BLOCKS) == [(1000, 800, 0, ""), (2000, 800, 0, "")]


def test_a_strided_list_has_a_row_for_each_region() -> None:
    on_gpu = msgspec.structs.replace(BLOCKS, memory="vram", device=3)

    assert strided_list(on_gpu).tolist() == [[1000, 100, 3, 100, 8], [2000, 100, 3, 100, 8]]
    assert indices_of(first_indices(on_gpu), (7, 0)).dtype == np.int32


@pytest.mark.parametrize("setting", [{"thread_count": -1}, {"transfer_seconds": 0.0}])
def test_a_bad_setting_is_named(setting: dict[str, Any]) -> None:
    with pytest.raises(InvalidNixlSettingsError, match=next(iter(setting))):
        NixlSettings(**setting)


def test_an_agent_that_does_not_start_says_what_was_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def start(name: str, config: object) -> str:
        raise nixlRemoteDisconnectError("NIXL_ERR_BACKEND")

    _put_nixl(monkeypatch, start)
    monkeypatch.setenv("UCX_TLS", "rc")

    with pytest.raises(NixlMissingError, match=r"UCX_TLS=rc.*NIXL_ERR_BACKEND"):
        make_agent("me", NixlSettings())


def test_a_process_without_nixl_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nixl._bindings", None)

    with pytest.raises(NixlMissingError, match="needs the package nixl"):
        make_agent("me", NixlSettings())


def _put_nixl(monkeypatch: pytest.MonkeyPatch, start: Any) -> None:
    errors = dict.fromkeys(NIXL_ERRORS, nixlRemoteDisconnectError)
    bindings = SimpleNamespace(**errors, nixlAgent=type("nixlAgent", (), {}))
    api = SimpleNamespace(nixl_agent=start, nixl_agent_config=lambda **_: None)
    monkeypatch.setitem(sys.modules, "nixl", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "nixl._bindings", bindings)
    monkeypatch.setitem(sys.modules, "nixl._api", api)
