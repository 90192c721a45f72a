"""A worker's prefixes over gRPC."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import grpc

from twofold_cluster.rpc import kvtransfer_pb2 as pb
from twofold_cluster.rpc import kvtransfer_pb2_grpc as rpc
from twofold_cluster.worker import Worker
from twofold_engine.prefixes import engine
from twofold_engine.prefixes.draining import MAX_DRAIN_SECONDS, Leaving, drain
from twofold_engine.prefixes.errors import (
    InvalidPromptError,
    NoRoomError,
    NotAnsweredError,
    PrefixError,
    UnknownPinError,
)
from twofold_engine.prefixes.finding import Share
from twofold_engine.prefixes.looking_up import RedisLookup
from twofold_engine.prefixes.pinning import Pins
from twofold_engine.prefixes.places import Places
from twofold_engine.prefixes.prompts import Prompt, read_prompt
from twofold_engine.prefixes.pulling import Puller
from twofold_engine.prefixes.ranks import Ranks
from twofold_kvtransfer.leases import MAX_PIN_SECONDS
from twofold_kvtransfer.service import MAX_CONCURRENT_CALLS

CALL_LIMIT_SECONDS = engine.ANSWER_LIMIT_SECONDS + MAX_DRAIN_SECONDS
"""Of any call. A pull and a pin wait for those before them, each for as long as its prompt."""

MAX_WAITING = MAX_CONCURRENT_CALLS // 2
"""Pulls and pins together, each of which may take minutes. The other calls are for ending a pin, a
drain, and what is quick."""

T = TypeVar("T")

_CODES = (
    (InvalidPromptError, grpc.StatusCode.INVALID_ARGUMENT),
    (UnknownPinError, grpc.StatusCode.NOT_FOUND),
    (NoRoomError, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (NotAnsweredError, grpc.StatusCode.UNAVAILABLE),
    (PrefixError, grpc.StatusCode.FAILED_PRECONDITION),
)
"""The first that fits counts."""


class PrefixesService(rpc.PrefixesServicer):
    """Translates; what is done is its parts'."""

    def __init__(
        self,
        own: Callable[[], Worker],
        leaving: Leaving,
        lookup: RedisLookup,
        pins: Pins,
        ranks: Ranks,
    ) -> None:
        self._own = own
        self._leaving = leaving
        self._lookup = lookup
        self._puller = Puller(own, lookup)
        self._pins = pins
        self._ranks = ranks
        self._places = Places(MAX_WAITING)

    async def Find(  # noqa: N802  gRPC's name
        self, request: pb.FindRequest, context: Any
    ) -> pb.FindReply:
        return await _answered(self._find(request), context)

    async def Pull(  # noqa: N802
        self, request: pb.PullRequest, context: Any
    ) -> pb.PullReply:
        return await _answered(self._pull(request), context)

    async def Pin(  # noqa: N802
        self, request: pb.PinRequest, context: Any
    ) -> pb.PinReply:
        if not 0 < request.seconds <= MAX_PIN_SECONDS:
            message = f"seconds must be more than 0, and at most {MAX_PIN_SECONDS:.0f}"
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, message)
        return await _answered(self._pin(request), context)

    async def Unpin(  # noqa: N802
        self, request: pb.UnpinRequest, context: Any
    ) -> pb.UnpinReply:
        await _answered(self._pins.unpin(request.request_id), context)
        return pb.UnpinReply()

    async def Drain(  # noqa: N802
        self, request: pb.DrainRequest, context: Any
    ) -> pb.DrainReply:
        if not 0 <= request.limit_seconds <= MAX_DRAIN_SECONDS:
            message = f"limit_seconds must be 0 to {MAX_DRAIN_SECONDS:.0f}"
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, message)
        return await _answered(self._drain(request), context)

    async def _find(self, request: pb.FindRequest) -> pb.FindReply:
        prompt = self._read(request.request)
        found = await self._lookup.find_in_own_revision(prompt.body)
        return pb.FindReply(
            revision=found.revision,
            token_count=found.token_count,
            block_tokens=found.block_tokens,
            shares=map(_share, found.shares),
            silent=found.silent,
        )

    async def _pull(self, request: pb.PullRequest) -> pb.PullReply:
        prompt = self._read(request.request)
        with self._places.take():
            report = await self._puller.pull(prompt, request.source_worker or None)
        return pb.PullReply(
            source=report.source,
            outcome=pull_outcome(report.outcome),
            pulled_block_count=report.pulled_block_count,
            cached_token_count=report.cached_token_count,
            token_count=report.token_count,
            wanted_token_count=report.wanted_token_count,
        )

    async def _pin(self, request: pb.PinRequest) -> pb.PinReply:
        prompt = self._read(request.request)
        with self._places.take():
            pin = await self._pins.pin(prompt, request.seconds)
        return pb.PinReply(
            request_id=pin.request_id,
            token_count=pin.token_count,
            cached_token_count=pin.cached_token_count,
            left_seconds=request.seconds,
        )

    async def _drain(self, request: pb.DrainRequest) -> pb.DrainReply:
        left = await drain(
            self._leaving,
            self._pins.close,
            self._ranks,
            request.limit_seconds,
            clock=time.monotonic,
        )
        return pb.DrainReply(
            idle=left.idle, in_flight_count=left.in_flight_count, lease_count=left.lease_count
        )

    def _read(self, text: str) -> Prompt:
        return read_prompt(text, model=self._own().model)


def pull_outcome(name: str) -> pb.PullOutcome.ValueType:
    """Return the outcome called *name*; unspecified, if it is one that the protocol lacks."""
    known = pb.PullOutcome.DESCRIPTOR.values_by_name.get(f"PULL_OUTCOME_{name.upper()}")
    return pb.PULL_OUTCOME_UNSPECIFIED if known is None else pb.PullOutcome.ValueType(known.number)


async def _answered(work: Coroutine[Any, Any, T], context: Any) -> T:
    """Return what comes of *work*; an error that is the caller's to know ends the call with it."""
    try:
        async with asyncio.timeout(CALL_LIMIT_SECONDS):
            return await work
    except TimeoutError:
        await context.abort(grpc.StatusCode.UNAVAILABLE, "others were served before")
        raise
    except PrefixError as error:
        code = next(code for kind, code in _CODES if isinstance(error, kind))
        await context.abort(code, str(error))
        raise


def _share(share: Share) -> pb.Share:
    return pb.Share(
        worker=share.worker,
        role=share.role,
        tier=share.tier,
        token_count=share.token_count,
        degraded=share.degraded,
    )
