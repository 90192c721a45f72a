import pytest

from twofold_engine.prefixes.errors import NotAnsweredError
from twofold_engine.prefixes.places import Places


def test_a_place_is_free_again_after_its_block_however_that_ends() -> None:
    places = Places(1)
    with pytest.raises(KeyError), places.take():
        raise KeyError

    with (
        places.take(),
        pytest.raises(NotAnsweredError, match="1 pulls and pins wait"),
        places.take(),
    ):
        pass
