"""What an engine's error means for the request that it answers."""

import json
from typing import Any

import pytest

from twofold_cluster.errors import Fault, RequestError, TwofoldError
from twofold_router.gateway.verdicts import Failed, Final, Refused, judge_answer, judge_error
from twofold_router.http import AnswerTooLargeError, BrokenError, UnreachableError

OF_VLLM = b'{"error": {"message": "as vLLM says", "type": "Bad", "param": "x", "code": 400}}'

ANSWERS = [
    (302, Failed, "failed"),
    (400, Final, "rejected"),
    (404, Final, "rejected"),
    (413, Final, "rejected"),
    (422, Final, "rejected"),
    (429, Refused, "refused"),
    (500, Failed, "failed"),
    (502, Failed, "failed"),
    (503, Refused, "refused"),
    (504, Failed, "failed"),
]


@pytest.mark.parametrize(("status", "kind_of_verdict", "kind"), ANSWERS)
def test_a_status_says_whether_another_worker_may_do_better(
    status: int, kind_of_verdict: type[Any], kind: str
) -> None:
    verdict = judge_answer(status, {}, OF_VLLM)

    assert isinstance(verdict, kind_of_verdict)
    assert verdict.kind == kind
    assert verdict.answer.status == (status if status >= 400 else 502)


@pytest.mark.parametrize("status", [401, 403, 407])
def test_a_worker_that_does_not_let_the_router_in_is_no_fault_of_the_client(status: int) -> None:
    verdict = judge_answer(status, {}, OF_VLLM)

    assert isinstance(verdict, Refused)
    assert verdict.answer.status == 502
    assert str(status) in json.loads(verdict.answer.body)["error"]["message"]


def test_an_error_of_vllm_becomes_one_of_openai() -> None:
    error = json.loads(judge_answer(400, {}, OF_VLLM).answer.body)["error"]

    assert error["message"] == "as vLLM says"
    assert error["param"] == "x"
    assert error["code"] == "invalid_request"


@pytest.mark.parametrize("fault", [Fault.PREFILL_BUSY, Fault.DECODE_BUSY, Fault.DRAINING])
def test_an_error_of_a_worker_of_ours_stays_as_it_is(fault: Fault) -> None:
    body = RequestError(fault, "busy").body()

    assert judge_answer(fault.status, {}, body).answer.body == body


def test_the_time_to_come_back_is_kept_and_other_headers_are_not() -> None:
    headers = {b"retry-after": b"7", b"server": b"uvicorn", b"set-cookie": b"a=b"}
    answer = judge_answer(429, headers, b"").answer

    assert dict(answer.headers) == {b"content-type": b"application/json", b"retry-after": b"7"}


@pytest.mark.parametrize("body", [b"", b"oops", b"\xff", b"[]", b'{"error": 1}', b"null"])
def test_any_body_becomes_an_error_of_openai(body: bytes) -> None:
    error = json.loads(judge_answer(500, {}, body).answer.body)["error"]

    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]


ERRORS = [
    (UnreachableError("x"), Refused, "unreachable"),
    (BrokenError("x"), Failed, "broken"),
    (AnswerTooLargeError("x"), Final, "rejected"),
]


@pytest.mark.parametrize(("error", "kind_of_verdict", "kind"), ERRORS)
def test_an_error_of_the_connection_says_whether_the_worker_has_begun(
    error: TwofoldError, kind_of_verdict: type[Any], kind: str
) -> None:
    verdict = judge_error(error)

    assert isinstance(verdict, kind_of_verdict)
    assert (verdict.kind, verdict.answer.status) == (kind, 502)


def test_an_error_that_nobody_expects_is_a_bug() -> None:
    with pytest.raises(AssertionError):
        judge_error(TwofoldError("x"))
