"""What the holder says of blocks, against what arrived."""

import asyncio
from typing import cast

import pytest

from twofold_kvtransfer.blocks import BlockIds, Move
from twofold_kvtransfer.digesting import BLOCKS_PER_DIGEST, Digester
from twofold_kvtransfer.links import Link, LinkError
from twofold_kvtransfer.sources import Source
from twofold_kvtransfer.verifying import Proof

SOURCE = Source("p:1", "r", "host", 5600, 1, (4, 5, 6))
COUNT = BLOCKS_PER_DIGEST + 2
MOVE = Move(tuple(range(COUNT)), tuple(range(100, 100 + COUNT)))


class FakeHolder:
    def __init__(self, *digests: int) -> None:
        self.digests = list(digests)
        self.asked: list[tuple[str, BlockIds]] = []
        self.is_gone = False

    async def digest(self, request_id: str, blocks: BlockIds) -> list[int]:
        self.asked.append((request_id, blocks))
        if self.is_gone:
            raise LinkError("gone")
        return self.digests


class FakeDigester:
    def __init__(self) -> None:
        self.asked: list[BlockIds] = []

    async def digest(self, ids: BlockIds) -> list[int]:
        self.asked.append(ids)
        return [1, 2]


async def damaged(holder: FakeHolder) -> tuple[list[int], FakeDigester]:
    digester = FakeDigester()
    async with asyncio.TaskGroup() as tasks:
        proof = Proof(cast("Link", holder), SOURCE, MOVE, tasks)
        await asyncio.sleep(0)
        assert holder.asked == [("r", MOVE.remote)]
        return await proof.damaged(cast("Digester", digester)), digester


async def test_what_is_here_as_it_is_there_is_not_damaged() -> None:
    found, digester = await damaged(FakeHolder(1, 2))

    assert found == []
    assert digester.asked == [MOVE.local]


@pytest.mark.parametrize(
    ("digests", "blocks"),
    [
        ((1, 3), [COUNT - 2, COUNT - 1]),
        ((3, 2), list(range(BLOCKS_PER_DIGEST))),
        ((2, 1), list(range(COUNT))),
    ],
)
async def test_damaged_blocks_are_named_by_their_numbers_here(
    digests: tuple[int, ...], blocks: list[int]
) -> None:
    assert (await damaged(FakeHolder(*digests)))[0] == blocks


async def test_a_holder_that_does_not_say_is_an_error_of_who_asks_and_of_nobody_else() -> None:
    holder = FakeHolder(1, 2)
    holder.is_gone = True
    async with asyncio.TaskGroup() as tasks:
        proof = Proof(cast("Link", holder), SOURCE, MOVE, tasks)
        await asyncio.sleep(0)
        with pytest.raises(LinkError, match="gone"):
            await proof.damaged(cast("Digester", FakeDigester()))
