"""Frees the blocks of a request that nobody will decode.

Only a decode worker can tell a prefill worker that its blocks were read, so a release is a leg 2
of one token whose answer is thrown away.
"""

import asyncio
import logging

from twofold_cluster.identity import WorkerId
from twofold_cluster.legs import release_leg
from twofold_cluster.worker import Worker
from twofold_router.gateway.parsing import Call
from twofold_router.gateway.prefilling import Prefilled, PrefillOutcome
from twofold_router.gateway.resources import Resources
from twofold_router.http import AnswerTooLargeError, BrokenError, UnreachableError
from twofold_router.metrics import Leg

_log = logging.getLogger(__name__)

PAUSE_SECONDS = 0.5
"""Between two tries: a busy decode worker has room again within some steps."""


async def release_when_over(
    resources: Resources,
    call: Call,
    leg_1: "asyncio.Task[PrefillOutcome | None]",
    decode: Worker,
) -> None:
    """Wait for a leg 1 whose client has gone, then release what it has computed."""
    outcome = await leg_1
    if isinstance(outcome, Prefilled):
        await release(resources, call, outcome, decode)


async def release(
    resources: Resources, call: Call, prefilled: Prefilled, decode: Worker | None
) -> None:
    """Have *decode*, or else another worker, read the blocks of *prefilled*.

    Without success within the settings' bound the lease on the blocks ends them.
    """
    try:
        async with asyncio.timeout(resources.settings.release_timeout_seconds):
            done = await _try_several(resources, call, prefilled, decode)
    except TimeoutError:
        resources.metrics.upstream_error(Leg.RELEASE, "timeout")
        done = False
    resources.metrics.release("released" if done else "release_failed")
    if not done:
        extra = {"worker": prefilled.source.worker_id}
        _log.warning("blocks were not released; their lease has to end", extra=extra)


async def _try_several(
    resources: Resources, call: Call, prefilled: Prefilled, decode: Worker | None
) -> bool:
    avoid: frozenset[WorkerId] = frozenset()
    for attempt in range(resources.settings.max_attempts):
        if attempt:
            await asyncio.sleep(PAUSE_SECONDS)
        worker = decode or resources.desk.partner_of(prefilled.source, call.model, avoid)
        decode = None
        if worker is None:
            avoid = frozenset()  # those that refused may take it after the pause
        elif await _try(resources, call, prefilled, worker):
            return True
        else:
            avoid |= {worker.worker_id}
    return False


async def _try(resources: Resources, call: Call, prefilled: Prefilled, worker: Worker) -> bool:
    body = release_leg(call.two_legged_api, call.fields, prefilled.params)
    metrics = resources.metrics
    try:
        async with resources.upstream.post(worker, call, body, Leg.RELEASE) as answer:
            await answer.read(resources.settings.max_answer_bytes)
    except UnreachableError:
        resources.desk.suspect(worker)
        metrics.upstream_error(Leg.RELEASE, "unreachable")
        return False
    except (BrokenError, AnswerTooLargeError):
        metrics.upstream_error(Leg.RELEASE, "broken")
        return False
    if answer.status >= 300:
        metrics.upstream_error(Leg.RELEASE, "refused")
        return False
    return True
