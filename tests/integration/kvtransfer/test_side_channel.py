"""The side channel over real sockets: both sides, and each against a peer that misbehaves."""

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager

import msgspec
import pytest
from tests.integration.kvtransfer.holders import (
    LOCALHOST,
    LONG,
    WAIT_SECONDS,
    Holder,
    PatientDigester,
    hello,
    holding,
    listening,
    stranger,
    until,
)
from tests.unit.kvtransfer.pools import FakePool

from twofold_kvtransfer import viewing
from twofold_kvtransfer.digesting import BLOCKS_PER_DIGEST, Digester
from twofold_kvtransfer.lease import Cause
from twofold_kvtransfer.leases import Ended
from twofold_kvtransfer.shelf import Shelf
from twofold_kvtransfer.side_channel import (
    Channel,
    ChannelError,
    Hello,
    Patience,
    calling,
    slow_answers,
)
from twofold_kvtransfer.side_channel.frames import read_frame
from twofold_kvtransfer.side_channel.messages import (
    MAX_BLOCK_NAME_BYTES,
    MAX_BLOCKS_PER_MESSAGE,
    MAX_HELLO_BYTES,
    MAX_LEASES_PER_MESSAGE,
    MAX_QUESTION_BYTES,
    Claim,
    Claimed,
    Digest,
    Digested,
    Done,
    GiveBack,
    Look,
    Recheck,
    Rechecked,
    Refused,
    Seen,
    Unanswered,
    Welcome,
    frame,
)
from twofold_kvtransfer.transports.testing import HostBlocks, MemoryNetwork, host_blocks

