"""OpenAI's errors, told to clients of Anthropic's API."""

import json

import pytest

from twofold_cluster.errors import Fault, RequestError
from twofold_router.gateway.anthropic import anthropic_error, error_type

TYPES = [
    (400, "invalid_request_error"),
    (401, "authentication_error"),
    (403, "permission_error"),
    (404, "not_found_error"),
    (413, "request_too_large"),
    (422, "invalid_request_error"),
    (429, "rate_limit_error"),
    (500, "api_error"),
    (502, "api_error"),
    (503, "overloaded_error"),
    (504, "timeout_error"),
]


@pytest.mark.parametrize(("status", "name"), TYPES)
def test_a_status_has_the_name_that_anthropic_gives_it(status: int, name: str) -> None:
    assert error_type(status) == name


def test_an_error_says_the_same_in_the_other_shape() -> None:
    error = RequestError(Fault.QUEUE_FULL, "come back", param="model")

    assert json.loads(anthropic_error(429, error.body())) == {
        "type": "error",
        "error": {
            "type": "rate_limit_error",
            "message": "come back",
            "param": "model",
            "code": "rate_limit_exceeded",
        },
    }
