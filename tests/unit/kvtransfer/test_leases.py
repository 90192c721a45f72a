"""Leases by example, and by a machine of all that may befall them."""

from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from twofold_kvtransfer.lease import Cause, LeaseSnapshot, LeaseState, Reader
from twofold_kvtransfer.leases import (
    MAX_PIN_SECONDS,
    Ended,
    InvalidPinError,
    LeaseTable,
    TooMuchPinnedError,
    UnknownLeaseError,
)

SECONDS = 30.0
LIMIT = 100.0
"""After which a lease is renewed no more, where that is the matter."""

ALONE = Reader("decode-0", "1")
OTHER = Reader("decode-1", "1")
FIRST = Reader("decode-0", "1", rank=0, count=2)
SECOND = Reader("decode-0", "1", rank=1, count=2)


@pytest.fixture
def table() -> LeaseTable:
    return LeaseTable(SECONDS)


def test_a_lease_that_nobody_claims_ends_after_its_time(table: LeaseTable) -> None:
    table.grant("r", now=100.0)

    assert table.collect(129.9) == []
    assert table.collect(130.0) == [Ended("r", Cause.EXPIRED)]
    assert table.collect(1000.0) == []


def test_a_claim_renews_from_the_moment_of_the_claim(table: LeaseTable) -> None:
    table.grant("r", now=0.0)

    assert table.claim("r", ALONE, now=20.0) == SECONDS
    assert table.collect(49.9) == []
    assert table.collect(50.0) == [Ended("r", Cause.EXPIRED)]


def test_a_lease_given_back_ends_at_once_and_once(table: LeaseTable) -> None:
    table.grant("r", now=0.0)
    table.claim("r", ALONE, now=1.0)
    table.give_back("r", ALONE)
    table.give_back("r", ALONE)

    assert table.collect(1.0) == [Ended("r", Cause.READ)]
    table.give_back("r", ALONE)
    assert table.collect(100.0) == []


def test_a_lease_may_be_claimed_before_it_is_granted(table: LeaseTable) -> None:
    table.promise("r")

    assert table.claim("r", ALONE, now=10.0) == SECONDS
    table.grant("r", now=11.0)
    assert table.collect(40.9) == []
    assert table.collect(41.0) == [Ended("r", Cause.EXPIRED)]


def test_a_promise_does_not_end_by_itself(table: LeaseTable) -> None:
    table.promise("r")
    table.claim("r", ALONE, now=0.0)

    assert table.collect(1e6) == []
    table.grant("r", now=1e6)
    assert table.claim("r", ALONE, now=1e6 + 1) == SECONDS


def test_a_lease_given_back_before_it_is_granted_ends_when_it_is(table: LeaseTable) -> None:
    table.promise("r")
    table.give_back("r", ALONE)

    assert table.collect(0.0) == []
    table.grant("r", now=1.0)
    assert table.collect(1.0) == [Ended("r", Cause.READ)]


@pytest.mark.parametrize("granted", [True, False])
def test_who_has_given_back_cannot_claim_again(table: LeaseTable, granted: bool) -> None:
    table.promise("r")
    if granted:
        table.grant("r", now=0.0)
    table.give_back("r", FIRST)

    with pytest.raises(UnknownLeaseError):
        table.claim("r", FIRST, now=1.0)
    assert table.claim("r", SECOND, now=1.0) == SECONDS


def test_a_lease_is_over_for_all_when_its_reader_has_given_it_back(table: LeaseTable) -> None:
    table.grant("r", now=0.0)
    table.give_back("r", ALONE)

    with pytest.raises(UnknownLeaseError):
        table.claim("r", OTHER, now=1.0)


@pytest.mark.parametrize("name", ["never", "expired", "withdrawn", "collected"])
def test_a_claim_on_what_is_not_held_is_refused(table: LeaseTable, name: str) -> None:
    table.grant("expired", now=0.0)
    table.promise("withdrawn")
    table.withdraw("withdrawn")
    table.grant("collected", now=0.0)
    table.give_back("collected", ALONE)
    table.collect(1.0)

    with pytest.raises(UnknownLeaseError, match=name):
        table.claim(name, ALONE, now=SECONDS)


