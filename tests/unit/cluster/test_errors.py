import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twofold_cluster.errors import (
    Fault,
    RequestError,
    engine_error_code,
    engine_error_status,
    error_events,
    translate_engine_error,
)

TOO_LONG_TO_RENDER = (
    "This model's maximum context length is 2048 tokens. However, you requested 9 output tokens "
    "and your prompt contains at least 2040 input tokens."
)
TOO_LONG = (
    TOO_LONG_TO_RENDER,
    (
        "This model's maximum context length is 2048 tokens. However, your prompt contains 90000 "
        "characters (more than 81920 characters, which is the upper bound for 2048 input tokens). "
        "Please reduce the length of the input prompt."
    ),
    "Input length (3000) exceeds model's maximum context length (2048).",
    (
        "The decoder prompt (length 3000) is longer than the maximum model length of 2048. "
        "Make sure that `max_model_len` is no smaller than the number of text tokens."
    ),
    (
        "The decoder prompt (length 2048) plus the number of requested output tokens (at least 1) "
        "is longer than the maximum model length of 2048."
    ),
    "The engine prompt length 2048 exceeds the max_model_len 2048. Please reduce prompt.",
    (
        "max_tokens=4096 cannot be greater than max_model_len=2048. Please request fewer output "
        "tokens."
    ),
)
TRUNCATED_TO_TOO_MUCH = (
    "truncate_prompt_tokens=4096 cannot be greater than max_model_len = 2048. Please request a "
    "smaller truncation size."
)

statuses = st.integers(min_value=400, max_value=599)
texts = st.text(max_size=20)
engine_bodies = st.one_of(
    st.binary(max_size=40),
    texts.map(str.encode),
    st.recursive(
        st.none() | st.integers() | texts,
        lambda inner: (
            st.lists(inner, max_size=2)
            | st.dictionaries(
                st.sampled_from(["error", "message", "detail", "param", "code", "object"]), inner
            )
        ),
        max_leaves=6,
    ).map(msgspec.json.encode),
)


@pytest.mark.parametrize("fault", list(Fault))
def test_every_fault_is_an_error_in_the_shape_of_openai(fault: Fault) -> None:
    error = RequestError(fault, "what is wrong", param="prompt")

    assert msgspec.json.decode(error.body()) == {
        "error": {
            "message": "what is wrong",
            "type": fault.type,
            "param": "prompt",
            "code": fault.code,
        }
    }
    assert isinstance(fault.code, str)
    assert 400 <= fault.status < 600


def test_no_two_faults_share_a_code() -> None:
    codes = [fault.code for fault in Fault.__members__.values()]  # equal rows would be one fault

    assert len(set(codes)) == len(codes)


def test_an_integer_code_of_the_engine_becomes_a_string() -> None:
    body = b'{"error":{"message":"bad n","type":"BadRequestError","param":"n","code":400}}'  # vLLM

    assert _translated(400, body) == {
        "message": "bad n",
        "type": "invalid_request_error",
        "param": "n",
        "code": "invalid_request",
    }


@pytest.mark.parametrize(
    "body",
    [
        b'{"detail":"no such model"}',
        b'{"object":"error","message":"no such model","type":"NotFoundError","code":404}',
        b'{"error":"no such model"}',
        b'{"error":{"message":null,"detail":"no such model"}}',
        b"no such model\n",
    ],
)
def test_the_message_is_kept_whatever_shape_it_came_in(body: bytes) -> None:
    assert _translated(404, body) == {
        "message": "no such model",
        "type": "not_found_error",
        "param": None,
        "code": "model_not_found",
    }


@pytest.mark.parametrize("body", [b'{"detail":"Not Found"}', b"Not Found"])
def test_a_path_that_an_engine_lacks_is_no_model_that_it_lacks(body: bytes) -> None:
    error = _translated(404, body)

    assert error["code"] == "not_found"
    assert error["message"] == "this model does not offer that API"


def test_another_thing_that_an_engine_lacks_is_no_model_either() -> None:
    said = {"message": "Response with id 'r' not found.", "param": "response_id", "code": 404}
    error = _translated(404, msgspec.json.encode({"error": said}))

    assert (error["code"], error["param"]) == ("not_found", "response_id")
    assert error["message"] == "Response with id 'r' not found."


