"""What is wrong with a request is said as OpenAI says it, and the next request works."""

from typing import Any

import httpx
import pytest

from .conftest import Cluster

pytestmark = pytest.mark.engine

JSON = {"content-type": "application/json"}
CHAT = "/v1/chat/completions"
MESSAGES = '"messages": [{"role": "user", "content": "hi"}]'


Request = tuple[str, str, dict[str, Any]]
"""Method, path and the rest of httpx's arguments."""


def post(content: str | bytes, headers: dict[str, str] = JSON) -> Request:
    return "POST", CHAT, {"content": content, "headers": headers}


@pytest.mark.parametrize(
    ("request_", "status", "code"),
    [
        (post('{"model": "smollm2", '), 400, "invalid_json"),
        (post("[1, 2]"), 400, "invalid_request"),
        (post('{"model": 3, ' + MESSAGES + "}"), 400, "invalid_request"),
        (post('{"model": "nobody", ' + MESSAGES + "}"), 404, "model_not_found"),
        (post(b" " * (33 * 2**20)), 413, "request_too_large"),
        (post('{"model": "smollm2"}', {"content-type": "text/plain"}), 415,
         "unsupported_media_type"),
        (post('{"model": "smollm2", "messages": 3}'), 400, "invalid_request"),
        (post('{"model": "smollm2", "temperature": -1, ' + MESSAGES + "}"), 400, "invalid_request"),
        (("POST", "/v1/completions",
          {"json": {"model": "smollm2", "prompt": [5] * 3000, "max_tokens": 5}}), 400,
         "context_length_exceeded"),
        (("GET", CHAT, {}), 405, "method_not_allowed"),
        (("POST", "/v1/nowhere", {"json": {}}), 404, "not_found"),
    ],
)  # fmt: skip
def test_bad_input_gets_its_openai_error_and_then_a_good_request_works(
    cluster: Cluster, request_: Request, status: int, code: str
) -> None:
    method, path, content = request_

    response = httpx.request(method, cluster.url + path, timeout=30, **content)

    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["code"] == code
    assert error["message"]
    good = cluster.complete("Hello", max_tokens=1)
    assert good.status_code == 200
    assert good.headers["x-twofold-mode"] == "disaggregated"
    assert cluster.metrics()["twofold_router_in_flight"] == 0