def test_a_lease_is_held_until_all_ranks_of_its_reader_have_given_it_back(
    table: LeaseTable,
) -> None:
    table.grant("r", now=0.0)
    table.claim("r", FIRST, now=0.0)
    table.give_back("r", FIRST)
    table.give_back("r", FIRST)

    assert table.collect(1.0) == []
    table.give_back("r", SECOND)
    assert table.collect(1.0) == [Ended("r", Cause.READ)]


def test_what_one_engine_gives_back_another_still_holds(table: LeaseTable) -> None:
    table.grant("r", now=0.0)
    table.claim("r", ALONE, now=0.0)
    table.claim("r", OTHER, now=10.0)
    table.give_back("r", ALONE)

    assert table.collect(11.0) == []
    assert table.claim("r", OTHER, now=11.0) == SECONDS
    table.give_back("r", OTHER)
    assert table.collect(12.0) == [Ended("r", Cause.READ)]


def test_ranks_of_different_engines_do_not_add_up_to_a_reader(table: LeaseTable) -> None:
    table.grant("r", now=0.0)
    table.give_back("r", FIRST)
    table.give_back("r", Reader("decode-1", "1", rank=1, count=2))

    assert table.collect(1.0) == []


def test_a_new_incarnation_ends_what_the_one_before_held(table: LeaseTable) -> None:
    table.grant("r", now=0.0)
    table.grant("partly", now=0.0)
    table.grant("others", now=0.0)
    table.grant("nobodys", now=0.0)
    table.claim("r", ALONE, now=1.0)
    table.give_back("partly", FIRST)
    table.claim("others", OTHER, now=1.0)
    table.fence("decode-0", "2")

    assert table.collect(1.0) == [Ended("r", Cause.FENCED), Ended("partly", Cause.FENCED)]
    with pytest.raises(UnknownLeaseError):
        table.claim("r", ALONE, now=1.0)


def test_a_fence_leaves_the_same_and_later_incarnations_alone(table: LeaseTable) -> None:
    table.grant("r", now=0.0)
    table.claim("r", Reader("decode-0", "2"), now=1.0)
    table.fence("decode-0", "1")
    table.fence("decode-0", "2")

    assert table.collect(1.0) == []


def test_a_fence_leaves_what_another_engine_holds_too(table: LeaseTable) -> None:
    table.grant("r", now=0.0)
    table.claim("r", ALONE, now=1.0)
    table.claim("r", OTHER, now=2.0)
    table.fence("decode-0", "2")

    assert table.collect(31.9) == []
    assert [end.request_id for end in table.collect(32.0)] == ["r"]


def test_what_was_fenced_before_it_is_granted_ends_when_it_is(table: LeaseTable) -> None:
    table.promise("r")
    table.claim("r", ALONE, now=0.0)
    table.fence("decode-0", "2")
    table.grant("r", now=1.0)

    assert table.collect(1.0) == [Ended("r", Cause.FENCED)]


def test_a_name_that_is_used_again_is_another_lease(table: LeaseTable) -> None:
    table.grant("r", now=0.0)
    table.give_back("r", ALONE)
    table.collect(1.0)
    table.promise("r")
    table.grant("r", now=2.0)

    assert table.claim("r", ALONE, now=3.0) == SECONDS
    table.give_back("r", ALONE)
    assert table.collect(3.0) == [Ended("r", Cause.READ)]


def test_a_promise_of_what_is_held_changes_nothing(table: LeaseTable) -> None:
    table.grant("r", now=0.0)
    table.promise("r")
    table.withdraw("r")

    assert table.collect(30.0) == [Ended("r", Cause.EXPIRED)]