@pytest.mark.parametrize("body", [b'{"error": "\xff"}', b"[" * 100_000])
def test_a_body_that_cannot_be_read_is_a_message(body: bytes) -> None:
    assert engine_error_code(body) is None
    assert engine_error_status(body) is None
    assert _translated(500, body)["message"] == body[:1000].decode(errors="replace")


@pytest.mark.parametrize(
    ("error", "status"),
    [
        ({"code": 400}, 400),
        ({"code": 599}, 599),
        ({"code": 200}, None),
        ({"code": "engine_failed"}, None),
        ({}, None),
        ("no", None),
    ],
)
def test_the_status_that_an_engine_names_is_read(error: object, status: int | None) -> None:
    assert engine_error_status(msgspec.json.encode({"error": error})) == status


@pytest.mark.parametrize(
    "body", [b"", b"  ", b"[]", b"17", b"null", b"{}", b'{"error":null}', b'{"error":[]}']
)
def test_an_error_without_a_message_says_at_least_its_status(body: bytes) -> None:
    assert _translated(500, body)["message"] == "the engine answered 500"


@pytest.mark.parametrize("message", TOO_LONG)
def test_a_request_that_is_too_long_has_a_code_of_its_own(message: str) -> None:
    body = msgspec.json.encode({"error": {"message": message, "code": 400}})

    assert _translated(400, body)["code"] == "context_length_exceeded"


def test_a_truncation_to_more_than_the_context_is_no_request_that_is_too_long() -> None:
    body = msgspec.json.encode({"error": {"message": TRUNCATED_TO_TOO_MUCH, "code": 400}})

    assert _translated(400, body)["code"] == "invalid_request"


def test_an_engine_that_fails_while_it_speaks_of_context_length_has_failed() -> None:
    body = msgspec.json.encode({"error": {"message": TOO_LONG_TO_RENDER, "code": 500}})

    assert _translated(500, body)["code"] == "engine_failed"


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (422, "invalid_request"),
        (429, "rate_limit_exceeded"),
        (500, "engine_failed"),
        (503, "no_worker"),
        (504, "deadline_exceeded"),
    ],
)
def test_the_status_decides_the_code(status: int, code: str) -> None:
    assert _translated(status, b"no")["code"] == code


def test_a_plain_text_error_is_cut() -> None:
    message = _translated(500, b"x" * 100_000)["message"]

    assert message == "x" * 1000


@given(status=statuses, body=engine_bodies)
def test_whatever_an_engine_says_a_client_is_told_in_one_shape(status: int, body: bytes) -> None:
    error = _translated(status, body)

    assert error.keys() == {"message", "type", "param", "code"}
    assert all(isinstance(error[name], str) for name in ("message", "type", "code"))
    assert error["param"] is None or isinstance(error["param"], str)
    assert error["message"]


@given(status=statuses, body=engine_bodies)
def test_an_error_is_never_wrapped_in_an_error(status: int, body: bytes) -> None:
    once = translate_engine_error(status, body)

    twice = translate_engine_error(status, once)

    assert twice == once


@pytest.mark.parametrize("fault", list(Fault))
def test_the_code_of_our_own_errors_is_read_back(fault: Fault) -> None:
    assert engine_error_code(RequestError(fault, "no").body()) == fault.code


@pytest.mark.parametrize(
    "body", [b"", b"not json", b"[]", b"{}", b'{"error":"no"}', b'{"error":{"code":400}}']
)
def test_what_is_no_error_of_ours_has_no_code(body: bytes) -> None:
    assert engine_error_code(body) is None


def test_an_error_ends_a_stream() -> None:
    body = RequestError(Fault.ENGINE_FAILED, "it died").body()

    first, done, rest = error_events(body).split(b"\n\n")

    assert first == b"data: " + body
    assert (done, rest) == (b"data: [DONE]", b"")


def _translated(status: int, body: bytes) -> dict[str, object]:
    answer: dict[str, dict[str, object]] = msgspec.json.decode(translate_engine_error(status, body))
    assert answer.keys() == {"error"}
    return answer["error"]
