"""Two nodes over the tcp transport: prefixes are pulled out of a cache that nobody holds still."""

import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import msgspec
import numpy as np
import pytest
from tests.integration.kvtransfer.gates import Gate, GatedTransport, only, wait_until
from tests.integration.kvtransfer.holders import LOCALHOST, LONG, WAIT_SECONDS, free_ports
from tests.unit.kvtransfer.pools import FakeBlock, FakePool

from twofold_kvtransfer import avoiding, pulling
from twofold_kvtransfer.digesting import BLOCKS_PER_DIGEST
from twofold_kvtransfer.node import Node, Rank
from twofold_kvtransfer.prefixes import Outcome, PrefixSource, Pull, Pulled
from twofold_kvtransfer.settings import ConnectorSettings
from twofold_kvtransfer.shelf import Shelf, Sight
from twofold_kvtransfer.transports.tcp import TcpSettings, TcpTransport
from twofold_kvtransfer.transports.testing import HostBlocks, host_blocks
from twofold_kvtransfer.viewing import LocalView

COUNT = BLOCKS_PER_DIGEST + 4
NAMES = tuple(number.to_bytes(32, "big") for number in range(COUNT))
LOCAL = tuple(range(3, 3 + COUNT))
BLOCK_TOKENS = 16
SLOW = 10.0
"""Seconds a token: whatever is pulled is there before it would be computed."""

CHECKING = TcpSettings()
TRUSTING = TcpSettings(checksum=False)


class WatchedShelf(Shelf):
    """Tells when somebody has looked."""

    def __init__(self, pool: FakePool) -> None:
        super().__init__(pool)
        self.was_seen = threading.Event()

    def look(self, names: Sequence[bytes]) -> Sight:
        sight = super().look(names)
        if sight.blocks:
            self.was_seen.set()
        return sight


@dataclass
class Engine:
    engine_id: str
    port: int
    blocks: HostBlocks
    node: Node
    gate: Gate
    pool: FakePool
    shelf: WatchedShelf
    held: list[FakeBlock] = field(default_factory=list)

    @property
    def remote(self) -> tuple[int, ...]:
        return tuple(block.block_id for block in self.held)

    def hold(self, count: int = COUNT) -> None:
        """Have the first blocks of the prompt, with what lies there."""
        self.held = self.pool.hold(NAMES[:count])

    def rewrite(self, number: int, name: bytes | None = None) -> None:
        """Give a block of the prompt to another content."""
        self.pool.give_away(self.held[number], name)
        self.blocks.memory[:, self.held[number].block_id] += 1

    def source(
        self, seconds_per_token: float = SLOW, *, incarnation: str = "1", follow: bool = False
    ) -> PrefixSource:
        return PrefixSource(
            engine_id=f"{self.engine_id.rpartition(':')[0]}:{incarnation}",
            host=LOCALHOST,
            port=self.port,
            tokens=COUNT * BLOCK_TOKENS,
            seconds_per_token=seconds_per_token,
            follow=follow,
        )

    def order(self, source: PrefixSource) -> None:
        self.node.pull(Pull("r", source, NAMES, LOCAL, BLOCK_TOKENS))

    def pulled(self, source: PrefixSource) -> tuple[Outcome, int]:
        """Pull, and say how it ended and how many blocks are here."""
        self.order(source)
        return self.result()

    def result(self) -> tuple[Outcome, int]:
        pulled: Pulled = only(self.node.take_pulled)
        assert pulled.is_last
        assert pulled.request_id == "r"
        return pulled.outcome, pulled.block_count


