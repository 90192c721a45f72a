"""Every transport: what it does not take."""

import pytest
from tests.integration.transports.ends import joined
from tests.integration.transports.factories import Kind

from twofold_kvtransfer.blocks import InvalidBlocksError, Move
from twofold_kvtransfer.transports import PeerError
from twofold_kvtransfer.transports.testing import host_blocks


@pytest.mark.parametrize(
    ("local", "remote"), [((0, 4), (0, 1)), ((0, 1), (0, 6)), ((-1,), (0,)), ((0,), (-1,))]
)
def test_blocks_that_are_not_there_are_refused(
    kind: Kind, local: tuple[int, ...], remote: tuple[int, ...]
) -> None:
    here, there = host_blocks(2, 4, 64, seed=1), host_blocks(2, 6, 64, seed=2)
    before = (here.memory.copy(), there.memory.copy())
    with joined(kind.new_make(), here, there) as ends:
        with pytest.raises(InvalidBlocksError):
            ends.pair.read(Move(local, remote))
        with pytest.raises(InvalidBlocksError):
            ends.pair.write(Move(local, remote))

    assert (here.memory == before[0]).all()
    assert (there.memory == before[1]).all()


@pytest.mark.parametrize(("regions", "block_bytes"), [(3, 64), (1, 64), (2, 32), (2, 128)])
def test_blocks_of_another_geometry_are_refused(kind: Kind, regions: int, block_bytes: int) -> None:
    make = kind.new_make()
    here, there = make(host_blocks(2, 4, 64)), make(other := host_blocks(regions, 4, block_bytes))
    try:
        with pytest.raises(InvalidBlocksError):
            here.open(there.describe(), other.map)
    finally:
        here.close()
        there.close()


@pytest.mark.parametrize("description", [b"", b"\x00" * 40, b"not a description", b"{}" * 500])
def test_what_is_no_description_is_refused(kind: Kind, description: bytes) -> None:
    here = kind.new_make()(blocks := host_blocks(2, 4, 64))
    try:
        with pytest.raises(PeerError):
            here.open(description, blocks.map)
    finally:
        here.close()


def test_a_transport_that_was_closed_cannot_be_opened(kind: Kind) -> None:
    make = kind.new_make()
    here, there = make(host_blocks(2, 4, 64)), make(blocks := host_blocks(2, 4, 64))
    try:
        description = there.describe()
        there.close()

        with pytest.raises(PeerError):
            here.open(description, blocks.map)
    finally:
        here.close()
