"""Requests that leave no KV cache behind: any worker of the model answers them."""

import random
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from twofold_cluster.errors import Fault, RequestError
from twofold_cluster.identity import WorkerId
from twofold_cluster.legs import local_leg
from twofold_cluster.worker import Worker, WorkerState
from twofold_router.gateway.parsing import Call
from twofold_router.gateway.reply import WholeAnswer, relayed_headers
from twofold_router.gateway.resources import Resources
from twofold_router.gateway.verdicts import Final, Verdict, judge_answer, judge_error
from twofold_router.http import AnswerTooLargeError, BrokenError, UnreachableError
from twofold_router.metrics import Leg

METADATA = b"metadata"
"""The header in which vLLM describes embeddings that it sends as bytes, usage included
(pooling/utils.py, ``build_pooling_bytes_streaming_response``)."""


async def pass_on(resources: Resources, call: Call) -> WholeAnswer:
    """Have a worker answer *call*; the next one if it cannot.

    Raises:
        RequestError: there is none, or its time is over.
    """
    seconds = resources.settings.request_timeout_seconds
    deadline = resources.deadlines.at(call.arrived_at + seconds)
    try:
        with deadline:
            return await _ask_several(resources, call)
    except TimeoutError as timeout:
        if not deadline.expired:
            raise
        raise resources.deadlines.error(seconds) from timeout


async def _ask_several(resources: Resources, call: Call) -> WholeAnswer:
    avoid: set[WorkerId] = set()
    verdict: Verdict | None = None
    for _ in range(resources.settings.max_attempts):
        worker = _least_busy(resources, call.model, avoid)
        if worker is None:
            break
        with _counted(resources.passed_on, worker.worker_id):
            answer = await _ask(resources, call, worker)
        if isinstance(answer, WholeAnswer):
            return answer
        resources.metrics.upstream_error(Leg.PASSED_ON, answer.kind)
        verdict = answer
        if isinstance(answer, Final):
            break
        avoid.add(worker.worker_id)
    if verdict is not None:
        return verdict.answer
    message = f"no worker is ready for {call.model}"
    raise RequestError(Fault.NO_WORKER, message, retry_after_seconds=1)


async def _ask(resources: Resources, call: Call, worker: Worker) -> WholeAnswer | Verdict:
    body = local_leg(call.fields)
    try:
        async with resources.upstream.post(worker, call, body, Leg.PASSED_ON) as response:
            raw = await response.read(resources.settings.max_answer_bytes)
    except (UnreachableError, BrokenError, AnswerTooLargeError) as error:
        if isinstance(error, UnreachableError):
            resources.desk.suspect(worker)
        return judge_error(error)
    if response.status >= 300:
        return judge_answer(response.status, response.headers, raw)
    headers = relayed_headers(response.headers)
    if METADATA in response.headers:
        headers.append((METADATA, response.headers[METADATA]))
    return WholeAnswer(response.status, headers, raw)


def _least_busy(resources: Resources, model: str, avoid: set[WorkerId]) -> Worker | None:
    """Return the worker with the fewest requests by its last report and by our own count, which
    is newer; a suspect only where there is no other."""
    desk, passed_on = resources.desk, resources.passed_on

    def burden(worker: Worker) -> tuple[bool, int]:
        load = worker.load
        count = load.running_count + load.waiting_count + passed_on[worker.worker_id]
        return desk.is_suspect(worker), count

    burdens = [
        (burden(worker), worker)
        for worker in desk.workers
        if model in worker.names
        and worker.state is WorkerState.READY
        and worker.worker_id not in avoid
    ]
    if not burdens:
        return None
    least = min(found for found, _ in burdens)
    return random.choice(  # noqa: S311 - spreads load, guards nothing
        [worker for found, worker in burdens if found == least]
    )


@contextmanager
def _counted(counts: Counter[WorkerId], worker_id: WorkerId) -> Iterator[None]:
    counts[worker_id] += 1
    try:
        yield
    finally:
        counts[worker_id] -= 1
        if not counts[worker_id]:
            del counts[worker_id]
