"""What a newcomer does: ask the model something, over HTTP, with OpenAI's client, with chat."""

from concurrent.futures import ThreadPoolExecutor
from statistics import median_low

import httpx
import openai
import pytest

from .conftest import Cluster
from .test_exactness import tokens_of

pytestmark = pytest.mark.engine

BOUND = 64
"""Requests without a first token that a prefill worker takes."""


def test_the_model_knows_the_capital_of_france(cluster: Cluster) -> None:
    client = openai.OpenAI(base_url=f"{cluster.url}/v1", api_key="none")

    raw = client.chat.completions.with_raw_response.create(
        model="smollm2",
        messages=[{"role": "user", "content": "What is the capital of France?"}],
    )

    assert "Paris" in (raw.parse().choices[0].message.content or "")
    assert raw.headers["x-twofold-mode"] == "disaggregated"
    assert raw.headers["x-twofold-prefill"] == "local-prefill-0"
    assert raw.headers["x-twofold-decode"] == "local-decode-0"


def test_openai_s_client_streams(cluster: Cluster) -> None:
    client = openai.OpenAI(base_url=f"{cluster.url}/v1", api_key="none")

    chunks = list(
        client.chat.completions.create(
            model="smollm2",
            messages=[{"role": "user", "content": "What is the capital of France?"}],
            temperature=0,
            stream=True,
            stream_options={"include_usage": True},
        )
    )

    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert "Paris" in text
    assert chunks[-1].usage is not None
    assert [model.id for model in client.models.list()] == ["smollm2"]


def test_several_samples_are_served_by_one_worker_and_said_to_be(cluster: Cluster) -> None:
    response = cluster.complete("Hello", n=2, temperature=1, max_tokens=2)

    assert len(response.json()["choices"]) == 2
    assert response.headers["x-twofold-mode"] == "aggregated"
    assert "x-twofold-prefill" not in response.headers


def test_a_prefill_worker_refuses_at_once_when_it_has_its_bound(cluster: Cluster) -> None:
    url = f"{cluster.address('prefill')}/v1/completions"

    def ask(number: int) -> httpx.Response:
        body = {"model": "smollm2", "prompt": tokens_of(100 + number), "max_tokens": 1}
        return httpx.post(url, json=body, timeout=120)

    client_count = BOUND + 16
    with ThreadPoolExecutor(client_count) as clients:
        responses = list(clients.map(ask, range(client_count)))

    refused = [response for response in responses if response.status_code == 429]
    served = [response for response in responses if response.status_code == 200]
    assert refused
    assert len(served) >= BOUND
    for response in refused:
        assert response.json()["error"]["code"] == "prefill_busy"
        assert response.headers["x-llm-d-request-dropped-reason"] == "prefill-busy"
        assert response.elapsed < median_low(answer.elapsed for answer in served)


def test_chat_prints_the_answer_and_who_gave_it(cluster: Cluster) -> None:
    shown = cluster.twofold("chat", "What is the capital of France?").stdout

    assert "Paris" in shown
    assert "local-prefill-0" in shown
    assert "local-decode-0" in shown


def test_a_second_up_says_that_one_is_running(cluster: Cluster) -> None:
    second = cluster.twofold("up", "--detach", check=False)

    assert second.returncode == 1
    assert cluster.url in second.stderr
    assert second.stderr.count("\n") == 1


def test_status_is_ready_and_doctor_finds_nothing_missing(cluster: Cluster) -> None:
    assert cluster.twofold("status").returncode == 0
    doctor = cluster.twofold("doctor", check=False)
    assert doctor.returncode == 0, doctor.stdout
