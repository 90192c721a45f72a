"""Leg 1: the prompt is computed, and its blocks are kept for leg 2."""

import asyncio
from dataclasses import dataclass

import msgspec

from twofold_cluster.legs import Body, InvalidTransferParamsError, prefill_leg, transfer_params
from twofold_cluster.worker import Worker
from twofold_router.gateway.parsing import Call
from twofold_router.gateway.reply import WholeAnswer
from twofold_router.gateway.resources import Resources
from twofold_router.gateway.tickets import Ticket
from twofold_router.gateway.upstream import (
    Answer,
    AnswerTooLargeError,
    BrokenError,
    UnreachableError,
)
from twofold_router.gateway.verdicts import Final, Refused, judge_answer
from twofold_router.metrics import Leg
from twofold_router.placement import Reason


@dataclass(frozen=True, slots=True)
class Prefilled:
    """The blocks are at *source*, and *params* say where."""

    source: Worker
    params: Body


@dataclass(frozen=True, slots=True)
class Rejected:
    """The engine does not take the request: its answer is the client's."""

    answer: WholeAnswer


@dataclass(frozen=True, slots=True)
class NotPrefilled:
    """The worker has not prefilled; another one might, unless *reason* is about the protocol."""

    reason: Reason


PrefillOutcome = Prefilled | Rejected | NotPrefilled


async def prefill(
    resources: Resources, call: Call, ticket: Ticket, worker: Worker
) -> PrefillOutcome:
    """Send leg 1 to *worker*, and give its prefill place back at the end of it.

    Runs to its end also when the client has gone, so every way out is a value.
    """
    metrics = resources.metrics
    try:
        with metrics.leg(Leg.PREFILL):
            async with asyncio.timeout(resources.settings.leg_1_timeout_seconds):
                return await _ask(resources, call, worker)
    except UnreachableError:
        metrics.upstream_error(Leg.PREFILL, "unreachable")
        resources.dispatcher.suspect(worker)
    except BrokenError:
        metrics.upstream_error(Leg.PREFILL, "broken")
    except TimeoutError:
        metrics.upstream_error(Leg.PREFILL, "timeout")
    except (InvalidTransferParamsError, AnswerTooLargeError):
        metrics.upstream_error(Leg.PREFILL, "invalid-params")
        return NotPrefilled(Reason.INVALID_PARAMS)
    finally:
        ticket.prefilled()
    return NotPrefilled(Reason.PREFILL_FAILED)


async def _ask(resources: Resources, call: Call, worker: Worker) -> PrefillOutcome:
    body = prefill_leg(call.api, call.body)
    async with resources.upstream.post(worker, call.api, body, call.request_id) as answer:
        raw = await answer.read(resources.settings.max_answer_bytes)
    if answer.status >= 300:
        return _judge(resources, answer, raw)
    try:
        decoded = msgspec.json.decode(raw)
    except msgspec.DecodeError as error:
        raise InvalidTransferParamsError("the answer is no JSON") from error
    if not isinstance(decoded, dict):
        raise InvalidTransferParamsError("the answer is no JSON object")
    return Prefilled(worker, transfer_params(decoded))


def _judge(resources: Resources, answer: Answer, raw: bytes) -> PrefillOutcome:
    verdict = judge_answer(answer.status, answer.headers, raw)
    if isinstance(verdict, Final):
        return Rejected(verdict.answer)
    resources.metrics.upstream_error(Leg.PREFILL, verdict.kind)
    refused = isinstance(verdict, Refused)
    return NotPrefilled(Reason.PREFILL_REFUSED if refused else Reason.PREFILL_FAILED)
