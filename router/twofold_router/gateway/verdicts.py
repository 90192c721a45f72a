"""What an engine's answer of status 300 and more means for the request."""

from dataclasses import dataclass

from twofold_cluster.errors import (
    Fault,
    RequestError,
    TwofoldError,
    engine_error_code,
    translate_engine_error,
)
from twofold_router.gateway.reply import JSON_HEADER, WholeAnswer, answer_of
from twofold_router.http import AnswerTooLargeError, BrokenError, UnreachableError


@dataclass(frozen=True, slots=True)
class Final:
    """The answer is the client's: nobody else would answer better."""

    answer: WholeAnswer
    kind: str = "rejected"


@dataclass(frozen=True, slots=True)
class Refused:
    """The worker did not begin: another one may. *answer* is for when there is none."""

    answer: WholeAnswer
    kind: str


@dataclass(frozen=True, slots=True)
class Failed:
    """The worker may have begun, and did not end. *answer* is for when nobody else can."""

    answer: WholeAnswer
    kind: str


@dataclass(frozen=True, slots=True)
class Cut:
    """The stream broke after it had begun. *sent* is what the client has, None if it was too much
    to be kept."""

    sent: bytes | None
    message: str
    kind: str = "cut"


Verdict = Final | Refused | Failed
"""Of an answer that has not begun."""


def judge_answer(status: int, headers: dict[bytes, bytes], body: bytes) -> Verdict:
    """Judge an engine's answer that is no result."""
    if status < 400:
        error = RequestError(Fault.ENGINE_FAILED, f"the engine answered {status}")
        return Failed(answer_of(error), "failed")
    if status in _NOT_LET_IN:
        message = f"the engine does not let the router in: it answered {status}"
        return Refused(answer_of(RequestError(Fault.ENGINE_FAILED, message)), "unauthorized")
    kept = [JSON_HEADER]
    if b"retry-after" in headers:
        kept.append((b"retry-after", headers[b"retry-after"]))
    answer = WholeAnswer(status, kept, _openai_error(status, body))
    if status in (429, 503):
        return Refused(answer, "refused")
    return Failed(answer, "failed") if status >= 500 else Final(answer)


def judge_error(error: TwofoldError) -> Verdict:
    """Judge what went wrong on the way to a worker or back."""
    answer = answer_of(RequestError(Fault.ENGINE_FAILED, str(error)))
    match error:
        case UnreachableError():
            return Refused(answer, "unreachable")
        case BrokenError():
            return Failed(answer, "broken")
        case AnswerTooLargeError():
            return Final(answer)
        case _:
            raise AssertionError(error)


def judge_silence(seconds: float) -> Failed:
    """Judge a worker whose stream has not begun after *seconds*."""
    message = f"the engine sent nothing within {seconds:.0f} seconds"
    return Failed(answer_of(RequestError(Fault.DEADLINE_EXCEEDED, message)), "timeout")


def _openai_error(status: int, body: bytes) -> bytes:
    # A worker of ours answers in OpenAI's shape already, with a code that says more than a status.
    if engine_error_code(body) in _OUR_CODES:
        return body
    return translate_engine_error(status, body)


_NOT_LET_IN = frozenset((401, 403, 407))
"""A client's key is checked here and not sent on: this is between the router and the engine."""

_OUR_CODES = frozenset(
    fault.code for fault in (Fault.PREFILL_BUSY, Fault.DECODE_BUSY, Fault.DRAINING)
)