def test_a_lease_that_is_released_ends_when_nobody_was_told_that_it_holds_it(
    table: LeaseTable,
) -> None:
    table.grant("nobodys", now=0.0)
    table.grant("r", now=0.0)
    table.claim("r", ALONE, now=1.0)
    table.release("nobodys")
    table.release("r")

    assert table.collect(1.0) == [Ended("nobodys", Cause.RELEASED)]
    assert table.collect(30.9) == []
    with pytest.raises(UnknownLeaseError):
        table.claim("r", ALONE, now=30.9)
    assert table.collect(31.0) == [Ended("r", Cause.RELEASED)]


def test_what_is_given_back_after_it_was_released_ends_at_once(table: LeaseTable) -> None:
    table.grant("r", now=0.0)
    table.claim("r", ALONE, now=1.0)
    table.release("r")
    table.give_back("r", ALONE)

    assert table.collect(1.0) == [Ended("r", Cause.RELEASED)]


@pytest.mark.parametrize("name", ["never", "promised", "collected"])
def test_only_what_is_held_can_be_released(table: LeaseTable, name: str) -> None:
    table.promise("promised")
    table.grant("collected", now=0.0)
    table.collect(SECONDS)

    with pytest.raises(UnknownLeaseError, match=name):
        table.release(name)


def test_a_snapshot_tells_of_each_lease_how_old_it_is_and_what_is_left(table: LeaseTable) -> None:
    table.promise("promised")
    table.grant("held", now=0.0)
    table.claim("held", ALONE, now=5.0)
    table.grant("held", now=6.0)
    table.grant("ending", now=2.0)
    table.claim("ending", OTHER, now=4.0)
    table.claim("ending", ALONE, now=6.0)
    table.give_back("ending", ALONE)

    assert table.snapshot(10.0, limit=3) == (
        LeaseSnapshot("promised", LeaseState.PROMISED, None, None, ()),
        LeaseSnapshot("held", LeaseState.HELD, 26.0, 10.0, (ALONE,)),
        LeaseSnapshot("ending", LeaseState.ENDING, 24.0, 8.0, (OTHER,)),
    )
    assert [lease.request_id for lease in table.snapshot(10.0, limit=1)] == ["promised"]


def test_a_snapshot_names_nobody_whose_time_is_over(table: LeaseTable) -> None:
    table.grant("r", now=0.0)
    table.claim("r", ALONE, now=0.0)
    table.claim("r", OTHER, now=20.0)

    assert table.snapshot(30.0, limit=1)[0].readers == (OTHER,)


def test_leases_are_counted_by_what_became_of_them(table: LeaseTable) -> None:
    table.promise("promised")
    for name in ("held", "read", "late"):
        table.grant(name, now=0.0)
    table.claim("held", ALONE, now=5.0)
    table.give_back("read", ALONE)
    table.collect(30.0)

    counts = table.counts()

    assert (counts.promised, counts.held) == (1, 1)
    assert counts.ended == {Cause.READ: 1, Cause.EXPIRED: 1}


def test_a_lease_is_renewed_no_more_when_it_was_kept_for_as_long_as_any_may_be() -> None:
    table = LeaseTable(SECONDS, LIMIT)
    table.grant("r", now=10.0)
    for now in (30.0, 50.0, 70.0, 90.0, 109.9):
        assert table.claim("r", ALONE, now) == SECONDS
    table.grant("r", now=105.0)

    with pytest.raises(UnknownLeaseError):
        table.claim("r", ALONE, now=110.0)
    with pytest.raises(UnknownLeaseError):
        table.claim("r", OTHER, now=110.0)
    assert table.collect(139.8) == []
    assert table.collect(139.9) == [Ended("r", Cause.EXPIRED)]


def test_the_time_that_a_promise_waits_does_not_count_against_its_lease() -> None:
    table = LeaseTable(SECONDS, LIMIT)
    table.promise("r")
    assert table.claim("r", ALONE, now=0.0) == SECONDS
    assert table.claim("r", ALONE, now=LIMIT) == SECONDS
    table.grant("r", now=120.0)

    assert table.claim("r", ALONE, now=130.0) == SECONDS


def test_what_was_kept_for_long_enough_can_be_given_back() -> None:
    table = LeaseTable(SECONDS, LIMIT)
    table.grant("r", now=0.0)
    for now in (25.0, 50.0, 75.0, 99.0):
        table.claim("r", ALONE, now)
    table.give_back("r", ALONE)

    assert table.collect(LIMIT) == [Ended("r", Cause.READ)]