@contextmanager
def engine(
    engine_id: str,
    blocks: HostBlocks,
    tcp: TcpSettings,
    *,
    has_shelf: bool = True,
    limit_seconds: float = LONG,
) -> Iterator[Engine]:
    settings = ConnectorSettings(
        host=LOCALHOST,
        port=free_ports(1),
        lease_seconds=LONG,
        keep_limit_seconds=LONG,
        read_limit_seconds=limit_seconds,
    )
    transport = GatedTransport(TcpTransport(blocks.map, tcp))
    pool = FakePool(blocks.map.block_count)
    shelf = WatchedShelf(pool)
    node = Node(
        Rank(engine_id, "c"),
        blocks.map,
        transport,
        settings,
        LocalView(lambda: shelf if has_shelf else None),
    )
    try:
        node.start()
        yield Engine(engine_id, settings.port, blocks, node, transport.gate, pool, shelf)
    finally:
        node.close()


@contextmanager
def two(
    tcp: TcpSettings = TRUSTING,
    *,
    has_shelf: bool = True,
    limit_seconds: float = LONG,
    block_bytes: int = 64,
) -> Iterator[tuple[Engine, Engine]]:
    there_blocks = host_blocks(3, 32, block_bytes, seed=1)
    here_blocks = host_blocks(3, 32, block_bytes)
    with (
        engine("p:1", there_blocks, tcp, has_shelf=has_shelf) as there,
        engine("d:1", here_blocks, tcp, limit_seconds=limit_seconds) as here,
    ):
        there.pool.get_new_blocks(5)
        yield there, here


@pytest.mark.parametrize("tcp", [CHECKING, TRUSTING])
@pytest.mark.parametrize("count", [1, BLOCKS_PER_DIGEST, COUNT])
def test_pulled_blocks_have_the_bytes_of_the_source(tcp: TcpSettings, count: int) -> None:
    with two(tcp) as (there, here):
        there.hold(count)
        before = here.blocks.memory.copy()

        assert here.pulled(there.source()) == (Outcome.PULLED, count)

        here_now, there_now = (
            here.blocks.cells(LOCAL[:count]),
            there.blocks.cells(there.remote),
        )
        np.testing.assert_array_equal(here_now, there_now)
        before[:, list(LOCAL[:count])] = there_now
        np.testing.assert_array_equal(here.blocks.memory, before, "others were written")


def test_nothing_is_kept_for_who_pulls() -> None:
    with two() as (there, here):
        there.hold()
        free = there.pool.get_num_free_blocks()
        here.gate.may_begin.clear()
        here.order(there.source())
        assert there.shelf.was_seen.wait(WAIT_SECONDS)

        assert there.pool.get_num_free_blocks() == free
        here.gate.may_begin.set()
        assert here.result() == (Outcome.PULLED, COUNT)
        assert there.node.take_ended() == []


@pytest.mark.parametrize("tcp", [CHECKING, TRUSTING])
@pytest.mark.parametrize("again", [True, False])
@pytest.mark.parametrize("number", [0, COUNT - 1])
def test_a_block_that_changes_before_it_is_read_makes_all_useless(
    tcp: TcpSettings, again: bool, number: int
) -> None:
    with two(tcp) as (there, here):
        there.hold()
        here.gate.may_begin.clear()
        here.order(there.source())
        assert there.shelf.was_seen.wait(WAIT_SECONDS)
        there.rewrite(number, NAMES[number] if again else None)
        here.gate.may_begin.set()

        assert here.result() == (Outcome.CHANGED, 0)


@pytest.mark.parametrize("tcp", [CHECKING, TRUSTING])
def test_a_block_that_changes_after_it_was_read_may_have_changed_before(tcp: TcpSettings) -> None:
    with two(tcp) as (there, here):
        there.hold()
        here.gate.when_done = lambda: there.rewrite(7, NAMES[7])

        assert here.pulled(there.source()) == (Outcome.CHANGED, 0)


def test_a_block_that_changes_after_it_was_vouched_for_does_not_matter() -> None:
    with two() as (there, here):
        there.hold()
        assert here.pulled(there.source()) == (Outcome.PULLED, COUNT)
        there.rewrite(0)

        assert here.pulled(there.source()) == (Outcome.ABSENT, 0)


