import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import cast

import pytest

from twofold_kvtransfer.keeping import Keeper
from twofold_kvtransfer.links import Link, LinkError, Links
from twofold_kvtransfer.sources import Source

SOURCE = Source("p:1", "r", "host", 5600, 1, (1, 2))
OTHER = replace(SOURCE, request_id="s")


class FakePeer:
    """Both the links and the one link; holds leases for 30 s unless it says otherwise."""

    def __init__(self) -> None:
        self.claims: list[list[str]] = []
        self.returned: list[str] = []
        self.refuses: set[str] = set()
        self.is_gone = False
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def to(self, source: Source) -> Link:
        if self.is_gone:
            raise LinkError("gone")
        return cast("Link", self)

    async def claim(self, request_ids: Sequence[str]) -> list[float | None]:
        self.claims.append(list(request_ids))
        await self.may_answer.wait()
        return [None if name in self.refuses else 30.0 for name in request_ids]

    async def give_back(self, request_id: str) -> None:
        self.returned.append(request_id)


class Rig:
    def __init__(self, tasks: asyncio.TaskGroup) -> None:
        self.peer = FakePeer()
        self.now = 100.0
        self.keeper = Keeper(cast("Links", self.peer), tasks, interval=0.0, clock=lambda: self.now)


@asynccontextmanager
async def rigged() -> AsyncIterator[Rig]:
    async with asyncio.TaskGroup() as tasks:
        yield Rig(tasks)


async def _turns(count: int = 10) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_what_was_claimed_is_held_from_before_the_claim_was_sent() -> None:
    async with rigged() as rig:
        rig.peer.may_answer.clear()
        rig.keeper.want(SOURCE)
        claiming = asyncio.create_task(rig.keeper.claim([SOURCE]))
        await _turns()
        rig.now = 110.0
        rig.peer.may_answer.set()
        await claiming

        assert rig.keeper.held(SOURCE, 129.9)
        assert not rig.keeper.held(SOURCE, 130.0)


async def test_a_refused_claim_ends_what_was_held() -> None:
    async with rigged() as rig:
        rig.keeper.want(SOURCE)
        await rig.keeper.claim([SOURCE])
        rig.peer.refuses.add("r")
        await rig.keeper.claim([SOURCE])

        assert not rig.keeper.held(SOURCE, 100.0)


async def test_a_lease_is_left_when_the_last_of_its_users_leaves() -> None:
    async with rigged() as rig:
        rig.keeper.want(SOURCE)
        rig.keeper.want(SOURCE)

        assert not rig.keeper.leave(SOURCE)
        assert rig.keeper.leave(SOURCE)
        assert len(rig.keeper) == 0
        assert rig.keeper.leave(SOURCE)


async def test_an_answer_after_the_last_user_has_left_keeps_nothing() -> None:
    async with rigged() as rig:
        rig.peer.may_answer.clear()
        rig.keeper.want(SOURCE)
        claiming = asyncio.create_task(rig.keeper.claim([SOURCE]))
        await _turns()
        rig.keeper.leave(SOURCE)
        rig.peer.may_answer.set()
        await claiming

        assert len(rig.keeper) == 0
        assert not rig.keeper.held(SOURCE, 100.0)


async def test_all_that_is_wanted_is_renewed_again_and_again() -> None:
    async with rigged() as rig:
        rig.keeper.want(SOURCE)
        rig.keeper.want(OTHER)
        running = asyncio.create_task(rig.keeper.run())
        await _turns(20)
        rig.keeper.leave(SOURCE)
        seen = len(rig.peer.claims)
        await _turns(20)
        running.cancel()

    assert seen > 1
    assert rig.peer.claims[0] == ["r", "s"]
    assert rig.peer.claims[-1] == ["s"]


async def test_a_peer_that_is_slow_is_asked_once_at_a_time() -> None:
    async with rigged() as rig:
        rig.peer.may_answer.clear()
        rig.keeper.want(SOURCE)
        running = asyncio.create_task(rig.keeper.run())
        await _turns(50)

        assert len(rig.peer.claims) == 1
        running.cancel()
        rig.peer.may_answer.set()


async def test_a_peer_that_cannot_be_reached_is_tried_again() -> None:
    async with rigged() as rig:
        rig.peer.is_gone = True
        rig.keeper.want(SOURCE)
        running = asyncio.create_task(rig.keeper.run())
        await _turns(20)
        assert rig.peer.claims == []
        rig.peer.is_gone = False
        await _turns(20)
        running.cancel()

    assert rig.keeper.held(SOURCE, 100.0)


async def test_giving_back_to_a_peer_that_is_gone_is_no_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with rigged() as rig:
        await rig.keeper.give_back(SOURCE)
        rig.peer.is_gone = True
        await rig.keeper.give_back(SOURCE)

    assert rig.peer.returned == ["r"]
    assert "left to expire" in caplog.text