def test_a_lease_that_is_pinned_ends_after_its_pin_whatever_its_readers_do(
    table: LeaseTable,
) -> None:
    for name in ("nobodys", "read", "fenced"):
        table.grant(name, now=0.0)
        table.claim(name, OTHER if name == "fenced" else ALONE, now=1.0)
        table.pin(name, 100.0, now=10.0)
    table.give_back("read", ALONE)
    table.fence("decode-1", "2")

    assert table.collect(109.9) == []
    assert table.pinned_count(109.9) == 3
    assert table.collect(110.0) == [
        Ended("nobodys", Cause.UNPINNED),
        Ended("read", Cause.READ),
        Ended("fenced", Cause.FENCED),
    ]


def test_a_pin_never_makes_a_lease_end_earlier(table: LeaseTable) -> None:
    table.grant("r", now=0.0)
    table.pin("r", 5.0, now=0.0)
    table.grant("longer", now=0.0)
    table.pin("longer", 100.0, now=0.0)
    table.pin("longer", 5.0, now=1.0)

    assert table.collect(29.9) == []
    assert table.collect(30.0) == [Ended("r", Cause.UNPINNED)]
    assert table.collect(99.9) == []
    assert table.collect(100.0) == [Ended("longer", Cause.UNPINNED)]


def test_what_is_pinned_can_be_read_when_its_lease_would_be_over(table: LeaseTable) -> None:
    table.grant("r", now=0.0)
    table.pin("r", 100.0, now=0.0)

    assert table.claim("r", ALONE, now=90.0) == SECONDS
    assert table.collect(119.9) == []
    assert table.collect(120.0) == [Ended("r", Cause.UNPINNED)]


def test_a_release_ends_a_pin_but_no_claim(table: LeaseTable) -> None:
    for name in ("nobodys", "held"):
        table.grant(name, now=0.0)
        table.pin(name, 1000.0, now=0.0)
    table.claim("held", ALONE, now=1.0)
    table.release("nobodys")
    table.release("held")

    assert table.collect(1.0) == [Ended("nobodys", Cause.RELEASED)]
    assert table.collect(30.9) == []
    assert table.collect(31.0) == [Ended("held", Cause.RELEASED)]


def test_a_promise_may_be_pinned_and_released(table: LeaseTable) -> None:
    table.promise("kept")
    table.promise("released")
    table.pin("kept", 100.0, now=0.0)
    table.pin("released", 100.0, now=0.0)
    table.release("released")
    table.grant("kept", now=1.0)
    table.grant("released", now=1.0)

    assert table.collect(1.0) == [Ended("released", Cause.RELEASED)]
    assert table.collect(99.9) == []
    assert table.collect(100.0) == [Ended("kept", Cause.UNPINNED)]


@pytest.mark.parametrize("name", ["never", "expired", "released"])
def test_only_a_lease_that_lasts_can_be_pinned(table: LeaseTable, name: str) -> None:
    table.grant("expired", now=0.0)
    table.grant("released", now=0.0)
    table.claim("released", ALONE, now=20.0)
    table.release("released")

    with pytest.raises(UnknownLeaseError, match=name):
        table.pin(name, 10.0, now=SECONDS)


def test_all_pins_together_keep_a_bounded_number_of_blocks() -> None:
    table = LeaseTable(SECONDS, max_pinned_blocks=10)
    for name, count in (("six", 6), ("four", 4), ("one", 1)):
        table.grant(name, now=0.0, block_count=count)
    table.pin("six", 20.0, now=0.0)
    table.pin("four", 100.0, now=0.0)

    with pytest.raises(TooMuchPinnedError, match="10 blocks, and keep 10; this one would take 1"):
        table.pin("one", 100.0, now=0.0)
    table.pin("six", 25.0, now=0.0)  # what is kept already takes no more
    table.pin("one", 100.0, now=25.0)


