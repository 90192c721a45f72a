"""How many blocks at the beginning of a prompt are known."""

from hypothesis import given
from hypothesis import strategies as st

from twofold_router.placement.prefixes import known_count
from twofold_router.placement.testing import make_key


@given(st.integers(0, 9), st.integers(0, 9), st.integers(0, 9))
def test_what_either_knows_counts_as_far_as_it_goes(length: int, one: int, other: int) -> None:
    blocks = make_key(*range(length)).blocks

    assert known_count(blocks, set(blocks[:one]), set(blocks[:other])) == min(
        length, max(one, other)
    )
