import pytest
from tests.unit.engine.prefixes.ranks import FakeRanks

from twofold_engine.prefixes.draining import Left, drain


class Leaving:
    """A worker whose requests end one with each look at it."""

    def __init__(self, requests: int) -> None:
        self.requests = requests
        self.told: list[str] = []

    async def drain(self) -> None:
        self.told.append("drain")

    def is_busy(self) -> bool:
        self.requests = max(0, self.requests - 1)
        return self.requests > 0

    @property
    def request_count(self) -> int:
        return self.requests

    async def end_pins(self) -> None:
        self.told.append("end pins")


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


async def drained(leaving: Leaving, ranks: FakeRanks, limit_seconds: float) -> Left:
    clock = Clock()
    return await drain(
        leaving, leaving.end_pins, ranks, limit_seconds, clock=clock, sleep=clock.sleep
    )


async def test_pins_end_after_new_requests_are_refused() -> None:
    leaving = Leaving(requests=3)

    left = await drained(leaving, FakeRanks(), 60.0)

    assert leaving.told == ["drain", "end pins"]
    assert left == Left(idle=True, in_flight_count=0, lease_count=0)


@pytest.mark.parametrize("limit_seconds", [0.0, 0.25])
async def test_what_is_left_at_the_limit_is_told(limit_seconds: float) -> None:
    ranks = FakeRanks()
    await ranks.pin("r", 1.0)

    left = await drained(Leaving(requests=100), ranks, limit_seconds)

    assert (left.idle, left.lease_count) == (False, 1)
    assert 90 < left.in_flight_count < 100


async def test_a_lease_that_is_left_is_waited_for() -> None:
    ranks = FakeRanks()
    await ranks.pin("r", 1.0)

    left = await drained(Leaving(requests=0), ranks, 1.0)

    assert left == Left(idle=False, in_flight_count=0, lease_count=1)