def test_what_is_released_makes_room_for_other_pins() -> None:
    table = LeaseTable(SECONDS, max_pinned_blocks=10)
    for name in "rs":
        table.grant(name, now=0.0, block_count=6)
    table.pin("r", 100.0, now=0.0)
    table.release("r")

    table.pin("s", 100.0, now=0.0)


def test_the_pin_of_a_promise_ends_when_it_turns_out_to_be_too_large() -> None:
    table = LeaseTable(SECONDS, max_pinned_blocks=10)
    for name in "rs":
        table.promise(name)
        table.pin(name, 1000.0, now=0.0)
        table.grant(name, now=0.0, block_count=6)

    assert table.pinned_count(0.0) == 1
    assert table.collect(SECONDS) == [Ended("s", Cause.UNPINNED)]


@pytest.mark.parametrize("seconds", [0.0, -1.0, MAX_PIN_SECONDS + 1, float("nan"), float("inf")])
def test_a_pin_is_for_some_time_and_not_for_ever(table: LeaseTable, seconds: float) -> None:
    table.grant("r", now=0.0)

    with pytest.raises(InvalidPinError):
        table.pin("r", seconds, now=0.0)


def test_a_snapshot_tells_for_how_long_a_lease_is_pinned(table: LeaseTable) -> None:
    table.promise("promised")
    table.grant("held", now=0.0)
    table.grant("ending", now=0.0)
    for name in ("promised", "held", "ending"):
        table.pin(name, 100.0, now=0.0)
    table.give_back("ending", ALONE)
    table.grant("over", now=0.0)
    table.pin("over", 10.0, now=0.0)

    assert table.snapshot(10.0, limit=4) == (
        LeaseSnapshot("promised", LeaseState.PROMISED, None, None, (), 90.0),
        LeaseSnapshot("held", LeaseState.HELD, 90.0, 10.0, (), 90.0),
        LeaseSnapshot("ending", LeaseState.ENDING, 90.0, 10.0, (), 90.0),
        LeaseSnapshot("over", LeaseState.HELD, 20.0, 10.0, (), None),
    )
    assert table.pinned_count(10.0) == 3


RANKS = {"a": 2, "b": 1}
"""Ranks that read from this process, by worker."""


@dataclass
class _Fact:
    """What the machine knows of one request."""

    promised: bool = False
    granted_at: float | None = None
    claimed_at: float = 0.0
    workers: set[str] = field(default_factory=set)
    """Those that have claimed it or given it back."""
    touched: bool = False
    """Somebody has given it back, was fenced off it, or it was released."""
    released: bool = False
    pinned_until: float = 0.0
    ended: bool = False

    def lasts_until(self) -> float:
        """Return when it is over at the latest, if it is granted."""
        assert self.granted_at is not None
        return max(max(self.granted_at, self.claimed_at) + SECONDS, self.pinned_until)


@dataclass
class _Message:
    reader: Reader
    kind: str
    name: str
    sent_at: float


