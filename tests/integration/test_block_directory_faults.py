"""The block directory under all that can go wrong at once, against what the engine really holds.

Two feeders tell a real Valkey of one worker. Messages are lost, come twice or late; batches are
missed; the engine begins anew, with and without a new incarnation; Valkey loses all it has.
"""

import asyncio
import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from twofold_cluster.identity import Incarnation, WorkerId
from twofold_cluster.kv_events import (
    AllBlocksCleared,
    Batch,
    BlockRemoved,
    BlockStored,
    EventBatch,
    Happening,
    KvEvent,
    Lost,
    Restarted,
)
from twofold_cluster.membership import connect
from twofold_cluster.membership.entries import awaited
from twofold_kvtransfer.directory import (
    Answer,
    Directory,
    DirectorySettings,
    DirectoryUpdate,
    Feeder,
    Holding,
    Position,
    Rebuild,
    Verdict,
    changes,
    feed,
)

if TYPE_CHECKING:
    from tests.integration.conftest import Valkey

WORKER = WorkerId("worker-0")
TIERS = ("GPU", "CPU")
CHAINS = [[bytes([chain, number]).rjust(16, b"x") for number in range(5)] for chain in range(1, 4)]
LOCK_SECONDS = 0.02
SETTINGS = DirectorySettings(rebuild_lock_seconds=LOCK_SECONDS, shards_per_sweep=1 << 16)

Block = tuple[str, bytes]
Result = TypeVar("Result")
Fault = Literal["none", "lost", "answer lost", "late", "twice"]
FAULTS: tuple[Fault, ...] = ("none", "none", "lost", "answer lost", "late", "twice")


class Engine:
    """One incarnation: what it publishes, and what it held after each batch."""

    def __init__(self, incarnation: Incarnation, began_at: float) -> None:
        self.incarnation = incarnation
        self.log: list[Happening] = []
        self.held: set[Block] = set()
        self.history: list[tuple[Position, frozenset[Block]]] = []
        self.now = began_at
        self._next = 0

    def publish(self, events: list[KvEvent]) -> None:
        self.now += 1 / 3
        for event in events:
            self._do(event)
        self.log.append(Batch(self._next, EventBatch(self.now, events)))
        self.history.append((Position(self.now, self._next), frozenset(self.held)))
        self._next += 1

    def begin_anew(self) -> None:
        self.held.clear()
        self.log.append(Restarted.RESTARTED)
        self._next = 0
        self.publish([])

    def held_since(self, position: Position) -> set[Block]:
        """Return all that was held at *position* or later."""
        return {block for at, held in self.history if at >= position for block in held}

    def held_ever_since(self, position: Position) -> set[Block]:
        """Return what was held at *position* and never since was not."""
        since = [held for at, held in self.history if at >= position]
        return set(frozenset.intersection(*since)) if since else set()

    def _do(self, event: KvEvent) -> None:
        match event:
            case BlockStored():
                self.held |= {(event.medium or "", name) for name in _names(event)}
            case BlockRemoved():
                self.held -= {(event.medium or "", name) for name in _names(event)}
            case AllBlocksCleared():
                self.held.clear()


class FaultyDirectory(Directory):
    """Loses, repeats and delays what is on its way to the real one."""

    faults: list[Fault]
    late: "list[DirectoryUpdate | Rebuild]"

    async def apply(self, update: DirectoryUpdate | Rebuild) -> Answer:
        fault = self.faults.pop(0) if self.faults else "none"
        if fault == "late":
            self.late.append(update)
        if fault in ("late", "lost"):
            raise TimeoutError
        answer = await super().apply(update)
        if fault == "answer lost":
            raise TimeoutError
        return await super().apply(update) if fault == "twice" else answer


class NoEvents:
    """The machine tells the feeders itself."""

    async def follow(self, hear: Callable[[Happening], None]) -> None:
        pass


@dataclass
class Listener:
    """A feeder of one incarnation, and how far it has heard."""

    feeder: Feeder
    engine: Engine
    heard: int = 0
    is_fenced: bool = False