@pytest.mark.parametrize("region", [0, 2])
@pytest.mark.parametrize("number", [0, COUNT - 1])
def test_a_bit_that_flips_on_the_way_is_found(region: int, number: int) -> None:
    with two(TRUSTING) as (there, here):

        def flip() -> None:
            here.blocks.memory[region, LOCAL[number], 63] ^= 128

        there.hold()
        here.gate.when_done = flip

        assert here.pulled(there.source()) == (Outcome.DAMAGED, 0)


def test_what_the_source_computes_is_there_only_when_it_is_computed() -> None:
    with two() as (there, here):
        there.held = there.pool.schedule(NAMES)
        step = there.shelf.steps.note_scheduled()
        there.blocks.memory[:] = 0
        here.order(there.source())
        assert there.shelf.was_seen.wait(WAIT_SECONDS)
        there.blocks.memory[:] = 7  # the model runs
        there.shelf.steps.note_done(step)

        assert here.result() == (Outcome.PULLED, COUNT)
        assert (here.blocks.cells(LOCAL) == 7).all()


def test_a_source_that_computes_is_followed_to_the_end() -> None:
    with two() as (there, here):
        here.order(there.source(follow=True))
        taken: list[Pulled] = []

        def count() -> int:
            taken.extend(here.node.take_pulled())
            return taken[-1].block_count if taken else 0

        there.held += there.pool.hold(NAMES[:13])
        wait_until(lambda: count() == 13)
        there.held += there.pool.hold(NAMES[13:])
        wait_until(lambda: count() and taken[-1].is_last)
        assert {one.outcome for one in taken} == {Outcome.PULLED}
        reads = here.node.take_prefix_reads()
        assert sum(read.size_bytes for read in reads) == COUNT * here.blocks.map.bytes_per_block
        assert all(read.seconds > 0 for read in reads)
        assert here.node.take_prefix_reads() == []
        np.testing.assert_array_equal(here.blocks.cells(LOCAL), there.blocks.cells(there.remote))


def test_a_pull_that_is_dropped_ends() -> None:
    with two() as (there, here):
        here.order(there.source(follow=True))
        there.hold(4)
        assert there.shelf.was_seen.wait(WAIT_SECONDS)
        here.node.drop_pull("r")
        taken: list[Pulled] = []

        def ends() -> bool:
            taken.extend(here.node.take_pulled())
            return bool(taken) and taken[-1].is_last

        wait_until(ends)
        assert taken[-1].outcome is Outcome.DROPPED


def test_what_is_computed_sooner_is_not_read() -> None:
    with two() as (there, here):
        there.hold()

        assert here.pulled(there.source(seconds_per_token=1e-12)) == (Outcome.SLOWER, 0)
        assert not here.blocks.memory.any()


def test_an_engine_without_a_shelf_has_nothing() -> None:
    with two(has_shelf=False) as (there, here):
        there.hold()

        assert here.pulled(there.source()) == (Outcome.ABSENT, 0)


def test_another_incarnation_is_no_source() -> None:
    with two() as (there, here):
        there.hold()

        assert here.pulled(there.source(incarnation="0")) == (Outcome.FAILED, 0)
        assert here.pulled(there.source()) == (Outcome.PULLED, COUNT)


def test_a_source_that_dies_is_a_failure_and_another_pull_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(avoiding, "FIRST_WAIT_SECONDS", 0.0)
    with two() as (there, here):
        there.hold()
        source = there.source()
        here.gate.may_begin.clear()
        here.order(source)
        assert there.shelf.was_seen.wait(WAIT_SECONDS)
        there.node.close()
        here.gate.may_begin.set()
        assert here.result() == (Outcome.FAILED, 0)
        assert here.pulled(source) == (Outcome.FAILED, 0)  # nobody listens there any more

        with engine("q:1", host_blocks(3, 32, 64, seed=2), TRUSTING) as other:
            other.hold()
            assert here.pulled(other.source()) == (Outcome.PULLED, COUNT)