class LeaseMachine(RuleBasedStateMachine):
    """Requests are computed and read by two engines, of which any may die at any moment, over
    wires that delay everything; each message may be sent twice."""

    def __init__(self) -> None:
        super().__init__()
        self.table = LeaseTable(SECONDS, LIMIT)
        self.now = 0.0
        self.facts: dict[str, _Fact] = {}
        self.computing: list[str] = []
        self.finished: list[str] = []
        """Told to readers: the blocks of these are held, by word of the scheduler."""
        self.orders: deque[Callable[[], None]] = deque()
        self.incarnations = dict.fromkeys(RANKS, 1)
        self.wires: defaultdict[Reader, deque[_Message]] = defaultdict(deque)
        self.believed: dict[tuple[Reader, str], float] = {}
        """Until when a reader that lives holds blocks, by what it was told."""
        self.given: set[tuple[Reader, str]] = set()
        """What readers have given back; ``arrived`` is what of it is known to the table."""
        self.arrived: set[tuple[Reader, str]] = set()
        self.promised_count = self.withdrawn_count = 0

    # The engine that holds blocks.

    @initialize()
    def begin(self) -> None:
        """Most is to be seen when something is held."""
        self.compute(at_once=True)
        self.finished.append(self.computing.pop())
        self._grant("r0")

    @rule(at_once=st.booleans())
    def compute(self, at_once: bool) -> None:
        name = f"r{len(self.facts)}"
        self.facts[name] = _Fact()
        self.computing.append(name)
        self.orders.append(lambda: self._promise(name))
        if at_once:
            self.carry_out()

    @precondition(lambda self: self.computing)
    @rule(data=st.data(), at_once=st.booleans())
    def finish(self, data: st.DataObject, at_once: bool) -> None:
        name = self._take(data, self.computing)
        self.finished.append(name)
        self.orders.append(lambda: self._grant(name))
        if at_once:
            self.carry_out()

    @precondition(lambda self: self.computing)
    @rule(data=st.data())
    def abort(self, data: st.DataObject) -> None:
        name = self._take(data, self.computing)
        self.orders.append(lambda: self._withdraw(name))

    @precondition(lambda self: self.orders)
    @rule()
    def carry_out(self) -> None:
        while self.orders:
            self.orders.popleft()()

    @precondition(lambda self: self.finished)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(self.finished))
        try:
            self.table.release(name)
        except UnknownLeaseError:
            return
        self.facts[name].released = self.facts[name].touched = True
        self.facts[name].pinned_until = 0.0

    @precondition(lambda self: self.finished)
    @rule(data=st.data(), seconds=st.sampled_from([1.0, 25.0, 60.0, 250.0]))
    def pin(self, data: st.DataObject, seconds: float) -> None:
        name = data.draw(st.sampled_from(self.finished))
        fact = self.facts[name]
        lasts = fact.promised and not (fact.ended or fact.touched)
        late = fact.granted_at is not None and self.now >= fact.lasts_until()
        try:
            self.table.pin(name, seconds, self.now)
        except UnknownLeaseError:
            assert not lasts or late, "not pinned, though nobody has had it"
            return
        assert fact.promised, "pinned, and never promised"
        assert not fact.ended, "pinned after its end"
        assert not fact.released, "pinned after it was released"
        fact.pinned_until = max(fact.pinned_until, self.now + seconds)

    # The engines that read.

    @rule(
        data=st.data(),
        kind=st.sampled_from(["claim", "claim", "give back"]),
        at_once=st.booleans(),
    )
    def send(self, data: st.DataObject, kind: str, at_once: bool) -> None:
        reader = data.draw(st.sampled_from(self._readers()))
        name = data.draw(st.sampled_from(self.finished))
        if kind == "give back":
            self.given.add((reader, name))
            self.believed.pop((reader, name), None)
        self.wires[reader].append(_Message(reader, kind, name, self.now))
        if at_once:
            self._arrive(self.wires[reader])

    @precondition(lambda self: any(self.wires.values()))
    @rule(data=st.data(), twice=st.booleans())
    def deliver(self, data: st.DataObject, twice: bool) -> None:
        wire = self.wires[data.draw(st.sampled_from([r for r, w in self.wires.items() if w]))]
        again = list(wire) if twice else []
        self._arrive(wire)
        wire += again

    @rule(worker=st.sampled_from(sorted(RANKS)))
    def restart(self, worker: str) -> None:
        """The new incarnation says hello, so the connections of the old are closed."""
        self.incarnations[worker] += 1
        self.wires = defaultdict(
            deque, {r: wire for r, wire in self.wires.items() if r.worker != worker}
        )
        for reader, name in list(self.believed):
            if reader.worker == worker:
                del self.believed[reader, name]
        for fact in self.facts.values():
            fact.touched |= worker in fact.workers
        self.table.fence(worker, str(self.incarnations[worker]))

    # Time.

    @rule(seconds=st.sampled_from([1.0, 10.0, 20.0, 29.0, 31.0]), collects=st.booleans())
    def wait(self, seconds: float, collects: bool) -> None:
        self.now += seconds
        if collects:
            self.collect()

    @rule()
    def collect(self) -> None:
        for end in self.table.collect(self.now):
            fact = self.facts[end.request_id]
            assert fact.granted_at is not None, "named, and never granted"
            assert not fact.ended, "named twice"
            fact.ended = True
            assert self.now >= fact.pinned_until, f"{end} while it is pinned"
            still = [r for (r, name), _ in self._holding() if name == end.request_id]
            assert not still, f"{end} while it is held by {still}"
        for name, fact in self.facts.items():
            if fact.granted_at is not None and not fact.ended:
                assert self.now < fact.lasts_until(), f"{name} lost"
                longest = max(fact.granted_at + LIMIT + SECONDS, fact.pinned_until)
                assert self.now < longest, f"{name} is kept for ever"

    @invariant()
    def counts_add_up(self) -> None:
        counts = self.table.counts()
        ended = sum(fact.ended for fact in self.facts.values())

        assert sum(counts.ended.values()) == ended
        assert counts.promised + counts.held + ended + self.withdrawn_count == self.promised_count
        pinned = sum(f.pinned_until > self.now and not f.ended for f in self.facts.values())
        assert self.table.pinned_count(self.now) == pinned

    def teardown(self) -> None:
        """When all is quiet, nothing is left."""
        while self.orders:
            self.orders.popleft()()
        self.believed.clear()
        self.now += 2 * SECONDS + max(fact.pinned_until for fact in self.facts.values())
        self.collect()
        assert self.table.counts().held == 0

    def _arrive(self, wire: deque[_Message]) -> None:
        while wire:
            message = wire.popleft()
            if message.kind == "claim":
                self._claim(message)
            else:
                self.table.give_back(message.name, message.reader)
                if self.facts[message.name].promised:
                    self.arrived.add((message.reader, message.name))
                self.facts[message.name].touched = True
            self.facts[message.name].workers.add(message.reader.worker)

    def _claim(self, message: _Message) -> None:
        fact, who = self.facts[message.name], (message.reader, message.name)
        holds = self.believed.get(who, 0.0) > self.now
        known = fact.promised and not fact.ended
        late = fact.granted_at is not None and self.now >= fact.granted_at + SECONDS
        kept = fact.granted_at is not None and self.now >= fact.granted_at + LIMIT
        fresh = known and not late and not kept and not fact.touched
        given_back = who in self.arrived
        try:
            seconds = self.table.claim(message.name, message.reader, self.now)
        except UnknownLeaseError:
            assert not holds or kept or fact.released, "taken from a reader that holds it"
            assert not fresh, "refused, though nobody has had it"
            return
        assert not given_back, "claimed by who has given it back"
        assert not fact.released, "claimed after it was released"
        assert not fact.ended, "claimed after its end"
        assert not kept, "claimed though it was kept for long enough"
        if fact.granted_at is not None:
            assert self.now < fact.lasts_until(), "claimed too late"
        fact.claimed_at = self.now
        if who not in self.given:
            until = message.sent_at + seconds
            self.believed[who] = max(self.believed.get(who, 0.0), until)

    def _holding(self) -> list[tuple[tuple[Reader, str], float]]:
        return [(who, until) for who, until in self.believed.items() if until > self.now]

    def _readers(self) -> list[Reader]:
        return [
            Reader(worker, str(self.incarnations[worker]), rank, count)
            for worker, count in RANKS.items()
            for rank in range(count)
        ]

    def _take(self, data: st.DataObject, names: list[str]) -> str:
        name = data.draw(st.sampled_from(names))
        names.remove(name)
        return name

    def _promise(self, name: str) -> None:
        self.promised_count += 1
        self.facts[name].promised = True
        self.table.promise(name)

    def _withdraw(self, name: str) -> None:
        self.withdrawn_count += 1
        self.table.withdraw(name)

    def _grant(self, name: str) -> None:
        self.table.grant(name, self.now)
        self.facts[name].granted_at = self.now


LeaseMachine.TestCase.settings = settings(max_examples=300, stateful_step_count=40)
test_no_lease_is_lost_or_used_after_its_end = LeaseMachine.TestCase
