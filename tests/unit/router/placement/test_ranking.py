"""A heap that can be left from anywhere, against a sorted list."""

from hypothesis import given
from hypothesis import strategies as st

from twofold_router.placement.ranking import SPARE_ENTRIES, Ranking

STEPS = st.lists(st.tuples(st.integers(0, 8), st.none() | st.integers(0, 3)))


@given(STEPS)
def test_the_first_has_the_least_rank_of_those_who_are_there(
    steps: list[tuple[int, int | None]],
) -> None:
    ranking: Ranking[int] = Ranking()
    expected: dict[int, int] = {}
    for name, rank in steps:
        if rank is None:
            ranking.discard(name)
            expected.pop(name, None)
        else:
            ranking.add(name, rank)
            expected[name] = rank

        least = min(((rank, name) for name, rank in expected.items()), default=None)
        assert ranking.first() == least
        assert len(ranking) == len(expected)


def test_those_who_have_left_are_not_kept_behind_one_who_stays() -> None:
    ranking: Ranking[int] = Ranking()
    ranking.add(0, 0.0)
    for name in range(1, 10_000):
        ranking.add(name, 1.0)
        ranking.discard(name)

    assert len(ranking._heap) <= SPARE_ENTRIES + 4


def test_changing_ones_mind_is_not_kept() -> None:
    ranking: Ranking[int] = Ranking()
    for rank in range(10_000):
        ranking.add(1, float(rank))

    assert len(ranking._heap) <= SPARE_ENTRIES + 4
    assert ranking.first() == (9999.0, 1)


def test_when_all_have_left_hardly_anything_is_kept() -> None:
    ranking: Ranking[int] = Ranking()
    for name in range(1_000):
        ranking.add(name, 0.0)
    for name in range(1_000):
        ranking.discard(name)

    assert len(ranking._heap) <= SPARE_ENTRIES