SLOW_LINK = TcpSettings(checksum=False, bytes_per_second=1_000_000)
BLOCK_BYTES = 100_000
"""Of each region: what is pulled takes six seconds over ``SLOW_LINK``."""


def ended_by(there: Engine, here: Engine, what: Callable[[], None]) -> Outcome:
    """Do *what* when some of a prefix has arrived; check that no more arrives after its end."""
    there.hold()
    here.order(there.source())
    wait_until(lambda: here.blocks.memory.any())
    what()
    outcome, count = here.result()
    after = here.blocks.memory.copy()
    there.blocks.memory[:] = 255
    time.sleep(0.3)  # for what might still come
    np.testing.assert_array_equal(here.blocks.memory, after)
    assert count == 0
    assert not here.blocks.cells(LOCAL).all(axis=2).all(), "all had arrived"
    return outcome


def test_after_the_death_of_its_source_local_memory_is_written_no_more() -> None:
    with two(SLOW_LINK, block_bytes=BLOCK_BYTES) as (there, here):
        assert ended_by(there, here, there.node.close) is Outcome.FAILED


def test_after_a_drop_local_memory_is_written_no_more() -> None:
    with two(SLOW_LINK, block_bytes=BLOCK_BYTES) as (there, here):
        assert ended_by(there, here, lambda: here.node.drop_pull("r")) is Outcome.DROPPED


def test_after_a_late_pull_local_memory_is_written_no_more() -> None:
    with two(SLOW_LINK, block_bytes=BLOCK_BYTES, limit_seconds=1.5) as (there, here):
        assert ended_by(there, here, lambda: None) is Outcome.LATE


def test_a_source_that_is_stuck_in_a_step_is_waited_for_no_longer_than_computing_takes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pulling, "LEAST_SECONDS", 0.1)
    with two() as (there, here):
        there.pool.schedule(NAMES)
        there.shelf.steps.note_scheduled()

        assert here.pulled(there.source(seconds_per_token=1e-6)) == (Outcome.LATE, 0)
        assert not here.blocks.memory.any()


def test_a_source_that_hangs_costs_one_pull_its_time_and_the_others_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pulling, "LEAST_SECONDS", 0.1)
    monkeypatch.setattr(avoiding, "FIRST_WAIT_SECONDS", LONG)
    with two() as (there, here), socket.create_server((LOCALHOST, 0)) as hangs:
        there.hold()
        port = hangs.getsockname()[1]  # it accepts, and never answers
        source = msgspec.structs.replace(
            there.source(seconds_per_token=1e-6), engine_id="h:1", port=port
        )
        assert here.pulled(source) == (Outcome.LATE, 0)

        assert [here.pulled(source) for _ in range(3)] == [(Outcome.AVOIDED, 0)] * 3
        assert here.pulled(there.source()) == (Outcome.PULLED, COUNT)


def test_a_source_that_answers_again_is_pulled_from_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulling, "LEAST_SECONDS", 0.1)
    monkeypatch.setattr(avoiding, "FIRST_WAIT_SECONDS", 0.1)
    with two() as (there, here):
        there.held = there.pool.schedule(NAMES)
        step = there.shelf.steps.note_scheduled()
        assert here.pulled(there.source(seconds_per_token=1e-6)) == (Outcome.LATE, 0)
        there.shelf.steps.note_done(step)
        ended: list[tuple[Outcome, int]] = []

        def is_asked() -> bool:
            ended.append(here.pulled(there.source()))
            return ended[-1] != (Outcome.AVOIDED, 0)

        wait_until(is_asked)
        assert ended[-1] == (Outcome.PULLED, COUNT)
        assert here.pulled(there.source()) == (Outcome.PULLED, COUNT)
