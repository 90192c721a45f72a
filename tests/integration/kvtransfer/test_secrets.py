"""The side channel between those who know a service's secret and those who do not."""

import asyncio

import msgspec
import pytest
from tests.integration.kvtransfer.holders import (
    LOCALHOST,
    LONG,
    Holder,
    Stranger,
    hello,
    holding,
    listening,
    stranger,
)

from twofold_kvtransfer.lease import Reader
from twofold_kvtransfer.side_channel import Channel, ChannelError, Hello, Patience
from twofold_kvtransfer.side_channel.frames import read_frame
from twofold_kvtransfer.side_channel.messages import (
    Challenge,
    Claim,
    Claimed,
    Proof,
    Refused,
    Welcome,
    decode_question,
    frame,
)
from twofold_kvtransfer.side_channel.proving import holder_proof, reader_proof
from twofold_kvtransfer.transports.testing import MemoryNetwork

SECRET = b"known to all workers"
PATIENT = Patience(LONG, LONG)


async def greet(port: int, secret: bytes | None) -> Welcome:
    async with await Channel.connect(LOCALHOST, port, PATIENT) as channel:
        return await channel.greet(hello(), secret)


async def prove(peer: Stranger, says: Hello, secret: bytes = SECRET) -> bytes:
    """Return what proves to *peer* that *says* is of one who knows *secret*."""
    challenge = await peer.ask(says)
    assert isinstance(challenge, Challenge)
    return reader_proof(secret, challenge.nonce, says)


async def test_those_who_know_the_secret_let_each_other_in() -> None:
    async with holding(MemoryNetwork(), secret=SECRET) as holder:
        welcome = await greet(holder.port, SECRET)

    assert welcome.description == holder.transport.describe()


@pytest.mark.parametrize(
    ("secret", "reason"),
    [
        (b"another", "refuses: it does not know the service's secret"),
        (None, "asks for the service's secret; none is set here"),
    ],
)
async def test_a_reader_without_the_secret_is_refused(secret: bytes | None, reason: str) -> None:
    async with holding(MemoryNetwork(), secret=SECRET) as holder:
        with pytest.raises(ChannelError, match=reason):
            await greet(holder.port, secret)


async def test_a_stranger_under_the_name_of_a_worker_ends_none_of_its_leases() -> None:
    async with (
        holding(MemoryNetwork(), secret=SECRET) as holder,
        stranger(holder.port) as worker,
        stranger(holder.port) as other,
    ):
        await worker.ask(Proof(await prove(worker, hello())))
        holder.grant("r")
        later = msgspec.structs.replace(hello(), reader=Reader("d", "9999"))

        await _is_refused(other, Proof(await prove(other, later, b"guessed")))
        assert await worker.ask(Claim(["r"])) == Claimed([LONG])
        assert holder.ended == []


async def test_a_proof_that_was_overheard_is_of_no_use() -> None:
    async with holding(MemoryNetwork(), secret=SECRET) as holder:
        async with stranger(holder.port) as worker:
            overheard = Proof(await prove(worker, hello()))
            assert isinstance(await worker.ask(overheard), Welcome)
        async with stranger(holder.port) as other:
            assert isinstance(await other.ask(hello()), Challenge)
            await _is_refused(other, overheard)


async def test_a_proof_is_of_one_name() -> None:
    async with holding(MemoryNetwork(), secret=SECRET) as holder, stranger(holder.port) as other:
        later = msgspec.structs.replace(hello(), reader=Reader("d", "9999"))
        challenge = await other.ask(later)
        assert isinstance(challenge, Challenge)

        await _is_refused(other, Proof(reader_proof(SECRET, challenge.nonce, hello())))


async def test_another_message_proves_nothing() -> None:
    async with holding(MemoryNetwork(), secret=SECRET) as holder, stranger(holder.port) as other:
        assert isinstance(await other.ask(hello()), Challenge)

        await _is_refused(other, Claim(["r"]))


async def test_who_never_proves_is_let_go() -> None:
    async with (
        holding(MemoryNetwork(), secret=SECRET, hello_seconds=0.05) as holder,
        stranger(holder.port) as other,
    ):
        await other.ask(hello())

        assert await other.is_let_go()


async def test_a_holder_that_does_not_ask_for_the_secret_is_no_peer() -> None:
    async with holding(MemoryNetwork()) as holder:
        with pytest.raises(ChannelError, match="does not know the service's secret"):
            await greet(holder.port, SECRET)


async def test_a_welcome_proves_what_it_says() -> None:
    async with holding(MemoryNetwork(), secret=SECRET) as holder:

        async def mislead(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            said = decode_question(await read_frame(reader) or b"")
            assert isinstance(said, Hello)
            proof = holder_proof(SECRET, b"", said, _welcome(holder))
            writer.write(frame(_welcome(holder, incarnation="9999", proof=proof)))
            await reader.read()

        async with listening(mislead) as port:
            with pytest.raises(ChannelError, match="does not know the service's secret"):
                await greet(port, SECRET)


def _welcome(holder: Holder, incarnation: str = "1", proof: bytes = b"") -> Welcome:
    return Welcome(
        worker="p",
        incarnation=incarnation,
        blocks=holder.blocks.map,
        description=b"",
        proof=proof,
    )


async def _is_refused(other: Stranger, proof: Proof | Claim) -> None:
    assert await other.ask(proof) == Refused("it does not know the service's secret")
    assert await other.is_let_go()
