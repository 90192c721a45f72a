"""Ranks tell of a pull one after the other, in any order; a block is there when all have it."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twofold_kvtransfer.connector.agreeing import PullsOfRanks
from twofold_kvtransfer.prefixes import Outcome, Pulled


def step(count: int, seconds: float = 0.0) -> Pulled:
    return Pulled("r", Outcome.PULLED, count, seconds, is_last=False)


def end(outcome: Outcome = Outcome.PULLED, count: int = 0, seconds: float = 0.0) -> Pulled:
    return Pulled("r", outcome, count, seconds)


@st.composite
def tellings(draw: st.DrawFn) -> list[list[Pulled]]:
    """What each rank tells: steps with more and more blocks, and the end."""
    ranks = []
    for _ in range(draw(st.integers(1, 4))):
        counts = sorted(draw(st.sets(st.integers(1, 9), max_size=4)))
        outcome = draw(st.sampled_from(list(Outcome)))
        ranks.append([*map(step, counts), end(outcome, max(counts, default=0))])
    return ranks


@given(tellings(), st.data())
def test_in_any_order_there_is_what_all_ranks_have_and_one_end(
    ranks: list[list[Pulled]], data: st.DataObject
) -> None:
    pulls = PullsOfRanks(len(ranks))
    order = data.draw(
        st.permutations([rank for rank, told in enumerate(ranks) for _ in told]), "order"
    )
    left = [list(told) for told in ranks]
    counts = [0] * len(ranks)
    said: list[Pulled] = []
    for rank in order:
        one = left[rank].pop(0)
        counts[rank] = one.block_count
        agreed = pulls.note(rank, one)
        if agreed is not None:
            assert agreed.block_count == min(counts)
            said.append(agreed)
        assert max((each.block_count for each in said), default=0) == min(counts)

    assert [one.is_last for one in said] == [False] * (len(said) - 1) + [True]
    steps = [one.block_count for one in said[:-1]]
    assert steps == sorted(set(steps) - {0})
    all_pulled = all(told[-1].outcome is Outcome.PULLED for told in ranks)
    assert (said[-1].outcome is Outcome.PULLED) == all_pulled
    assert said[-1].outcome in {told[-1].outcome for told in ranks}
    assert pulls.take_vain() == []


@given(tellings())
def test_what_one_rank_tells_is_taken_as_it_is(ranks: list[list[Pulled]]) -> None:
    pulls = PullsOfRanks(1)

    assert [pulls.note(0, one) for one in ranks[0]] == ranks[0]


@pytest.mark.parametrize(
    ("outcomes", "agreed"),
    [
        ((Outcome.PULLED, Outcome.SLOWER), Outcome.SLOWER),
        ((Outcome.DROPPED, Outcome.AVOIDED), Outcome.AVOIDED),
        ((Outcome.FAILED, Outcome.DROPPED), Outcome.FAILED),
        ((Outcome.LATE, Outcome.DAMAGED), Outcome.DAMAGED),
        ((Outcome.PULLED, Outcome.DROPPED), Outcome.DROPPED),
    ],
)
def test_of_unequal_outcomes_the_worst_says_what_came_of_it(
    outcomes: Sequence[Outcome], agreed: Outcome
) -> None:
    pulls = PullsOfRanks(2)

    assert pulls.note(0, end(outcomes[0])) is None
    told = pulls.note(1, end(outcomes[1]))

    assert told is not None
    assert told.outcome is agreed


def test_a_pull_takes_as_long_as_the_slowest_rank() -> None:
    pulls = PullsOfRanks(2)
    pulls.note(1, end(count=3, seconds=0.5))

    assert pulls.note(0, end(count=2, seconds=0.25)) == end(count=2, seconds=0.5)


def test_pulls_of_several_requests_are_kept_apart() -> None:
    pulls = PullsOfRanks(2)
    other = Pulled("s", Outcome.PULLED, 5)

    assert pulls.note(0, end(count=3)) is None
    assert pulls.note(1, other) is None
    assert pulls.note(1, end(count=3)) == end(count=3)
    assert pulls.note(0, other) == other


def test_a_request_may_be_pulled_for_again_when_its_first_pull_has_ended() -> None:
    pulls = PullsOfRanks(2)
    for _ in range(2):
        pulls.note(0, end(Outcome.LATE))
        assert pulls.take_vain() == ["r"]
        assert pulls.note(1, end(Outcome.DROPPED)) == end(Outcome.LATE)


def test_what_others_pull_is_in_vain_as_soon_as_one_rank_has_failed() -> None:
    pulls = PullsOfRanks(3)
    pulls.note(0, end(count=3))
    pulls.note(1, step(1))
    assert pulls.take_vain() == []
    pulls.note(1, end(Outcome.CHANGED, 1))

    assert pulls.take_vain() == ["r"]
    assert pulls.take_vain() == [], "told once"
    assert pulls.note(2, end(Outcome.DROPPED, 2)) == end(Outcome.CHANGED, 1)
