from hypothesis import given
from hypothesis import strategies as st
from tests.unit.kvtransfer.transports.clocks import Clock

from twofold_kvtransfer.transports.tcp.limiting import BURST_SECONDS, RateLimit


def test_bytes_that_follow_each_other_wait_for_those_before() -> None:
    limit = RateLimit(1000, Clock(100.0))

    assert [round(limit.book(500), 9) for _ in range(3)] == [0.5, 1.0, 1.5]


def test_a_link_that_was_idle_owes_no_more_than_a_burst() -> None:
    clock = Clock(100.0)
    limit = RateLimit(1000, clock)
    clock.now += 60

    assert round(limit.book(500), 9) == 0.5 - BURST_SECONDS


@given(
    st.lists(
        st.tuples(st.floats(0, 2), st.integers(1, 5000), st.floats(0, 1)), min_size=1, max_size=30
    )
)
def test_never_more_leaves_than_the_rate_and_a_burst_allow(
    sends: list[tuple[float, int, float]],
) -> None:
    """Each send comes some time after the last has left, and wakes a little late."""
    clock = Clock(100.0)
    limit = RateLimit(1000, clock)
    sent = 0
    for idle, size, late in sends:
        clock.now += idle
        clock.now += limit.book(size) + late
        sent += size

        assert sent <= (clock.now - 100 + BURST_SECONDS) * 1000 + 1e-6
