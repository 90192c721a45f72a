import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from twofold_sim.live.leases import BlockNumbers, Leases


def test_what_is_lent_is_lent_until_its_time_is_over() -> None:
    leases = Leases(30.0)
    leases.lend("r", [1, 2], now=100.0)

    assert leases.expire(129.9) == []
    assert leases.is_lent("r", [1, 2])
    assert leases.expire(130.0) == ["r"]
    assert not leases.is_lent("r", [1, 2])
    assert leases.expired_count == 1


def test_other_blocks_than_those_that_are_lent_are_not() -> None:
    leases = Leases(30.0)
    leases.lend("r", [1, 2], now=0.0)

    assert not leases.is_lent("r", [1, 3])
    assert not leases.is_lent("s", [1, 2])


@pytest.mark.parametrize(("at", "ends"), [(5.0, 30.0), (20.0, 40.0)])
def test_a_heartbeat_makes_a_lease_last_two_thirds_longer_if_that_is_more(
    at: float, ends: float
) -> None:
    leases = Leases(30.0)
    leases.lend("r", [1], now=0.0)
    leases.renew("r", at)
    leases.renew("unknown", at)

    assert leases.expire(ends - 0.1) == []
    assert leases.expire(ends) == ["r"]


def test_a_read_ends_a_lease_and_one_after_its_end_is_counted() -> None:
    leases = Leases(30.0)
    leases.lend("r", [1], now=0.0)

    assert leases.read("r")
    assert not leases.read("r")
    assert (leases.late_count, leases.expired_count, len(leases)) == (1, 0, 0)


def test_a_dropped_lease_is_neither_expired_nor_late() -> None:
    leases = Leases(30.0)
    leases.lend("r", [1], now=0.0)

    assert leases.drop("r")
    assert not leases.drop("r")
    assert leases.expire(1000.0) == []
    assert (leases.late_count, leases.expired_count) == (0, 0)


def test_block_numbers_go_round() -> None:
    numbers = BlockNumbers(5)

    assert numbers.take(3) == [0, 1, 2]
    assert numbers.take(3) == [3, 4, 0]


class LeasesMachine(RuleBasedStateMachine):
    """Every lease ends once: read, dropped, or expired."""

    def __init__(self) -> None:
        super().__init__()
        self.leases = Leases(3.0)
        self.now = 0.0
        self.until: dict[str, float] = {}
        self.lent = self.ended = 0

    @rule()
    def lend(self) -> None:
        name = f"r{self.lent}"
        self.lent += 1
        self.leases.lend(name, [self.lent], self.now)
        self.until[name] = self.now + 3.0

    @rule(seconds=st.floats(0.0, 4.0))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        over = {name for name, until in self.until.items() if until <= self.now}
        assert set(self.leases.expire(self.now)) == over
        self.ended += len(over)
        for name in over:
            del self.until[name]

    @rule(number=st.integers(0, 5))
    def renew(self, number: int) -> None:
        name = f"r{number}"
        self.leases.renew(name, self.now)
        if name in self.until:
            self.until[name] = max(self.until[name], self.now + 2.0)

    @rule(number=st.integers(0, 5), reads=st.booleans())
    def end(self, number: int, reads: bool) -> None:
        name = f"r{number}"
        was_there = self.until.pop(name, None) is not None
        ended = self.leases.read(name) if reads else self.leases.drop(name)
        assert ended == was_there
        self.ended += was_there

    @invariant()
    def each_is_lent_or_ended(self) -> None:
        assert len(self.leases) == len(self.until) == self.lent - self.ended
        assert all(name in self.leases for name in self.until)


TestLeasesMachine = LeasesMachine.TestCase
