"""Where labels stand."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twofold_sim.picturing.labels import LEAST_GAP, spread

heights = st.lists(st.floats(0.0, 1.0), max_size=15).map(sorted)


def test_labels_that_have_room_stay_at_the_ends_of_their_lines() -> None:
    assert spread([0.1, 0.5, 0.9]) == pytest.approx([0.1, 0.5, 0.9])
    assert spread([]) == []


def test_labels_that_are_too_near_move_apart_from_their_middle() -> None:
    low, high = spread([0.5, 0.5])

    assert (low, high) == pytest.approx((0.5 - LEAST_GAP / 2, 0.5 + LEAST_GAP / 2))


@given(heights)
def test_labels_never_overlap_and_stay_on_the_axes_in_their_order(found: list[float]) -> None:
    places = spread(found)

    assert len(places) == len(found)
    assert all(high - low >= LEAST_GAP - 1e-9 for low, high in pairwise(places))
    assert all(-1e-9 <= place <= 1 + 1e-9 for place in places)
