"""Leg 1: the prompt is computed, and its blocks are kept for leg 2."""

from dataclasses import dataclass

import msgspec

from twofold_cluster.legs import (
    InvalidTransferParamsError,
    PrefixSource,
    prefill_leg,
    pulled_prefix,
    transfer_params,
)
from twofold_cluster.worker import Worker
from twofold_router.gateway.following import Following, source_to_follow
from twofold_router.gateway.parsing import Call
from twofold_router.gateway.reply import WholeAnswer
from twofold_router.gateway.resources import Resources
from twofold_router.gateway.tickets import Ticket
from twofold_router.gateway.usage import usage_of
from twofold_router.gateway.verdicts import Final, Refused, judge_answer
from twofold_router.http import AnswerTooLargeError, BrokenError, UnreachableError
from twofold_router.metrics import Leg
from twofold_router.placement import Dispatch, PromptUsage, Reason


@dataclass(frozen=True, slots=True)
class Prefilled:
    """The blocks are at *source*, and *params* say where."""

    source: Worker
    params: msgspec.Raw
    usage: PromptUsage | None


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
    resources: Resources, call: Call, ticket: Ticket, dispatch: Dispatch
) -> PrefillOutcome:
    """Send leg 1 to the prefill worker of *dispatch*, and tell the placement when it is over.

    Runs to its end also when the client has gone, so every way out is a value.
    """
    metrics = resources.metrics
    worker = dispatch.prefill
    assert worker is not None
    before = resources.doubts.signs_of(worker)
    ends_at = resources.desk.now() + resources.settings.leg_1_timeout_seconds
    deadline = resources.deadlines.at(ends_at, worker.worker_id, outlasts=True)
    try:
        with deadline:
            outcome = await _ask_followed(resources, call, worker, dispatch)
    except UnreachableError:
        metrics.upstream_error(Leg.PREFILL, "unreachable")
        resources.desk.suspect(worker)
    except BrokenError:
        metrics.upstream_error(Leg.PREFILL, "broken")
    except TimeoutError:
        metrics.upstream_error(Leg.PREFILL, "timeout")
        resources.doubts.doubt(call, worker, before)
    except (InvalidTransferParamsError, AnswerTooLargeError):
        metrics.upstream_error(Leg.PREFILL, "invalid-params")
        return NotPrefilled(Reason.INVALID_PARAMS)
    else:
        resources.doubts.hear(worker)
        if isinstance(outcome, Prefilled):
            ticket.prefilled(outcome.usage)
            if outcome.usage is not None:
                metrics.prompt(dispatch, outcome.usage)
        return outcome
    return NotPrefilled(Reason.PREFILL_FAILED)


async def _ask_followed(
    resources: Resources, call: Call, worker: Worker, dispatch: Dispatch
) -> PrefillOutcome:
    source = source_to_follow(dispatch, resources.settings.follow_tokens)
    if source is None:
        return await _ask(resources, call, worker, dispatch.prefix_source)
    async with Following(resources, call, dispatch.decode, source):
        return await _ask(resources, call, worker, dispatch.prefix_source)


async def _ask(
    resources: Resources, call: Call, worker: Worker, source: PrefixSource | None
) -> PrefillOutcome:
    body = prefill_leg(call.two_legged_api, call.fields, source)
    if source is not None:
        resources.metrics.prefix_source()
    async with resources.upstream.post(worker, call, body, Leg.PREFILL) as response:
        raw = await response.read(resources.settings.max_answer_bytes)
    if response.status >= 300:
        return _judge(resources, response.status, response.headers, raw)
    params = transfer_params(raw)
    usage = usage_of(raw)
    prompt = usage.prompt if usage else None
    if prompt is not None and source is not None:
        prompt = _with_pulled(prompt, params)
    return Prefilled(worker, params, prompt)


def _with_pulled(prompt: PromptUsage, params: msgspec.Raw) -> PromptUsage:
    """Return *prompt* with what was fetched of it, as *params* say."""
    pulled = pulled_prefix(params)
    if pulled is None:
        return prompt
    tokens = min(pulled.tokens, prompt.prompt_tokens)
    return msgspec.structs.replace(prompt, pulled_tokens=tokens, pulled_seconds=pulled.seconds)


def _judge(
    resources: Resources, status: int, headers: dict[bytes, bytes], raw: bytes
) -> PrefillOutcome:
    verdict = judge_answer(status, headers, raw)
    if isinstance(verdict, Final):
        return Rejected(verdict.answer)
    resources.metrics.upstream_error(Leg.PREFILL, verdict.kind)
    refused = isinstance(verdict, Refused)
    return NotPrefilled(Reason.PREFILL_REFUSED if refused else Reason.PREFILL_FAILED)
