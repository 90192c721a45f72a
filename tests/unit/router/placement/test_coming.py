"""Prefixes that will be cached soon."""

from hypothesis import given
from hypothesis import strategies as st

from twofold_router.placement.coming import Coming
from twofold_router.placement.testing import make_key

CHAINS = st.lists(st.integers(0, 1), max_size=5).map(lambda names: make_key(*names).blocks)


@given(st.lists(CHAINS, max_size=8), CHAINS, st.data())
def test_the_longest_prefix_of_those_that_are_here_is_found(
    added: list[tuple[bytes, ...]], asked: tuple[bytes, ...], data: st.DataObject
) -> None:
    coming = Coming()
    for blocks in added:
        coming.add(blocks)
    gone = data.draw(st.integers(0, len(added)))
    for blocks in added[:gone]:
        coming.remove(blocks)

    here = {digest for blocks in added[gone:] for digest in blocks}
    assert coming.prefix_of(asked) == sum(digest in here for digest in asked)
    assert len(coming) == len(here)
