"""While leg 1 computes a long prompt, the decode worker takes the blocks that are there already.

It is sent a request that only follows: its engine keeps it waiting, and takes each block into its
prefix cache as soon as it is computed (docs/decisions/015). The request is left when leg 1 has
ended; leg 2 then finds most of the prompt cached, and fetches the rest as always. Whatever goes
wrong here, leg 2 fetches all.
"""

import asyncio
import dataclasses
from types import TracebackType

from twofold_cluster.legs import (
    FOLLOW_LIMIT_SECONDS,
    FOLLOWS_HEADER,
    PrefixSource,
    following_leg,
    prefix_source,
)
from twofold_cluster.worker import Worker
from twofold_router.gateway.parsing import Call
from twofold_router.gateway.resources import Resources
from twofold_router.gateway.verdicts import Final, judge_answer
from twofold_router.http import AnswerTooLargeError, BrokenError, UnreachableError
from twofold_router.metrics import Leg
from twofold_router.placement import Dispatch

LIMIT_SECONDS = FOLLOW_LIMIT_SECONDS - 10.0
"""After which a request that follows is left: the engine would compute it in the end."""


def source_to_follow(dispatch: Dispatch, least_tokens: int) -> PrefixSource | None:
    """Return what the decode worker of *dispatch* can follow; None if it cannot, or if fewer than
    *least_tokens* are to be computed: then all is there in a step or two. 0: never."""
    prefill, decode = dispatch.prefill, dispatch.decode
    if prefill is None or prefill.worker_id == decode.worker_id:
        return None
    uncached_tokens = dispatch.prompt_tokens - dispatch.cached_tokens
    if not least_tokens or uncached_tokens < least_tokens:
        return None
    if not (prefill.kv_side_channel and decode.kv_side_channel):  # they do not show their caches
        return None
    if decode.engine.tensor_parallel % prefill.engine.tensor_parallel:
        return None
    # As many tokens as there are, which the engines know better; what computing them takes does
    # not count.
    return prefix_source(prefill, prefill.max_model_tokens, 1.0, follow=True)


class Following:
    """A context in which the decode worker of a *dispatch* follows *source*."""

    __slots__ = ("_task",)

    def __init__(
        self, resources: Resources, call: Call, decode: Worker, source: PrefixSource
    ) -> None:
        self._task = resources.background.start(_follow(resources, call, decode, source))

    async def __aenter__(self) -> None:
        pass

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])


async def _follow(resources: Resources, call: Call, decode: Worker, source: PrefixSource) -> None:
    body = following_leg(call.two_legged_api, call.fields, source)
    marked = dataclasses.replace(call, headers=[*call.headers, (FOLLOWS_HEADER, b"1")])
    metrics = resources.metrics
    metrics.followed()
    try:
        async with (
            asyncio.timeout(LIMIT_SECONDS),
            resources.upstream.post(decode, marked, body, Leg.FOLLOWING) as answer,
        ):
            raw = await answer.read(resources.settings.max_answer_bytes)
    except TimeoutError:
        metrics.upstream_error(Leg.FOLLOWING, "timeout")
    except UnreachableError:
        resources.desk.suspect(decode)
        metrics.upstream_error(Leg.FOLLOWING, "unreachable")
    except (BrokenError, AnswerTooLargeError):
        metrics.upstream_error(Leg.FOLLOWING, "broken")
    else:
        # Whoever follows is not answered, unless it cannot.
        verdict = judge_answer(answer.status, answer.headers, raw)
        if not isinstance(verdict, Final):  # else leg 1 gets the same answer, and the client
            metrics.upstream_error(Leg.FOLLOWING, verdict.kind)
