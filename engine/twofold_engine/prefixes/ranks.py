"""The ranks of a worker's own engine, all asked at once for the same lease."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import grpc

from twofold_cluster.rpc import kvtransfer_pb2 as pb
from twofold_cluster.rpc.kvtransfer_pb2_grpc import KvTransferStub
from twofold_cluster.worker import Worker
from twofold_engine.prefixes.addresses import rank_address
from twofold_engine.prefixes.errors import NotAnsweredError

RANK_LIMIT_SECONDS = 10.0
"""A rank answers in a thread beside its engine's, which may hold Python's lock for a while."""

_OPTIONS = (("grpc.enable_http_proxy", 0),)
"""A proxy's loopback is not ours."""


class Ranks(Protocol):
    """Keeps and ends leases."""

    async def pin(self, request_id: str, seconds: float) -> None:
        """Keep the lease of *request_id* for *seconds* at least.

        Raises:
            NotAnsweredError: a rank does not answer, or does not have the lease; others keep it.
        """

    async def release(self, request_id: str) -> None:
        """End the lease of *request_id*; one that has ended already is no error.

        Raises:
            NotAnsweredError: a rank does not answer.
        """

    async def lease_count(self) -> int:
        """Return how many leases there are, promised or held, at the rank that has most.

        Raises:
            NotAnsweredError: a rank does not answer.
        """


class GrpcRanks:
    """Asks each rank at its own port."""

    def __init__(self, own: Callable[[], Worker]) -> None:
        self._own = own

    async def pin(self, request_id: str, seconds: float) -> None:
        request = pb.PinLeaseRequest(request_id=request_id, seconds=seconds)
        await self._ask(lambda stub: stub.Pin(request, timeout=RANK_LIMIT_SECONDS))

    async def release(self, request_id: str) -> None:
        request = pb.ReleaseRequest(request_id=request_id)

        async def release(stub: Any) -> None:
            try:
                await stub.Release(request, timeout=RANK_LIMIT_SECONDS)
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.NOT_FOUND:
                    raise

        await self._ask(release)

    async def lease_count(self) -> int:
        replies = await self._ask(
            lambda stub: stub.Leases(pb.LeasesRequest(), timeout=RANK_LIMIT_SECONDS)
        )
        counts: list[int] = [reply.promised_count + reply.held_count for reply in replies]
        return max(counts)

    async def _ask(self, question: Callable[[Any], Awaitable[Any]]) -> list[Any]:
        """Put *question* to all ranks, and return their answers in order.

        Raises:
            NotAnsweredError: one does not answer; the others have been asked all the same.
        """
        own = self._own()
        addresses = [rank_address(own, rank) for rank in range(own.engine.tensor_parallel)]
        answers = await asyncio.gather(
            *(_ask_at(address, question) for address in addresses), return_exceptions=True
        )
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
        return answers


async def _ask_at(address: str, question: Callable[[Any], Awaitable[Any]]) -> Any:
    try:
        async with grpc.aio.insecure_channel(address, options=_OPTIONS) as channel:
            return await question(KvTransferStub(channel))
    except grpc.aio.AioRpcError as error:
        why = error.details() or error.code().name
        raise NotAnsweredError(f"the engine's rank at {address}: {why}") from error