PATIENT = Patience(LONG, LONG)
CUT = frame(hello())[:-1]
_LONG_CLAIM = msgspec.msgpack.encode(Claim(["r" * (MAX_QUESTION_BYTES // 100)] * 100))
TOO_LONG = len(_LONG_CLAIM).to_bytes(4, "big") + _LONG_CLAIM
"""Good but for its length."""


@asynccontextmanager
async def greeted(port: int, says: Hello | None = None) -> AsyncIterator[Channel]:
    async with await Channel.connect(LOCALHOST, port, PATIENT) as channel:
        await channel.greet(says or hello())
        yield channel


NAMES = (b"a", b"b", b"c")


class Shown:
    """A prefix cache that has blocks of all ``NAMES``, and the shelf that shows it."""

    def __init__(self, *, computed: bool = True) -> None:
        self.pool = FakePool(8)
        self.shelf = Shelf(self.pool)
        self.blocks = self.pool.hold(NAMES) if computed else self.pool.schedule(NAMES)
        self.step = 0 if computed else self.shelf.steps.note_scheduled()
        """Until it is done, the blocks are not computed."""
        self.ids = [block.block_id for block in self.blocks]


@pytest.fixture
async def holder() -> AsyncIterator[Holder]:
    async with holding(MemoryNetwork()) as holder:
        yield holder


async def test_a_reader_learns_who_holds_which_blocks(holder: Holder) -> None:
    async with await Channel.connect(LOCALHOST, holder.port, PATIENT) as channel:
        welcome = await channel.greet(hello())

    assert (welcome.worker, welcome.incarnation) == ("p", "1")
    assert welcome.blocks == holder.blocks.map
    assert welcome.description == holder.transport.describe()


async def test_leases_are_claimed_and_given_back(holder: Holder) -> None:
    holder.grant("r")
    holder.grant("s")
    async with greeted(holder.port) as channel:
        assert await channel.claim(["r", "unknown", "s"]) == [LONG, None, LONG]
        assert holder.ended == []
        await channel.give_back(["r", "unknown"])

        assert holder.ended == [Ended("r", Cause.READ)]
        assert await channel.claim(["r", "s"]) == [None, LONG]


async def test_more_leases_than_fit_into_a_message_are_claimed_in_several(holder: Holder) -> None:
    names = [f"r{number}" for number in range(MAX_LEASES_PER_MESSAGE + 1)]
    holder.grant(names[-1])
    async with greeted(holder.port) as channel:
        seconds = await channel.claim(names)
        await channel.give_back(names)

    assert seconds == [None] * MAX_LEASES_PER_MESSAGE + [LONG]
    assert holder.ended == [Ended(names[-1], Cause.READ)]


async def test_answers_find_those_who_asked(holder: Holder) -> None:
    for number in range(0, 50, 2):
        holder.grant(f"r{number}")
    async with greeted(holder.port) as channel:
        answers = await asyncio.gather(*(channel.claim([f"r{n}"]) for n in range(50)))

    assert answers == [[LONG], [None]] * 25


async def digests_of(blocks: HostBlocks, ids: Sequence[int]) -> list[int]:
    digester = Digester(blocks.map)
    try:
        return await digester.digest(ids)
    finally:
        digester.close()


@pytest.mark.parametrize("count", [0, 2, MAX_BLOCKS_PER_MESSAGE, MAX_BLOCKS_PER_MESSAGE + 1])
async def test_a_holder_tells_what_its_blocks_hold(holder: Holder, count: int) -> None:
    blocks = [number % 8 for number in range(count)]
    holder.grant("r")
    async with greeted(holder.port) as channel:
        digests = await channel.digest("r", blocks)

    assert len(digests) == -(-count // BLOCKS_PER_DIGEST)
    assert digests == await digests_of(holder.blocks, blocks)


@pytest.mark.parametrize("rank", range(4))
async def test_a_rank_learns_what_it_reads_of_each_block(rank: int) -> None:
    async with (
        holding(MemoryNetwork(), rank=rank // 2, tensor_parallel=2) as holder,
        greeted(holder.port, hello(rank=rank, tensor_parallel=4, block_bytes=32)) as channel,
    ):
        holder.grant("r")
        half = host_blocks(3, 8, 32)
        half.memory[:] = holder.blocks.memory[:, :, rank % 2 * 32 : (rank % 2 + 1) * 32]

        assert await channel.digest("r", (5, 2)) == await digests_of(half, (5, 2))


async def test_what_is_not_kept_for_a_reader_it_learns_nothing_of(holder: Holder) -> None:
    holder.grant("r")
    async with greeted(holder.port) as channel:
        for name in ("never granted", "r"):
            await channel.give_back(["r"])
            with pytest.raises(ChannelError, match="not kept for this reader"):
                await channel.digest(name, (0, 1))

        assert await channel.claim(["unknown"]) == [None]


async def test_what_is_being_digested_is_kept_for_a_lease_s_time(holder: Holder) -> None:
    holder.grant("r")
    async with greeted(holder.port) as channel:
        holder.clock.now += 0.9 * LONG
        await channel.digest("r", (0, 1))
        holder.clock.now += 0.9 * LONG
        holder.collect()

        assert holder.ended == []


async def test_blocks_that_are_not_there_are_not_digested(holder: Holder) -> None:
    holder.grant("r")
    async with greeted(holder.port) as channel:
        with pytest.raises(ChannelError, match="does not answer: blocks 1 to 8 of 8"):
            await channel.digest("r", (1, 8))

        assert await channel.claim(["r"]) == [LONG]


async def test_blocks_that_are_not_in_host_memory_are_not_digested() -> None:
    async with (
        holding(MemoryNetwork(), digester=None) as holder,
        greeted(holder.port) as channel,
    ):
        holder.grant("r")
        with pytest.raises(ChannelError, match="not in host memory"):
            await channel.digest("r", (0, 1))


async def test_leases_do_not_wait_for_digests_and_digests_come_when_they_are_made() -> None:
    async with holding(MemoryNetwork(), digester=PatientDigester) as holder:
        assert isinstance(holder.digester, PatientDigester)
        holder.grant("r")
        async with greeted(holder.port) as channel:
            digesting = asyncio.create_task(channel.digest("r", (0, 1)))
            await holder.digester.made.wait()
            assert await channel.claim(["r", "unknown"]) == [LONG, None]
            holder.digester.may_answer.set()

            assert await digesting == await digests_of(holder.blocks, (0, 1))


async def test_more_digests_than_may_be_made_at_once_are_refused() -> None:
    async with (
        holding(MemoryNetwork(), digester=PatientDigester, max_slow_answers=2) as holder,
        greeted(holder.port) as one,
        greeted(holder.port, hello("other")) as other,
    ):
        assert isinstance(holder.digester, PatientDigester)
        holder.grant("r")
        first = [asyncio.create_task(each.digest("r", (0,))) for each in (one, other)]
        await until(lambda: holder.desk._slow.count == 2)
        with pytest.raises(ChannelError, match="too much"):
            await one.digest("r", (0,))
        holder.digester.may_answer.set()
        await asyncio.gather(*first)

        assert await one.digest("r", (0,)) == await digests_of(holder.blocks, (0,))


async def test_nothing_is_digested_for_a_reader_that_has_left() -> None:
    async with holding(MemoryNetwork(), digester=PatientDigester) as holder:
        holder.grant("r")
        async with greeted(holder.port) as channel:
            digesting = asyncio.create_task(channel.digest("r", (0, 1)))
            await until(lambda: holder.desk._slow.count)
        with pytest.raises(ChannelError, match="closed"):
            await digesting
        with pytest.raises(ChannelError, match="closed"):
            await channel.digest("r", (0, 1))

        await until(lambda: holder.desk.connection_count == 0)
        assert holder.desk._slow.count == 0


async def test_who_waits_for_digests_no_more_leaves_the_channel_to_others() -> None:
    async with (
        holding(MemoryNetwork(), digester=PatientDigester) as holder,
        greeted(holder.port) as channel,
    ):
        assert isinstance(holder.digester, PatientDigester)
        holder.grant("r")
        gives_up = asyncio.create_task(channel.digest("r", (0, 1)))
        waits = asyncio.create_task(channel.digest("r", (0, 1)))
        await until(lambda: holder.desk._slow.count == 2)
        gives_up.cancel()
        await asyncio.sleep(0)
        holder.digester.may_answer.set()

        assert await waits == await digests_of(holder.blocks, (0, 1))
        assert await channel.claim(["r"]) == [LONG]


async def test_blocks_of_the_prefix_cache_are_found_by_their_names() -> None:
    shown = Shown()
    async with (
        holding(MemoryNetwork(), shelf=shown.shelf) as holder,
        greeted(holder.port) as channel,
    ):
        blocks, versions = await channel.look(NAMES)
        assert blocks == shown.ids
        assert await channel.look([b"a", b"unknown", b"b"]) == (blocks[:1], versions[:1])
        assert await channel.look([]) == ([], [])

        digests = await channel.recheck(NAMES, blocks, versions, digest=True)
        assert digests == await digests_of(holder.blocks, blocks)
        assert await channel.recheck(NAMES, blocks, versions, digest=False) == []
        shown.pool.give_away(shown.blocks[1], b"b")
        assert await channel.recheck(NAMES, blocks, versions, digest=True) is None
        assert await channel.recheck(NAMES[:1], blocks[:1], versions[:1], digest=False) == []


@pytest.mark.parametrize("gone", [None, 0, MAX_BLOCKS_PER_MESSAGE])
async def test_more_blocks_than_fit_into_a_message_are_found_with_several(gone: int | None) -> None:
    count = MAX_BLOCKS_PER_MESSAGE + 3
    names = [number.to_bytes(32, "big") for number in range(count)]
    pool = FakePool(count + 1)
    held = pool.hold(names)
    async with (
        holding(MemoryNetwork(), shelf=Shelf(pool), digester=None) as holder,
        greeted(holder.port) as channel,
    ):
        blocks, versions = await channel.look(names)
        assert blocks == [block.block_id for block in held]
        if gone is not None:
            pool.give_away(held[gone])

        told = await channel.recheck(names, blocks, versions, digest=False)
        assert told == ([] if gone is None else None)
        assert len((await channel.look(names))[0]) == (count if gone is None else gone)


async def test_a_holder_without_a_shelf_has_no_prefixes(holder: Holder) -> None:
    async with greeted(holder.port) as channel:
        assert await channel.look(NAMES) == ([], [])
        assert await channel.recheck(NAMES, [1, 2, 3], [1, 1, 1], digest=False) is None


async def test_blocks_of_the_prefix_cache_that_are_not_in_host_memory_are_not_digested() -> None:
    shown = Shown()
    async with (
        holding(MemoryNetwork(), shelf=shown.shelf, digester=None) as holder,
        greeted(holder.port) as channel,
    ):
        blocks, versions = await channel.look(NAMES)
        with pytest.raises(ChannelError, match="not in host memory"):
            await channel.recheck(NAMES, blocks, versions, digest=True)

        assert await channel.recheck(NAMES, blocks, versions, digest=False) == []


@pytest.mark.parametrize("blocks", [[-1, 1, 2], [1, 2, 8], [2**63, 1, 2]])
async def test_blocks_that_are_not_there_are_not_the_same(blocks: list[int]) -> None:
    shown = Shown()
    async with (
        holding(MemoryNetwork(), shelf=shown.shelf) as holder,
        greeted(holder.port) as channel,
    ):
        assert await channel.recheck(NAMES, blocks, [1, 1, 1], digest=False) is None
        with pytest.raises(ChannelError, match="does not answer: blocks"):
            await channel.recheck(NAMES, blocks, [1, 1, 1], digest=True)
        assert (await channel.look(NAMES))[0] == shown.ids


async def test_the_step_that_computes_blocks_is_waited_for_and_the_channel_is_not() -> None:
    shown = Shown(computed=False)
    async with (
        holding(MemoryNetwork(), shelf=shown.shelf) as holder,
        greeted(holder.port) as channel,
    ):
        looking = asyncio.create_task(channel.look(NAMES))
        await until(lambda: holder.desk._slow.count)
        assert await channel.claim(["unknown"]) == [None]
        assert await channel.look([b"unknown"]) == ([], [])
        assert not looking.done()
        shown.shelf.steps.note_done(shown.step)

        assert (await looking)[0] == shown.ids


async def test_a_step_that_takes_too_long_is_waited_for_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(viewing, "STEP_LIMIT_SECONDS", 0.0)
    shown = Shown(computed=False)
    async with (
        holding(MemoryNetwork(), shelf=shown.shelf) as holder,
        greeted(holder.port) as channel,
    ):
        with pytest.raises(ChannelError, match="long step"):
            await channel.look(NAMES)
        shown.shelf.steps.note_done(shown.step)

        assert (await channel.look(NAMES))[0] == shown.ids


async def test_who_looks_for_too_much_at_a_time_is_refused_and_not_let_go() -> None:
    shown = Shown(computed=False)
    async with (
        holding(MemoryNetwork(), shelf=shown.shelf, max_slow_answers=2) as holder,
        stranger(holder.port) as other,
    ):
        assert isinstance(await other.ask(hello()), Welcome)
        for number in range(3):
            other.writer.write(frame(Look(number, list(NAMES))))
        assert await other.answer() == Unanswered(2, "too much is asked at a time")
        shown.shelf.steps.note_done(shown.step)

        answers = [await other.answer(), await other.answer()]
        assert sorted(answer.number for answer in answers if isinstance(answer, Seen)) == [0, 1]
        assert isinstance(await other.ask(Look(3, list(NAMES))), Seen)


async def test_a_flood_of_looks_keeps_neither_digests_nor_what_was_read_from_being_checked() -> (
    None
):
    shown = Shown(computed=False)
    async with (
        holding(MemoryNetwork(), shelf=shown.shelf, max_slow_answers=2) as holder,
        greeted(holder.port, hello("flood")) as flood,
        greeted(holder.port) as channel,
    ):
        holder.grant("r")
        looks = [asyncio.create_task(flood.look(NAMES)) for _ in range(2)]
        await until(lambda: holder.desk._slow.count == 2)
        with pytest.raises(ChannelError, match="too much"):
            await channel.look(NAMES)

        assert await channel.digest("r", (0, 1)) == await digests_of(holder.blocks, (0, 1))
        assert await channel.recheck(NAMES, shown.ids, [1, 1, 1], digest=False) == []
        shown.shelf.steps.note_done(shown.step)
        assert [seen for seen, _ in await asyncio.gather(*looks)] == [shown.ids] * 2


async def test_a_flood_of_digests_keeps_no_look_from_being_answered() -> None:
    shown = Shown()
    async with (
        holding(
            MemoryNetwork(), shelf=shown.shelf, digester=PatientDigester, max_slow_answers=2
        ) as holder,
        greeted(holder.port) as channel,
    ):
        assert isinstance(holder.digester, PatientDigester)
        holder.grant("r")
        digesting = [asyncio.create_task(channel.digest("r", (0,))) for _ in range(2)]
        await until(lambda: holder.desk._slow.count == 2)

        assert (await channel.look(NAMES))[0] == shown.ids
        holder.digester.may_answer.set()
        await asyncio.gather(*digesting)


async def test_blocks_that_nobody_keeps_are_digested_so_many_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(slow_answers, "MAX_UNLEASED_BLOCKS", 4)
    shown = Shown()
    async with (
        holding(MemoryNetwork(), shelf=shown.shelf, digester=PatientDigester) as holder,
        greeted(holder.port) as channel,
    ):
        assert isinstance(holder.digester, PatientDigester)
        holder.grant("r")
        first = asyncio.create_task(channel.recheck(NAMES, shown.ids, [1, 1, 1], digest=True))
        await until(lambda: holder.desk._slow.count == 1)
        with pytest.raises(ChannelError, match="too much"):
            await channel.recheck(NAMES, shown.ids, [1, 1, 1], digest=True)
        assert await channel.recheck(NAMES, shown.ids, [1, 1, 1], digest=False) == []
        holder.digester.may_answer.set()

        assert await first == await digests_of(holder.blocks, shown.ids)
        assert await channel.digest("r", range(8)) == await digests_of(holder.blocks, range(8))
        assert holder.digester.unhurried == [shown.ids]
        assert await channel.recheck(NAMES, shown.ids, [1, 1, 1], digest=True)


async def test_a_peer_that_leaves_too_much_unanswered_is_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also if nobody waits for it any more: what is asked is remembered until it is answered."""
    monkeypatch.setattr(calling, "MAX_UNANSWERED", 3)
    shown = Shown(computed=False)
    async with (
        holding(MemoryNetwork(), shelf=shown.shelf) as holder,
        greeted(holder.port) as channel,
    ):
        for _ in range(3):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0):
                    await channel.look(NAMES)
        assert await channel.claim(["unknown"]) == [None]

        async with asyncio.timeout(WAIT_SECONDS):
            with pytest.raises(ChannelError, match="does not answer"):
                await channel.look(NAMES)
            assert "does not answer" in await channel.until_lost()


async def test_nobody_looks_for_a_reader_that_has_left() -> None:
    shown = Shown(computed=False)
    async with holding(MemoryNetwork(), shelf=shown.shelf) as holder:
        async with greeted(holder.port) as channel:
            looking = asyncio.create_task(channel.look(NAMES))
            await until(lambda: holder.desk._slow.count)
        with pytest.raises(ChannelError, match="closed"):
            await looking

        await until(lambda: holder.desk.connection_count == 0)
        assert holder.desk._slow.count == 0


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        pytest.param(Seen(0, [1, 2, 3, 4], [1, 1, 1, 1]), "sees 4 blocks of 3", id="too many"),
        pytest.param(Seen(0, [1, 2], [1]), "sees 2 blocks of 3", id="fewer versions"),
        pytest.param(Seen(0, [1], [1, 1]), "sees 1 blocks of 3", id="more versions"),
        pytest.param(Seen(1, [], []), "nobody asked for", id="of another number"),
        pytest.param(Digested(0, []), "answers Digested", id="of another kind"),
    ],
)
async def test_a_holder_that_sees_what_cannot_be_is_given_up(
    answer: Seen | Digested, error: str
) -> None:
    async with saying(answer) as channel:
        with pytest.raises(ChannelError, match=error):
            await channel.look(NAMES)
        with pytest.raises(ChannelError):
            await channel.claim(["r"])


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        pytest.param(Rechecked(0, True, []), "makes 0 digests of 3 blocks", id="too few"),
        pytest.param(Rechecked(0, True, [1, 2]), "makes 2 digests of 3 blocks", id="too many"),
        pytest.param(Seen(0, [], []), "answers Seen", id="of another kind"),
    ],
)
async def test_a_holder_that_vouches_for_other_blocks_is_given_up(
    answer: Seen | Rechecked, error: str
) -> None:
    async with saying(answer) as channel:
        with pytest.raises(ChannelError, match=error):
            await channel.recheck(NAMES, [1, 2, 3], [1, 1, 1], digest=True)
        with pytest.raises(ChannelError):
            await channel.claim(["r"])


@asynccontextmanager
async def saying(answer: Seen | Rechecked | Digested) -> AsyncIterator[Channel]:
    """Yield a channel to a holder that says *answer*, whatever it is asked."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_frame(reader)
        writer.write(frame(answer))
        await reader.read()

    async with (
        listening(talk) as port,
        await Channel.connect(LOCALHOST, port, PATIENT) as channel,
    ):
        yield channel


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        pytest.param(Digested(0, []), "makes 0 digests of 2 blocks", id="too few"),
        pytest.param(Digested(0, [1, 2]), "makes 2 digests of 2 blocks", id="too many"),
        pytest.param(Digested(1, [1]), "nobody asked for", id="of another number"),
    ],
)
async def test_a_holder_that_makes_other_digests_than_were_asked_for_is_given_up(
    answer: Digested, error: str
) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_frame(reader)
        writer.write(frame(answer))
        await reader.read()

    async with (
        listening(talk) as port,
        await Channel.connect(LOCALHOST, port, PATIENT) as channel,
    ):
        with pytest.raises(ChannelError, match=error):
            await channel.digest("r", (0, 1))
        with pytest.raises(ChannelError):
            await channel.claim(["r"])


async def test_who_gave_up_asking_leaves_the_answers_of_others_alone(holder: Holder) -> None:
    holder.grant("r")
    async with greeted(holder.port) as channel:
        gives_up = asyncio.create_task(channel.claim(["unknown"]))
        waits = asyncio.create_task(channel.claim(["r"]))
        await asyncio.sleep(0)
        gives_up.cancel()

        assert await waits == [LONG]


@pytest.mark.parametrize(("host", "port"), [(LOCALHOST, 1), (LOCALHOST, 70_000), ("a\0b", 1)])
async def test_a_peer_that_cannot_be_reached_is_an_error(host: str, port: int) -> None:
    with pytest.raises(ChannelError, match="no connection to"):
        await Channel.connect(host, port, PATIENT)


async def test_a_peer_that_accepts_nobody_is_given_up() -> None:
    with ExitStack() as stack:
        full = stack.enter_context(socket.create_server((LOCALHOST, 0), backlog=0))
        for _ in range(4):  # more than it queues: the kernel drops what comes after
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())

        with pytest.raises(ChannelError, match="no answer"):
            await Channel.connect(LOCALHOST, full.getsockname()[1], Patience(0.05, LONG))


async def test_a_refusal_names_its_reason(holder: Holder) -> None:
    async with await Channel.connect(LOCALHOST, holder.port, PATIENT) as channel:
        with pytest.raises(ChannelError, match="refuses: tensor parallelism of 0 is not"):
            await channel.greet(hello(tensor_parallel=0))

        assert "has gone" in await channel.until_lost()


async def test_a_peer_that_goes_while_it_is_asked_is_an_error_at_once() -> None:
    async def go(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_frame(reader)

    async with (
        listening(go) as port,
        await Channel.connect(LOCALHOST, port, PATIENT) as channel,
    ):
        with pytest.raises(ChannelError, match="has gone"):
            await channel.greet(hello())
        with pytest.raises(ChannelError, match="has gone"):
            await channel.claim(["r"])


async def test_all_who_wait_learn_that_a_channel_was_closed() -> None:
    async with (
        listening(_say_nothing) as port,
        await Channel.connect(LOCALHOST, port, PATIENT) as channel,
    ):
        waiting = [asyncio.create_task(channel.claim([name])) for name in "abc"]
        await asyncio.sleep(0)
        channel.close("enough")

        for task in waiting:
            with pytest.raises(ChannelError, match="enough"):
                await task


async def test_a_peer_that_never_answers_is_given_up() -> None:
    async with (
        listening(_say_nothing) as port,
        await Channel.connect(LOCALHOST, port, Patience(LONG, 0.01)) as channel,
    ):
        with pytest.raises(ChannelError, match="does not answer"):
            await channel.greet(hello())
        with pytest.raises(ChannelError, match="does not answer"):
            await channel.greet(hello())


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        pytest.param(b"\xff\xff\xff\xff", "at most", id="a frame too long"),
        pytest.param(b"\0\0\0\1\xc1", "not an answer", id="garbage"),
        pytest.param(frame(Done())[:-1], "inside a frame", id="cut off"),
        pytest.param(frame(Done()), "answers Done", id="another kind of answer"),
        pytest.param(frame(Claimed([])), "answers 0 of 1", id="too few answers"),
    ],
)
async def test_a_peer_that_answers_nonsense_is_given_up(answer: bytes, error: str) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_frame(reader)
        writer.write(answer)
        writer.write_eof()
        await reader.read()

    async with (
        listening(talk) as port,
        await Channel.connect(LOCALHOST, port, PATIENT) as channel,
    ):
        with pytest.raises(ChannelError, match=error):
            await channel.claim(["r"])
        with pytest.raises(ChannelError):
            await channel.claim(["r"])


async def test_an_answer_that_nobody_asked_for_ends_the_channel() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(frame(Done()))
        await reader.read()

    async with (
        listening(talk) as port,
        await Channel.connect(LOCALHOST, port, PATIENT) as channel,
    ):
        assert "nobody asked for" in await channel.until_lost()


@pytest.mark.parametrize(
    "first",
    [
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", id="another protocol"),
        pytest.param((MAX_HELLO_BYTES + 1).to_bytes(4, "big"), id="a frame too long"),
        pytest.param(CUT, id="a frame cut off"),
        pytest.param(b"\0\0\0\1\xc1", id="garbage"),
        pytest.param(frame(Claim(["r"])), id="no hello"),
        pytest.param(frame(hello()) + frame(hello()), id="a second hello"),
        pytest.param(
            frame(hello()) + frame(GiveBack(["r"] * (MAX_LEASES_PER_MESSAGE + 1))),
            id="too many leases",
        ),
        pytest.param(
            frame(hello()) + frame(Digest(0, "r", [0] * (MAX_BLOCKS_PER_MESSAGE + 1))),
            id="too many blocks",
        ),
        pytest.param(
            frame(hello()) + frame(Look(0, [b""] * (MAX_BLOCKS_PER_MESSAGE + 1))),
            id="too many names",
        ),
        pytest.param(
            frame(hello()) + frame(Look(0, [b"n" * (MAX_BLOCK_NAME_BYTES + 1)])),
            id="a name too long",
        ),
        pytest.param(frame(hello()) + TOO_LONG, id="a question too long"),
        *(
            pytest.param(
                frame(hello())
                + frame(Recheck(0, [b""] * names, [0] * blocks, [0] * versions, True)),
                id=f"{names} names, {blocks} blocks, {versions} versions",
            )
            for names, blocks, versions in ((1, 2, 2), (2, 1, 2), (2, 2, 1), (1025, 1025, 1025))
        ),
        pytest.param(b"", id="nothing"),
    ],
)
async def test_a_stranger_is_let_go_and_takes_nothing(first: bytes) -> None:
    async with holding(MemoryNetwork(), hello_seconds=LONG if first else 0.05) as holder:
        holder.grant("r")
        async with stranger(holder.port) as other:
            other.writer.write(first)
            if first == CUT:
                other.writer.write_eof()
            if first.startswith(frame(hello())):
                assert isinstance(await other.answer(), Welcome)
            assert await other.is_let_go()

        await until(lambda: holder.desk.connection_count == 0)
        assert holder.ended == []
        async with greeted(holder.port) as channel:
            assert await channel.claim(["r"]) == [LONG]


async def test_a_reader_beyond_the_bound_is_turned_away_until_one_leaves() -> None:
    async with AsyncExitStack() as stack:
        holder = await stack.enter_async_context(
            holding(MemoryNetwork(), hello_seconds=LONG, max_connections=20)
        )
        first = AsyncExitStack()
        await first.enter_async_context(greeted(holder.port))
        for _ in range(19):
            await stack.enter_async_context(greeted(holder.port))
        async with stranger(holder.port) as other:
            assert await other.is_let_go()
        await first.aclose()
        await until(lambda: holder.desk.connection_count == 19)

        async with greeted(holder.port) as channel:
            assert await channel.claim(["unknown"]) == [None]


async def test_a_new_incarnation_fences_the_old_and_ends_its_connections(holder: Holder) -> None:
    for name in ("r", "s"):
        holder.grant(name)
    async with (
        greeted(holder.port) as old,
        greeted(holder.port, hello("other")) as other,
    ):
        await old.claim(["r"])
        await other.claim(["s"])
        async with greeted(holder.port, hello(incarnation="2")) as new:
            assert holder.ended == [Ended("r", Cause.FENCED)]
            assert "gone" in await old.until_lost() or "reset" in await old.until_lost()
            assert await new.claim(["r"]) == [None]
        assert await other.claim(["s"]) == [LONG]


async def test_an_old_incarnation_is_refused_and_fences_nobody(holder: Holder) -> None:
    holder.grant("r")
    async with greeted(holder.port, hello(incarnation="2")) as new:
        await new.claim(["r"])
        async with stranger(holder.port) as other:
            answer = await other.ask(hello(incarnation="1"))

        assert answer == Refused("incarnation 1 was followed by 2")
        assert holder.ended == []
        assert await new.claim(["r"]) == [LONG]


async def test_ranks_of_one_incarnation_leave_each_other_alone() -> None:
    async with (
        holding(MemoryNetwork()) as holder,
        greeted(holder.port, hello(rank=0, tensor_parallel=2)) as first,
        greeted(holder.port, hello(rank=1, tensor_parallel=2)) as second,
    ):
        holder.grant("r")
        assert await first.claim(["r"]) == await second.claim(["r"]) == [LONG]
        await first.give_back(["r"])
        assert holder.ended == []
        await second.give_back(["r"])

        assert holder.ended == [Ended("r", Cause.READ)]


async def test_a_desk_ends_also_with_a_reader_that_does_not_listen() -> None:
    more_than_the_kernel_takes = bytes(12 * 2**20)
    async with AsyncExitStack() as stack:
        async with holding(MemoryNetwork(), description=more_than_the_kernel_takes) as holder:
            other = await stack.enter_async_context(stranger(holder.port))
            other.writer.write(frame(hello()))
            await until(lambda: any(w.transport.get_write_buffer_size() for w in holder.desk._open))

        assert holder.desk.connection_count == 0


async def _say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()
