"""Where a prompt with the same beginning was sent last."""

from twofold_cluster.identity import WorkerId
from twofold_router.placement.last_places import BLOCKS_PER_WORKER, LastPlaces
from twofold_router.placement.testing import make_key

HERE, THERE = WorkerId("here"), WorkerId("there")


def test_the_longest_known_beginning_counts() -> None:
    places = LastPlaces()
    places.put(make_key("a", "b").blocks, HERE, 2)
    places.put(make_key("a", "x", "y").blocks, THERE, 2)

    assert places.find(make_key("a", "b", "c").blocks) == HERE
    assert places.find(make_key("a", "x", "z").blocks) == THERE
    assert places.find(make_key("a").blocks) == THERE
    assert places.find(make_key("c").blocks) is None
    assert places.find(()) is None


def test_what_is_asked_for_again_and_again_is_not_forgotten_and_the_number_is_bounded() -> None:
    places = LastPlaces()
    often = make_key("often").blocks
    for number in range(3 * BLOCKS_PER_WORKER):
        if number % 1000 == 0:
            places.put(often, HERE, 1)
        places.put((b"%d" % number,), THERE, 1)

        assert len(places) <= 2 * (BLOCKS_PER_WORKER + 1)

    assert places.find(often) == HERE
    assert places.find((b"0",)) is None
