"""Two engines of one or two ranks each: every rank pulls its heads, and what all have is there."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import msgspec
import numpy as np
import pytest
from tests.integration.kvtransfer.gates import Gate, GatedTransport, wait_until
from tests.integration.kvtransfer.holders import LOCALHOST, LONG, free_ports
from tests.unit.kvtransfer.pools import FakeBlock, FakePool

from twofold_kvtransfer.connector.agreeing import PullsOfRanks
from twofold_kvtransfer.digesting import Cells
from twofold_kvtransfer.node import Node, Rank
from twofold_kvtransfer.prefixes import Outcome, PrefixSource, Pull, Pulled
from twofold_kvtransfer.remote_view import RemoteView
from twofold_kvtransfer.settings import ConnectorSettings
from twofold_kvtransfer.shelf import Shelf
from twofold_kvtransfer.showing import ShelfServer
from twofold_kvtransfer.transports.tcp import TcpSettings, TcpTransport
from twofold_kvtransfer.transports.testing import HostBlocks, host_blocks
from twofold_kvtransfer.viewing import LocalView

COUNT = 5
NAMES = tuple(number.to_bytes(32, "big") for number in range(COUNT))
LOCAL = tuple(range(3, 3 + COUNT))
BLOCK_TOKENS = 16
BLOCK_BYTES = 128
"""Of all heads, in each region."""

SLOW = 10.0
"""Seconds a token: whatever is pulled is there before it would be computed."""


@dataclass
class Engine:
    """The scheduler's process, which is the test's, and its ranks."""

    engine_id: str
    port: int
    pool: FakePool
    shelf: Shelf
    blocks: list[HostBlocks]
    """By rank."""
    nodes: list[Node]
    gates: list[Gate]
    held: list[FakeBlock] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._ranks = PullsOfRanks(len(self.nodes))
        self.told: list[Pulled] = []
        """What the ranks agree on."""

    def hold(self, count: int = COUNT) -> None:
        """Have the first blocks of the prompt, with what lies there."""
        self.held += self.pool.hold(NAMES[len(self.held) : count])

    def source(self, *, follow: bool = False) -> PrefixSource:
        return PrefixSource(
            engine_id=self.engine_id,
            host=LOCALHOST,
            port=self.port,
            tokens=COUNT * BLOCK_TOKENS,
            seconds_per_token=SLOW,
            tensor_parallel=len(self.nodes),
            follow=follow,
        )

    def order(self, source: PrefixSource) -> None:
        for node in self.nodes:
            node.pull(Pull("r", source, NAMES, LOCAL, BLOCK_TOKENS))

    def collect(self) -> list[Pulled]:
        """Take what the ranks tell now, as after a step, and return all that they agree on."""
        for rank, node in enumerate(self.nodes):
            for pulled in node.take_pulled():
                agreed = self._ranks.note(rank, pulled)
                if agreed is not None:
                    self.told.append(agreed)
        return self.told

    def result(self) -> tuple[Outcome, int]:
        wait_until(lambda: any(one.is_last for one in self.collect()))
        return self.told[-1].outcome, self.told[-1].block_count

    def heads(self, blocks: Sequence[int]) -> Cells:
        """Return what *blocks* hold in all ranks, side by side."""
        return np.concatenate([each.cells(blocks) for each in self.blocks], axis=-1)


@contextmanager
def engine(engine_id: str, ranks: int, seed: int) -> Iterator[Engine]:
    port = free_ports(ranks)
    settings = ConnectorSettings(
        host=LOCALHOST,
        port=port,
        lease_seconds=LONG,
        keep_limit_seconds=LONG,
        read_limit_seconds=LONG,
    )
    blocks = [host_blocks(3, 16, BLOCK_BYTES // ranks, seed=seed + rank) for rank in range(ranks)]
    pool = FakePool(16)
    shelf = Shelf(pool)
    server = ShelfServer(shelf)
    with ExitStack() as stack:
        server.start()
        stack.callback(server.close)
        nodes, gates = [], []
        for rank in range(ranks):
            transport = GatedTransport(TcpTransport(blocks[rank].map, TcpSettings(checksum=False)))
            view = LocalView(lambda: shelf) if ranks == 1 else RemoteView(lambda: server.address)
            node = Node(
                Rank(engine_id, "c", ranks, rank), blocks[rank].map, transport, settings, view
            )
            stack.callback(node.close)
            node.start()
            nodes.append(node)
            gates.append(transport.gate)
        yield Engine(engine_id, port, pool, shelf, blocks, nodes, gates)


@contextmanager
def two(there_ranks: int, here_ranks: int) -> Iterator[tuple[Engine, Engine]]:
    with engine("p:1", there_ranks, 10) as there, engine("d:1", here_ranks, 20) as here:
        there.pool.get_new_blocks(5)
        yield there, here


RANKS = pytest.mark.parametrize(("there_ranks", "here_ranks"), [(1, 2), (2, 2), (2, 4), (1, 1)])


@RANKS
def test_each_rank_has_the_bytes_of_its_heads(there_ranks: int, here_ranks: int) -> None:
    with two(there_ranks, here_ranks) as (there, here):
        there.hold(COUNT - 1)
        remote = [block.block_id for block in there.held]
        others = [block for block in range(16) if block not in LOCAL[:-1]]
        before = here.heads(others)
        here.order(there.source())

        assert here.result() == (Outcome.PULLED, COUNT - 1)
        np.testing.assert_array_equal(here.heads(LOCAL[:-1]), there.heads(remote))
        np.testing.assert_array_equal(here.heads(others), before, "others were written")


@RANKS
def test_a_prompt_that_is_computed_is_followed_by_all_ranks(
    there_ranks: int, here_ranks: int
) -> None:
    with two(there_ranks, here_ranks) as (there, here):
        here.order(there.source(follow=True))
        there.hold(2)
        wait_until(lambda: here.collect() and here.told[-1].block_count == 2)
        there.held += there.pool.schedule(NAMES[2:])
        step = there.shelf.steps.note_scheduled()
        for blocks in there.blocks:
            blocks.memory[:] = 7  # the model runs
        there.shelf.steps.note_done(step)

        assert here.result() == (Outcome.PULLED, COUNT)
        assert (here.heads(LOCAL[2:]) == 7).all()


@pytest.mark.parametrize("there_ranks", [1, 2])
def test_a_block_that_changes_before_one_rank_has_read_it_is_there_in_none(
    there_ranks: int,
) -> None:
    with two(there_ranks, 2) as (there, here):
        there.hold()
        here.gates[1].may_begin.clear()
        read = []
        here.gates[0].when_done = lambda: read.append(True)
        here.order(there.source())
        wait_until(lambda: read and here.gates[1].was_shut.is_set())
        there.pool.give_away(there.held[1])
        here.gates[1].may_begin.set()

        assert here.result() == (Outcome.CHANGED, 0)


@pytest.mark.parametrize("there_ranks", [1, 2])
def test_bits_that_flip_on_the_way_to_one_rank_are_found(there_ranks: int) -> None:
    with two(there_ranks, 2) as (there, here):

        def flip() -> None:
            here.blocks[1].memory[2, LOCAL[0], 0] ^= 1

        there.hold()
        here.gates[1].when_done = flip
        here.order(there.source())

        assert here.result() == (Outcome.DAMAGED, 0)


def test_nothing_is_over_while_one_rank_still_reads() -> None:
    with two(2, 2) as (there, here):
        there.hold()
        here.gates[0].may_begin.clear()
        read = []
        here.gates[1].when_done = lambda: read.append(True)
        here.order(there.source())
        wait_until(lambda: read)

        assert here.collect() == []
        here.nodes[0].drop_pull("r")
        here.gates[0].may_begin.set()
        assert here.result()[0] in (Outcome.DROPPED, Outcome.PULLED)


def test_a_rank_of_the_source_that_is_gone_fails_it_for_all() -> None:
    with two(2, 2) as (there, here):
        there.hold()
        there.nodes[1].close()
        here.order(there.source())

        assert here.result() == (Outcome.FAILED, 0)


@pytest.mark.parametrize(("there_ranks", "here_ranks"), [(2, 1), (3, 2)])
def test_a_source_of_more_ranks_is_refused_by_all(there_ranks: int, here_ranks: int) -> None:
    with engine("p:1", there_ranks, 10) as there, engine("d:1", here_ranks, 20) as here:
        there.hold()
        here.order(there.source())

        assert here.result() == (Outcome.FAILED, 0)


def test_a_source_that_says_it_has_other_ranks_than_it_has_is_refused() -> None:
    with two(2, 2) as (there, here):
        there.hold()
        here.order(msgspec.structs.replace(there.source(), tensor_parallel=1))

        assert here.result() == (Outcome.FAILED, 0)
