"""Two workers generate exactly what one engine generates that does both phases."""

import dataclasses
import json
import math
import uuid
from typing import Any

import httpx
import pytest

from .conftest import Cluster

BLOCK_TOKENS = 128
BLOCK_BYTES = 30 * 2 * 3 * 64 * BLOCK_TOKENS * 4
"""SmolLM2-135M: 30 layers, K and V, 3 heads of 64, in float32."""

GENERATED_TOKENS = 8

LENGTHS = [
    1, 2, 16, 50, 100,
    *(blocks * BLOCK_TOKENS + offset for blocks in (1, 2, 3, 5, 8) for offset in (-1, 0, 1)),
    900, 1200, 1535, 1536, 1537, 1900,
]  # fmt: skip

WORDS = [1, 10, 40, 70, 90, 95, 96, 97, 98, 99, 100, 200, 223, 224, 225, 400, 480, 600,
         700, 860, 900, 1000, 1300, 1700]  # fmt: skip
"""Of a chat; its prompt has the template's tokens on top."""

pytestmark = pytest.mark.engine


@dataclasses.dataclass(frozen=True)
class Answer:
    tokens: list[int]
    text: str
    headers: httpx.Headers


@dataclasses.dataclass(frozen=True)
class Reception:
    """What the decode worker took in: prompt tokens by where they came from, and bytes."""

    computed_tokens: float
    transferred_tokens: float
    transferred_bytes: float


def test_there_are_enough_lengths_and_each_side_of_a_block_boundary() -> None:
    assert len(LENGTHS) >= 24
    assert {127, 128, 129} <= set(LENGTHS)


@pytest.mark.parametrize("length", LENGTHS)
def test_a_completion_is_that_of_one_engine_and_its_prompt_was_transferred(
    cluster: Cluster, length: int
) -> None:
    stream = LENGTHS.index(length) % 2 == 1
    body = {"prompt": tokens_of(length)}

    check_against_one_engine(cluster, "/v1/completions", body, length, stream=stream)


@pytest.mark.parametrize("words", WORDS)
def test_a_chat_is_that_of_one_engine_and_its_prompt_was_transferred(
    cluster: Cluster, words: int
) -> None:
    content = " ".join(["one", "two", "three", "four", "five", "six"][i % 6] for i in range(words))
    body = {"messages": [{"role": "user", "content": content}]}

    length = prompt_length(cluster, body)
    stream = WORDS.index(words) % 2 == 0
    check_against_one_engine(cluster, "/v1/chat/completions", body, length, stream=stream)


def check_against_one_engine(
    cluster: Cluster, path: str, body: dict[str, Any], length: int, *, stream: bool
) -> None:
    """Compare the cluster's answer, streamed or not, with that of one engine on its own."""
    alone = ask(cluster.address("prefill"), path, body, stream=False)
    before = received(cluster)
    answer = ask(cluster.url, path, body, stream=stream)
    reception = reception_since(cluster, before, length)

    assert len(alone.tokens) >= 1
    assert answer.tokens == alone.tokens
    assert answer.text == alone.text
    check_two_workers(answer)
    check_transfer(reception, length)


def check_two_workers(answer: Answer) -> None:
    assert answer.headers["x-twofold-mode"] == "disaggregated"
    assert answer.headers["x-twofold-prefill"] != answer.headers["x-twofold-decode"]


def check_transfer(reception: Reception, length: int) -> None:
    """All blocks of the prompt moved, no byte more, and at most the last was computed again."""
    assert reception.transferred_bytes == math.ceil(length / BLOCK_TOKENS) * BLOCK_BYTES
    assert reception.computed_tokens <= BLOCK_TOKENS
    assert reception.transferred_tokens + reception.computed_tokens == length
    assert reception.transferred_tokens >= length - BLOCK_TOKENS


def tokens_of(length: int) -> list[int]:
    """Return text-like token ids, others for each length."""
    return [100 + (7919 * i + 104_729 * length) % 40_000 for i in range(length)]


def ask(url: str, path: str, body: dict[str, Any], *, stream: bool) -> Answer:
    """Ask greedily, under a cache salt of its own: nothing was ever cached for it."""
    full = {
        "model": "smollm2",
        "max_tokens": GENERATED_TOKENS,
        "temperature": 0,
        "return_token_ids": True,
        "cache_salt": uuid.uuid4().hex,
        "stream": stream,
        **body,
    }
    with httpx.stream("POST", url + path, json=full, timeout=120) as response:
        raw = response.read()
        assert response.status_code == 200, raw
        choices = _choices(raw, streamed=stream)
        return Answer(
            tokens=[token for choice in choices for token in choice.get("token_ids") or ()],
            text="".join(_text(choice) for choice in choices),
            headers=response.headers,
        )


def _choices(raw: bytes, *, streamed: bool) -> list[dict[str, Any]]:
    if not streamed:
        choices: list[dict[str, Any]] = json.loads(raw)["choices"]
        return choices
    events = [line.removeprefix(b"data: ") for line in raw.splitlines() if line]
    assert events[-1] == b"[DONE]"
    return [choice for event in events[:-1] for choice in json.loads(event)["choices"]]


def _text(choice: dict[str, Any]) -> str:
    message = choice.get("message") or choice.get("delta") or choice
    return message.get("text") or message.get("content") or ""


def prompt_length(cluster: Cluster, body: dict[str, Any]) -> int:
    request = {"model": "smollm2", "messages": body["messages"]}
    response = httpx.post(f"{cluster.address('decode')}/tokenize", json=request, timeout=30)
    return int(response.json()["count"])


def received(cluster: Cluster) -> Reception:
    samples = cluster.metrics(cluster.address("decode"))

    def tokens(source: str) -> float:
        return samples.get(f'vllm:prompt_tokens_by_source_total{{source="{source}"}}', 0.0)

    return Reception(
        computed_tokens=tokens("local_compute"),
        transferred_tokens=tokens("external_kv_transfer"),
        transferred_bytes=cluster.received_bytes(),
    )


def reception_since(cluster: Cluster, before: Reception, length: int) -> Reception:
    """Return what came in since *before*, as soon as the engine has counted a whole prompt.

    Bytes are counted with a later step than the tokens; they are waited for, and what is
    missing then is the test's to see.
    """
    since = before

    def counted() -> bool:
        nonlocal since
        now = received(cluster)
        since = Reception(
            *(
                after - earlier
                for after, earlier in zip(
                    dataclasses.astuple(now), dataclasses.astuple(before), strict=True
                )
            )
        )
        return since.computed_tokens + since.transferred_tokens >= length and (
            since.transferred_bytes > 0 or since.transferred_tokens == 0
        )

    cluster.until(counted, seconds=60, what="the decode worker has counted the prompt")
    return since
