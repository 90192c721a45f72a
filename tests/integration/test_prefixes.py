"""A worker's prefixes over real gRPC, with an engine and ranks that are played."""

import asyncio
import json
import socket
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import grpc
import msgspec
import pytest
from aiohttp import web
from tests.unit.engine.prefixes.workers import P0, a_worker

from twofold_cluster.identity import Incarnation, WorkerId
from twofold_cluster.membership import connect
from twofold_cluster.membership.entries import announce
from twofold_cluster.rpc import kvtransfer_pb2 as pb
from twofold_cluster.rpc import kvtransfer_pb2_grpc as rpc
from twofold_cluster.worker import Engine, Worker
from twofold_engine.prefixes.addresses import prefixes_address, rank_address
from twofold_engine.prefixes.serving import serving_prefixes
from twofold_kvtransfer.directory import Directory, Position, Rebuild
from twofold_kvtransfer.service import MAX_CONCURRENT_CALLS, ServiceError

if TYPE_CHECKING:
    from tests.integration.conftest import Valkey

LOCALHOST = "127.0.0.1"
WAIT_SECONDS = 30.0
BLOCKS = [number.to_bytes(8, "big") for number in range(1, 5)]
CHAIN = {"token_count": 70, "block_tokens": 16, "blocks": [block.hex() for block in BLOCKS]}
P1 = WorkerId("p-1")
PROMPT = '{"prompt": "Hi"}'


@dataclass
class PlayedEngine:
    """Answers as vLLM does; what it is asked to pull it pulls, or counts ``outcome``."""

    outcome: str = "pulled"
    status: int = 200
    prompt_tokens: int = 70
    cached_tokens: int = 64
    asked: list[dict[str, Any]] = field(default_factory=list)
    pulls: int = 0
    may_answer: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.may_answer.set()

    async def complete(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.asked.append(body)
        await self.may_answer.wait()
        if self.status != 200:
            return web.json_response({"error": {"message": "no"}}, status=self.status)
        params = body["kv_transfer_params"]
        if params.get("prefix_source"):
            self.pulls += 1
        usage = {
            "prompt_tokens": self.prompt_tokens,
            "prompt_tokens_details": {"cached_tokens": self.cached_tokens},
        }
        offered = {
            "do_remote_prefill": True,
            "remote_engine_id": "p-0:1",
            "remote_request_id": f"r{len(self.asked)}",
            "remote_host": LOCALHOST,
            "remote_port": 1,
        }
        return web.json_response({"usage": usage, "kv_transfer_params": offered})

    async def chain(self, request: web.Request) -> web.Response:
        return web.json_response(CHAIN)

    async def metrics(self, request: web.Request) -> web.Response:
        return web.Response(
            text=(
                "# TYPE twofold_kv_prefix_pulls_total counter\n"
                f'twofold_kv_prefix_pulls_total{{outcome="{self.outcome}"}} {self.pulls}\n'
                "# TYPE twofold_kv_prefix_blocks_total counter\n"
                f"twofold_kv_prefix_blocks_total {4 * self.pulls}\n"
            )
        )


class Rank(rpc.KvTransferServicer):
    """Keeps any lease that it is asked to; ``lacks_leases``: none."""

    def __init__(self) -> None:
        self.pinned: dict[str, float] = {}
        self.released: list[str] = []
        self.lacks_leases = False

    async def Peers(self, request: pb.PeersRequest, context: Any) -> pb.PeersReply:  # noqa: N802
        return pb.PeersReply()

    async def Leases(  # noqa: N802
        self, request: pb.LeasesRequest, context: Any
    ) -> pb.LeasesReply:
        return pb.LeasesReply(held_count=len(self.pinned))

    async def Pin(  # noqa: N802
        self, request: pb.PinLeaseRequest, context: Any
    ) -> pb.PinLeaseReply:
        if self.lacks_leases:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no lease")
        self.pinned[request.request_id] = request.seconds
        return pb.PinLeaseReply()

    async def Release(  # noqa: N802
        self, request: pb.ReleaseRequest, context: Any
    ) -> pb.ReleaseReply:
        self.released.append(request.request_id)
        if self.pinned.pop(request.request_id, None) is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no lease")
        return pb.ReleaseReply()


class Leaving:
    """The worker as it is announced; it is busy as long as a rank keeps something."""

    def __init__(self, worker: Worker, ranks: list[Rank]) -> None:
        self.worker = worker
        self._ranks = ranks
        self._draining = asyncio.Event()

    async def drain(self) -> None:
        self._draining.set()

    async def until_draining(self) -> None:
        await self._draining.wait()

    def is_busy(self) -> bool:
        return any(rank.pinned for rank in self._ranks)

    @property
    def request_count(self) -> int:
        return 0


@dataclass
class Served:
    engine: PlayedEngine
    ranks: list[Rank]
    leaving: Leaving
    stub: Any

    async def pin(self, seconds: float = 60.0, request: str = PROMPT) -> pb.PinReply:
        asked = pb.PinRequest(request=request, seconds=seconds)
        reply: pb.PinReply = await self.stub.Pin(asked, timeout=WAIT_SECONDS)
        return reply


@asynccontextmanager
async def serving(redis_url: str | None, *, rank_count: int = 2) -> AsyncIterator[Served]:
    """Serve worker p-0, whose pins may keep 320 tokens; end as the worker does."""
    engine, ranks = PlayedEngine(), [Rank() for _ in range(rank_count)]
    application = web.Application()
    application.router.add_post("/v1/completions", engine.complete)
    application.router.add_post("/twofold/v1/chain", engine.chain)
    application.router.add_get("/metrics", engine.metrics)
    runner = web.AppRunner(application, shutdown_timeout=0.05)
    async with AsyncExitStack() as stack:
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, LOCALHOST, 0).start()
        worker = a_worker(
            P0,
            address=f"http://{LOCALHOST}:{runner.addresses[0][1]}",
            engine=Engine("v", "c", tensor_parallel=rank_count),
            kv_transfer=f"{LOCALHOST}:{free_ports(rank_count + 1)}",
        )
        for number, rank in enumerate(ranks):
            server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
            rpc.add_KvTransferServicer_to_server(rank, server)
            server.add_insecure_port(rank_address(worker, number))
            await server.start()
            stack.push_async_callback(server.stop, None)
        leaving = Leaving(worker, ranks)
        await stack.enter_async_context(serving_prefixes(worker, leaving, redis_url))
        channel = await stack.enter_async_context(
            grpc.aio.insecure_channel(
                prefixes_address(worker), options=[("grpc.enable_http_proxy", 0)]
            )
        )
        yield Served(engine, ranks, leaving, rpc.PrefixesStub(channel))