class Faults(RuleBasedStateMachine):
    def __init__(self, url: str) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.redis = connect(url)
        self.clock = 0.0
        self.rng = random.Random(0)
        self.run(awaited(self.redis.flushall()))
        self.directory = FaultyDirectory(self.redis, "qwen", SETTINGS)
        self.directory.faults = []
        self.directory.late = []
        self.incarnation_count = 0
        self.listeners: list[Listener] = []
        self.begin_incarnation()

    def run(self, step: Coroutine[Any, Any, Result]) -> Result:
        return self.runner.run(step)

    # What the engine does.

    @rule(
        tier=st.sampled_from(TIERS),
        chain=st.sampled_from(CHAINS),
        count=st.integers(1, 5),
        again=st.booleans(),
    )
    def store(self, tier: str, chain: list[bytes], count: int, again: bool) -> None:
        start = 0 if again else count // 2
        blocks = tuple(chain[start:count])
        self.engine.publish([BlockStored(blocks, None, len(blocks), 1, tier)])

    @rule(
        tier=st.sampled_from(TIERS),
        chain=st.sampled_from(CHAINS),
        index=st.integers(0, 4),
        back=st.booleans(),
    )
    def remove(self, tier: str, chain: list[bytes], index: int, back: bool) -> None:
        block = (chain[index],)
        events: list[KvEvent] = [BlockRemoved(block, tier)]
        if back:
            events.append(BlockStored(block, None, 1, 1, tier))
        self.engine.publish(events)

    @rule()
    def clear(self) -> None:
        self.engine.publish([AllBlocksCleared()])

    @rule()
    def begin_anew(self) -> None:
        self.engine.begin_anew()

    @precondition(lambda self: self.incarnation_count < 4)
    @rule()
    def begin_incarnation(self) -> None:
        self.incarnation_count += 1
        began_at = 1000.0 * self.incarnation_count
        self.engine = Engine(Incarnation(str(self.incarnation_count)), began_at)
        self.listeners += [
            Listener(self._feeder(self.engine.incarnation), self.engine) for _ in range(2)
        ]

    # What the feeders hear.

    @rule(index=st.integers(0, 9), count=st.integers(1, 6))
    def hear(self, index: int, count: int) -> None:
        listener = self._listener(index)
        for happening in listener.engine.log[listener.heard :][:count]:
            listener.feeder.hear(happening)
            listener.heard += 1

    @rule(index=st.integers(0, 9), is_noticed=st.booleans())
    def miss(self, index: int, is_noticed: bool) -> None:
        listener = self._listener(index)
        for happening in listener.engine.log[listener.heard :][:1]:
            if isinstance(happening, Batch):
                listener.heard += 1
                if is_noticed:
                    listener.feeder.hear(Lost(happening.number))

    @rule(index=st.integers(0, 9), missed=st.integers(0, 3))
    def replace_feeder(self, index: int, missed: int) -> None:
        """One begins with what an engine still has, which may not be all."""
        listener = self._listener(index)
        listener.feeder = self._feeder(listener.engine.incarnation)
        self._exchange(listener, [])
        starts = [i for i, each in enumerate(listener.engine.log) if not isinstance(each, Batch)]
        life = starts[-1] + 1 if starts else 0
        listener.heard = min(life + missed, len(listener.engine.log))

    # What the network does.

    @rule(index=st.integers(0, 9), faults=st.lists(st.sampled_from(FAULTS), max_size=4))
    def exchange(self, index: int, faults: list[Fault]) -> None:
        self._exchange(self._listener(index), faults)

    def _exchange(self, listener: Listener, faults: list[Fault]) -> None:
        self.directory.faults = list(faults)
        listener.is_fenced = self.run(listener.feeder._try()) is Verdict.FENCED
        self.directory.faults = []

    @precondition(lambda self: self.directory.late)
    @rule(index=st.integers(0, 99), stays=st.booleans())
    def arrive_late(self, index: int, stays: bool) -> None:
        late = self.directory.late
        index %= len(late)
        self.run(self.directory.apply(late[index] if stays else late.pop(index)))

    @rule()
    def lose_everything(self) -> None:
        self.run(awaited(self.redis.flushall()))

    @rule()
    def sweep(self) -> None:
        self.run(self.directory.sweep("sweeper"))

    @rule()
    def let_locks_end(self) -> None:
        self.clock += 100.0
        self.run(asyncio.sleep(1.5 * LOCK_SECONDS))

    # What must hold.

    @invariant()
    def nobody_is_said_to_hold_more_than_is_known_of_it(self) -> None:
        engines = {listener.engine.incarnation: listener.engine for listener in self.listeners}
        for chain in CHAINS:
            for holding in self._find(chain):
                engine = engines[holding.incarnation]
                position = self.run(self.directory.position(WORKER, holding.incarnation))
                assert position is not None, "an incarnation that is fenced"
                held = engine.held_since(position)
                assert {(holding.tier, name) for name in chain[: holding.block_count]} <= held

    @invariant()
    def an_entry_that_is_not_degraded_has_all_that_was_told(self) -> None:
        incarnation = self.engine.incarnation
        position = self.run(self.directory.position(WORKER, incarnation))
        degraded = self.run(
            awaited(self.redis.hget(f"twofold:{{qwen}}:kv:life:{WORKER}", "degraded"))
        )
        if position is None or degraded != b"0":
            return
        held = self.engine.held_ever_since(position)
        for chain in CHAINS:
            counts = {holding.tier: holding.block_count for holding in self._find(chain)}
            assert all(counts.get(tier, 0) >= _leading(chain, tier, held) for tier in TIERS)

    def teardown(self) -> None:
        try:
            self._settle()
            self._check_the_end()
        finally:
            self.run(self.redis.aclose())
            self.runner.close()

    def _settle(self) -> None:
        """Let everything arrive, and everybody who lives have their say."""
        self.engine.publish([])
        for update in self.directory.late:
            self.run(self.directory.apply(update))
        for listener in self.listeners:
            for happening in listener.engine.log[listener.heard :]:
                listener.feeder.hear(happening)
        for _ in range(6):
            self.let_locks_end()
            for listener in self.listeners:
                self._exchange(listener, [])

    def _check_the_end(self) -> None:
        living = [each for each in self.listeners if each.engine is self.engine]
        assert not any(each.is_fenced for each in living)
        is_whole = any(each.feeder._feed.is_whole for each in living)
        for chain in CHAINS:
            found = self._find(chain)
            expected = {
                tier: count for tier in TIERS if (count := _leading(chain, tier, self.engine.held))
            }
            assert {holding.incarnation for holding in found} <= {self.engine.incarnation}
            counts = {holding.tier: holding.block_count for holding in found}
            if is_whole or not all(holding.degraded for holding in found):
                assert counts == expected
            assert all(counts[tier] <= expected.get(tier, 0) for tier in counts)
            assert not (is_whole and any(holding.degraded for holding in found))

    def _find(self, chain: list[bytes]) -> list[Holding]:
        return self.run(self.directory.find(chain))

    def _feeder(self, incarnation: Incarnation) -> Feeder:
        return Feeder(
            self.directory,
            WORKER,
            incarnation,
            NoEvents(),
            clock=lambda: self.clock,
            rng=self.rng,
        )

    def _listener(self, index: int) -> Listener:
        """Choose one; the newest are the likeliest."""
        return self.listeners[-1 - index % min(len(self.listeners), 4)]


def test_no_fault_makes_the_directory_say_more_than_is_held(
    valkey: "Valkey", monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (changes, feed):
        monkeypatch.setattr(module, "MAX_BLOCKS_PER_UPDATE", 2)  # so that updates have parts

    class OnValkey(Faults):
        def __init__(self) -> None:
            super().__init__(valkey.url)

    run_state_machine_as_test(
        OnValkey,
        settings=settings(
            max_examples=40,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def _names(event: BlockStored | BlockRemoved) -> list[bytes]:
    return [block for block in event.block_hashes if isinstance(block, bytes)]


def _leading(chain: list[bytes], tier: str, held: set[Block]) -> int:
    count = 0
    while count < len(chain) and (tier, chain[count]) in held:
        count += 1
    return count
