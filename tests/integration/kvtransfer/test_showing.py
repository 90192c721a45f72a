"""A prefix cache in one process, and ranks in others that are asked for it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager

import pytest
from tests.integration.kvtransfer.holders import LOCALHOST, WAIT_SECONDS, hello, holding, until
from tests.unit.kvtransfer.pools import FakePool

from twofold_kvtransfer import remote_view, showing, viewing
from twofold_kvtransfer.remote_view import RemoteView
from twofold_kvtransfer.shelf import Shelf
from twofold_kvtransfer.showing import ShelfServer
from twofold_kvtransfer.side_channel import Channel, ChannelError, Patience
from twofold_kvtransfer.transports.testing import MemoryNetwork
from twofold_kvtransfer.viewing import NoViewError

NAMES = (b"a", b"b", b"c")


@pytest.fixture
def pool() -> FakePool:
    return FakePool(8)


@pytest.fixture
def shelf(pool: FakePool) -> Shelf:
    return Shelf(pool)


@pytest.fixture
def server(shelf: Shelf) -> Iterator[ShelfServer]:
    server = ShelfServer(shelf)
    server.start()
    yield server
    server.close()


@asynccontextmanager
async def looking(address: str | None) -> AsyncIterator[RemoteView]:
    view = RemoteView(lambda: address)
    try:
        async with asyncio.timeout(WAIT_SECONDS):
            yield view
    finally:
        await view.close()


async def test_a_rank_sees_what_the_shelf_shows(
    pool: FakePool, shelf: Shelf, server: ShelfServer
) -> None:
    held = pool.hold(NAMES)
    async with looking(server.address) as view:
        blocks, versions = await view.look([*NAMES, b"unknown"])

        sight = shelf.look(NAMES)
        assert (tuple(blocks), tuple(versions)) == (sight.blocks, sight.versions)
        assert await view.unchanged(NAMES, blocks, versions)
        pool.give_away(held[1], b"b")
        assert not await view.unchanged(NAMES, blocks, versions)
        assert await view.unchanged(NAMES[:1], blocks[:1], versions[:1])
        assert await view.look([b"unknown"]) == ([], [])


async def test_before_the_first_step_there_is_nothing_to_see() -> None:
    async with looking(None) as view:
        assert await view.look(NAMES) == ((), ())
        assert not await view.unchanged(NAMES, (1, 2, 3), (1, 1, 1))


async def test_what_is_computed_is_seen_when_its_step_is_done_and_others_wait_for_nobody(
    pool: FakePool, shelf: Shelf, server: ShelfServer
) -> None:
    pool.schedule(NAMES)
    step = shelf.steps.note_scheduled()
    async with looking(server.address) as one, looking(server.address) as other:
        waits = asyncio.create_task(one.look(NAMES))
        assert await one.look([b"unknown"]) == ([], [])
        assert await other.look([b"unknown"]) == ([], [])
        assert not waits.done()
        shelf.steps.note_done(step)

        blocks, _ = await waits
        assert tuple(blocks) == shelf.look(NAMES).blocks


async def test_a_step_that_takes_too_long_is_told(
    pool: FakePool, shelf: Shelf, server: ShelfServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(viewing, "STEP_LIMIT_SECONDS", 0.0)
    pool.schedule(NAMES)
    shelf.steps.note_scheduled()
    async with looking(server.address) as view:
        with pytest.raises(NoViewError, match="long step"):
            await view.look(NAMES)

        assert await view.look([b"unknown"]) == ([], [])


async def test_a_scheduler_that_hangs_is_waited_for_with_a_bound(
    pool: FakePool, shelf: Shelf, server: ShelfServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_view, "STEP_LIMIT_SECONDS", 0.0)
    monkeypatch.setattr(remote_view, "PATIENCE", Patience(answer_seconds=0.01))
    pool.schedule(NAMES)
    shelf.steps.note_scheduled()
    async with looking(server.address) as view:
        with pytest.raises(NoViewError, match="does not answer"):
            await view.look(NAMES)


async def test_a_rank_that_lost_its_connection_opens_another(
    pool: FakePool, server: ShelfServer
) -> None:
    pool.hold(NAMES)
    async with looking(server.address) as view:
        first = await view.look(NAMES)
        channel = view._channel
        assert channel is not None
        channel.close("the test cuts it")

        assert await view.look(NAMES) == first
        assert view._channel is not channel


async def test_a_shelf_that_is_shown_no_more_is_told_and_who_waits_is_let_go(
    pool: FakePool, shelf: Shelf, server: ShelfServer
) -> None:
    pool.schedule(NAMES)
    shelf.steps.note_scheduled()
    address = server.address
    async with looking(address) as view:
        waits = asyncio.create_task(view.look(NAMES))
        await until(lambda: shelf.steps._waiting)
        await asyncio.to_thread(server.close)

        with pytest.raises(NoViewError):
            await waits
        with pytest.raises(NoViewError, match="no connection"):
            await view.look(NAMES)


async def test_who_looks_no_more_is_waited_for_by_nobody(
    pool: FakePool, shelf: Shelf, server: ShelfServer
) -> None:
    pool.schedule(NAMES)
    shelf.steps.note_scheduled()
    async with looking(server.address) as view:
        waits = asyncio.create_task(view.look(NAMES))
        await until(lambda: shelf.steps._waiting)
    with pytest.raises(NoViewError):
        await waits

    await until(lambda: not shelf.steps._waiting)


@pytest.mark.parametrize(
    ("ask", "why"),
    [
        ("greet", "it has gone"),
        ("claim", "it has gone"),
        ("digest", "not kept for this reader"),
        ("recheck", "not in host memory"),
    ],
)
async def test_nothing_but_the_cache_is_to_be_had(
    pool: FakePool, server: ShelfServer, ask: str, why: str
) -> None:
    pool.hold(NAMES)
    async with await Channel.connect_local(server.address, Patience()) as channel:
        blocks, versions = await channel.look(NAMES)
        asked: dict[str, Callable[[], Awaitable[object]]] = {
            "greet": lambda: channel.greet(hello()),
            "claim": lambda: channel.claim(["r"]),
            "digest": lambda: channel.digest("r", blocks),
            "recheck": lambda: channel.recheck(NAMES, blocks, versions, digest=True),
        }
        with pytest.raises(ChannelError, match=why):
            await asked[ask]()

    async with looking(server.address) as view:
        assert (await view.look(NAMES))[0] == blocks


async def test_more_than_ranks_are_not_answered(
    pool: FakePool, server: ShelfServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool.hold(NAMES)
    monkeypatch.setattr(showing, "MAX_CONNECTIONS", 1)
    async with looking(server.address) as first, looking(server.address) as second:
        await first.look(NAMES)
        with pytest.raises(NoViewError):
            await second.look(NAMES)
        await first.close()

        await until(lambda: not server._talks)
        assert (await second.look(NAMES))[0]


async def test_a_reader_of_a_rank_is_told_what_its_engine_s_process_shows(
    pool: FakePool, server: ShelfServer
) -> None:
    held = pool.hold(NAMES)
    async with (
        looking(server.address) as view,
        holding(MemoryNetwork(), view=view) as holder,
        await Channel.connect(LOCALHOST, holder.port, Patience()) as channel,
    ):
        await channel.greet(hello())
        blocks, versions = await channel.look(NAMES)
        assert blocks == [block.block_id for block in held]
        assert await channel.recheck(NAMES, blocks, versions, digest=False) == []
        await asyncio.to_thread(server.close)
        with pytest.raises(ChannelError, match="does not answer"):
            await channel.look(NAMES)

        assert await channel.claim(["unknown"]) == [None], "the channel itself is not lost"


def test_a_server_can_be_closed_twice_and_without_a_start(shelf: Shelf) -> None:
    server = ShelfServer(shelf)
    server.close()
    server.close()


def test_each_server_has_a_name_of_its_own(shelf: Shelf, server: ShelfServer) -> None:
    other = ShelfServer(shelf)
    other.start()
    try:
        assert other.address != server.address
        assert other.address.startswith("\0"), "no file that would have to be removed"
    finally:
        other.close()