def free_ports(count: int) -> int:
    """Return the first of *count* adjacent ports that nobody listens on."""
    for first in range(20_000, 60_000, count):
        try:
            for port in range(first, first + count):
                socket.create_server((LOCALHOST, port)).close()
        except OSError:
            continue
        return first
    raise AssertionError("no free ports")


async def put(url: str, worker: Worker, held: int) -> None:
    """Announce *worker*, which holds the first *held* blocks of the prompt."""
    entry = Rebuild(
        worker_id=worker.worker_id,
        incarnation=Incarnation("1"),
        position=Position(1.0, 0),
        token="t",
        is_first_part=True,
        is_last_part=True,
        degrades=False,
        stored=tuple(("GPU", block) for block in BLOCKS[:held]),
    )
    async with connect(url) as redis:
        await announce(redis, worker, ttl_seconds=60.0)
        await Directory(redis, "local").apply(entry)


async def refusal(call: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call
    return refused.value.code(), refused.value.details() or ""


async def test_a_prompt_is_found_in_the_caches_of_this_workers_revision(valkey: "Valkey") -> None:
    other = a_worker(P1, address="http://127.0.0.1:1")
    async with serving(valkey.url) as served:
        await put(valkey.url, other, held=4)
        await put(valkey.url, msgspec.structs.replace(other, worker_id="x", revision="2"), held=4)
        found = await served.stub.Find(pb.FindRequest(request=PROMPT), timeout=WAIT_SECONDS)

    (share,) = found.shares
    assert (share.worker, share.role, share.tier, share.token_count) == (
        "p-1",
        "prefill",
        "GPU",
        64,
    )
    assert (found.revision, found.token_count, found.block_tokens) == ("1", 70, 16)
    assert list(found.silent) == ["p-0"]


async def test_a_prefix_is_pulled_from_who_holds_most_of_it(valkey: "Valkey") -> None:
    async with serving(valkey.url, rank_count=1) as served:
        await put(valkey.url, a_worker(P1, kv_side_channel="127.0.0.1:5"), held=4)
        reply = await served.stub.Pull(pb.PullRequest(request=PROMPT), timeout=WAIT_SECONDS)

    (asked,) = served.engine.asked
    assert (asked["max_tokens"], asked["model"]) == (1, "m")
    assert set(asked["kv_transfer_params"]) == {"prefix_source"}
    source = asked["kv_transfer_params"]["prefix_source"]
    assert (source["engine_id"], source["port"], source["tokens"]) == ("p-1:1", 5, 64)
    assert not source["follow"]
    assert reply == pb.PullReply(
        source="p-1",
        outcome=pb.PULL_OUTCOME_PULLED,
        pulled_block_count=4,
        cached_token_count=64,
        token_count=70,
        wanted_token_count=64,
    )


@pytest.mark.parametrize(
    ("named", "why"),
    [("", "no other worker of p-0's revision tells"), ("x", "no worker x is ready")],
)
async def test_a_pull_that_cannot_be_is_refused_with_the_reason(
    valkey: "Valkey", named: str, why: str
) -> None:
    async with serving(valkey.url, rank_count=1) as served:
        asked = pb.PullRequest(request=PROMPT, source_worker=named)
        refused = await refusal(served.stub.Pull(asked, timeout=WAIT_SECONDS))

    assert refused[0] is grpc.StatusCode.FAILED_PRECONDITION
    assert why in refused[1]
    assert served.engine.asked == []


async def test_without_redis_nobody_is_known_and_one_that_is_away_is_asked_again(
    valkey: "Valkey",
) -> None:
    find = pb.FindRequest(request=PROMPT)
    async with serving(None) as served:
        without = await refusal(served.stub.Find(find, timeout=WAIT_SECONDS))
    async with serving(valkey.url) as served:
        valkey.kill()
        away = await refusal(served.stub.Find(find, timeout=WAIT_SECONDS))

    assert without[0] is grpc.StatusCode.FAILED_PRECONDITION
    assert away[0] is grpc.StatusCode.UNAVAILABLE


async def test_a_pin_is_kept_by_every_rank_until_it_is_ended() -> None:
    async with serving(None) as served:
        reply = await served.pin()
        kept = [dict(rank.pinned) for rank in served.ranks]
        await served.stub.Unpin(pb.UnpinRequest(request_id="r1"), timeout=WAIT_SECONDS)
        again = await refusal(
            served.stub.Unpin(pb.UnpinRequest(request_id="r1"), timeout=WAIT_SECONDS)
        )

    assert served.engine.asked[0]["kv_transfer_params"]["do_remote_decode"] is True
    assert (reply.request_id, reply.token_count, reply.cached_token_count) == ("r1", 70, 64)
    assert kept == [{"r1": 60.0}, {"r1": 60.0}]
    assert all(rank.pinned == {} for rank in served.ranks)
    assert again == (grpc.StatusCode.NOT_FOUND, "no pin of request r1")


async def test_pins_that_wait_leave_room_for_ending_one_and_for_a_drain() -> None:
    async with serving(None) as served:
        await served.pin()
        served.engine.may_answer.clear()
        pins = [refusal(served.pin()) for _ in range(MAX_CONCURRENT_CALLS)]
        waiting = list(map(asyncio.ensure_future, pins))
        refused = await next(asyncio.as_completed(waiting))
        drained = pb.DrainRequest(limit_seconds=0.0)
        await served.stub.Unpin(pb.UnpinRequest(request_id="r1"), timeout=WAIT_SECONDS)
        await served.stub.Drain(drained, timeout=WAIT_SECONDS)
        served.engine.may_answer.set()

        outcomes = Counter(why for _, why in await asyncio.gather(*waiting))
    assert refused == (grpc.StatusCode.UNAVAILABLE, "8 pulls and pins wait here already")
    assert outcomes == {refused[1]: 8, "the worker drains, and pins nothing any more": 8}


async def test_a_pin_whose_lease_somebody_has_released_can_be_ended() -> None:
    async with serving(None) as served:
        await served.pin()
        served.ranks[0].pinned.clear()
        await served.stub.Unpin(pb.UnpinRequest(request_id="r1"), timeout=WAIT_SECONDS)

    assert all(rank.pinned == {} for rank in served.ranks)


async def test_what_one_rank_does_not_keep_none_keeps() -> None:
    async with serving(None) as served:
        served.ranks[1].lacks_leases = True
        code, why = await refusal(served.pin())

    assert code is grpc.StatusCode.UNAVAILABLE
    assert why.endswith("no lease")
    assert served.ranks[0].pinned == {}
    assert "r1" in served.ranks[0].released


@pytest.mark.parametrize(
    ("request_text", "seconds", "status", "code"),
    [
        (PROMPT, 0.0, 200, grpc.StatusCode.INVALID_ARGUMENT),
        (PROMPT, 1e6, 200, grpc.StatusCode.INVALID_ARGUMENT),
        ("{", 60.0, 200, grpc.StatusCode.INVALID_ARGUMENT),
        (PROMPT, 60.0, 400, grpc.StatusCode.INVALID_ARGUMENT),
        (PROMPT, 60.0, 503, grpc.StatusCode.UNAVAILABLE),
    ],
)
async def test_a_pin_that_cannot_be_says_whose_fault_it_is(
    request_text: str, seconds: float, status: int, code: grpc.StatusCode
) -> None:
    async with serving(None) as served:
        served.engine.status = status
        refused = await refusal(served.pin(seconds, request_text))

    assert refused[0] is code
    assert all(rank.pinned == {} for rank in served.ranks)


async def test_pins_beyond_half_of_the_cache_are_refused() -> None:
    async with serving(None) as served:
        served.engine.prompt_tokens = 300
        await served.pin()
        code, why = await refusal(served.pin())

    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "pins may keep 320 tokens" in why


async def test_a_drain_ends_pins_and_tells_when_nothing_is_left() -> None:
    async with serving(None) as served:
        await served.pin()
        drained = await served.stub.Drain(pb.DrainRequest(limit_seconds=20), timeout=WAIT_SECONDS)
        late = await refusal(served.pin())
        endless = await refusal(
            served.stub.Drain(pb.DrainRequest(limit_seconds=1e6), timeout=WAIT_SECONDS)
        )

    assert drained == pb.DrainReply(idle=True)
    assert all(rank.pinned == {} for rank in served.ranks)
    assert late[0] is grpc.StatusCode.FAILED_PRECONDITION
    assert endless[0] is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_drain_says_what_is_left_at_its_limit() -> None:
    async with serving(None) as served:
        served.ranks[1].pinned["of a reader"] = 1.0
        drained = await served.stub.Drain(pb.DrainRequest(limit_seconds=0.1), timeout=WAIT_SECONDS)

    assert drained == pb.DrainReply(idle=False, lease_count=1)


async def test_a_drain_that_others_began_ends_pins_as_well() -> None:
    async with serving(None) as served:
        await served.pin()
        await served.leaving.drain()
        async with asyncio.timeout(WAIT_SECONDS):
            while any(rank.pinned for rank in served.ranks):
                await asyncio.sleep(0.001)

    assert all(rank.released == ["r1"] for rank in served.ranks)


async def test_the_end_of_a_worker_ends_its_pins() -> None:
    async with serving(None) as served:
        await served.pin()

    assert all(rank.pinned == {} for rank in served.ranks)


async def test_an_engine_with_another_connector_serves_no_prefixes() -> None:
    worker = a_worker(P0, kv_transfer="")

    async with serving_prefixes(worker, Leaving(worker, []), None):
        assert json.loads(msgspec.json.encode(worker))["kv_transfer"] == ""


async def test_a_port_that_is_taken_ends_the_worker_with_its_address() -> None:
    async with serving(None) as served:
        worker = served.leaving.worker
        with pytest.raises(ServiceError, match=prefixes_address(worker)):
            async with serving_prefixes(worker, Leaving(worker, []), None):
                raise AssertionError("served twice")
