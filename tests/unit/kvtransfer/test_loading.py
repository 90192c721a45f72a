import asyncio
from typing import cast

from twofold_kvtransfer.keeping import Keeper
from twofold_kvtransfer.lease import Reader
from twofold_kvtransfer.leases import LeaseTable
from twofold_kvtransfer.links import LinkError, Links
from twofold_kvtransfer.loading import Load, load_of
from twofold_kvtransfer.receiving import Receiver
from twofold_kvtransfer.sources import Peer, Source


class Unreachable:
    async def to(self, peer: Peer) -> None:
        raise LinkError("no link")


def source(request_id: str) -> Source:
    return Source(
        engine_id="p:1", host="h", port=1, tensor_parallel=1, request_id=request_id, blocks=(1,)
    )


async def test_a_load_has_leases_by_state_and_reads_that_are_under_way_or_wait() -> None:
    leases = LeaseTable(10.0)
    leases.promise("promised")
    for name in ("claimed", "pinned", "left"):
        leases.grant(name, 0.0)
    leases.claim("claimed", Reader("d", "1"), 6.0)
    leases.claim("left", Reader("d", "1"), 0.0)
    leases.pin("pinned", 100.0, 0.0)
    async with asyncio.TaskGroup() as tasks:
        links = cast("Links", Unreachable())
        keeper = Keeper(links, tasks, interval=1.0)
        receiver = Receiver(
            links, keeper, tasks, limit_seconds=lambda _: 1.0, received=lambda _: None
        )
        for name in ("a", "b", "c"):
            receiver.await_turn(source(name))
        receiver.fetch("local", source("a"), (1,))
        receiver.abandon(source("b"))
        load = load_of(leases, receiver, 12.0)

    assert load == Load(promised=1, held=3, claimed=1, pinned=1, reading=1, waiting=1)
    assert receiver.reading_count == 0
