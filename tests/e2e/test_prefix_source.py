"""A worker takes the beginning of a prompt from another that has computed it."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest

from .conftest import samples_of
from .lone_workers import Worker, complete, running, wait_until_all_serve
from .prefixes import (
    BLOCK_TOKENS,
    compute,
    compute_at,
    following,
    increase,
    leg_1,
    tokens_of,
    until,
)

BLOCK_BYTES = 30 * 2 * 3 * 64 * BLOCK_TOKENS * 4
"""SmolLM2-135M: 30 layers, K and V, 3 heads of 64, in float32."""

LONG = 1900
"""Tokens of a prompt."""

STEP_TOKENS = 256
"""That the first worker computes of a prompt at a time."""

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Worker, Worker]]:
    logs = tmp_path_factory.mktemp("logs")
    with ExitStack() as stack:
        steps = ("--max-num-batched-tokens", str(STEP_TOKENS))
        one = stack.enter_context(running("prefill", logs, *steps, kv_cache_gib=1.0, name="one"))
        other = stack.enter_context(running("prefill", logs, kv_cache_gib=1.0, name="other"))
        wait_until_all_serve({one, other})
        yield one, other


def test_a_pulled_prefix_is_not_computed_and_the_prompt_continues_as_before(
    workers: tuple[Worker, Worker],
) -> None:
    one, other = workers
    for length in (BLOCK_TOKENS + 1, 2 * BLOCK_TOKENS, 700, LONG):
        prompt = tokens_of(length)
        blocks = (length - 1) // BLOCK_TOKENS
        source = compute_at(one, prompt)
        before = samples_of(other.address)

        answer = complete(
            other.address, prompt, max_tokens=1, kv_transfer_params=leg_1(source, length)
        )
        pulled = answer["kv_transfer_params"]["prefix_tokens"]
        after = samples_of(other.address)
        second = complete(other.address, prompt, max_tokens=8)

        assert pulled == blocks * BLOCK_TOKENS
        assert answer["usage"]["prompt_tokens_details"]["cached_tokens"] == pulled
        assert increase(after, before, 'prefix_pulls_total{outcome="pulled"}') == 1
        assert increase(after, before, "prefix_blocks_total") == blocks
        alone = complete(one.address, prompt, max_tokens=8)
        assert second["choices"][0]["token_ids"] == alone["choices"][0]["token_ids"]


def test_what_is_cached_here_already_is_not_pulled_again(workers: tuple[Worker, Worker]) -> None:
    one, other = workers
    prompt = tokens_of(1000)
    source = compute_at(one, prompt)
    complete(other.address, prompt[: 4 * BLOCK_TOKENS], max_tokens=1)

    answer = complete(other.address, prompt, max_tokens=1, kv_transfer_params=leg_1(source, 1000))

    assert answer["kv_transfer_params"]["prefix_tokens"] == (999 // BLOCK_TOKENS - 4) * BLOCK_TOKENS


def test_requests_with_the_same_prompt_pull_it_once(workers: tuple[Worker, Worker]) -> None:
    one, other = workers
    prompt = tokens_of(LONG + 3)
    source = compute_at(one, prompt)
    before = samples_of(other.address)

    def ask(_: int) -> dict[str, Any]:
        params = leg_1(source, len(prompt))
        return complete(other.address, prompt, max_tokens=1, kv_transfer_params=params)

    with ThreadPoolExecutor(4) as asking:
        answers = list(asking.map(ask, range(4)))

    after = samples_of(other.address)
    blocks = (len(prompt) - 1) // BLOCK_TOKENS
    assert increase(after, before, 'prefix_pulls_total{outcome="pulled"}') == 1
    assert increase(after, before, "prefix_blocks_total") == blocks
    cached = [answer["usage"]["prompt_tokens_details"]["cached_tokens"] for answer in answers]
    assert cached == [blocks * BLOCK_TOKENS] * 4


@pytest.mark.parametrize(
    ("changes", "length", "outcome"),
    [
        ({"engine_id": "nobody:1", "port": 1}, 600, "failed"),
        ({"engine_id": "another:1"}, 601, "failed"),
        ({"seconds_per_token": 1e-12}, 602, "slower"),
    ],
)
def test_what_is_not_pulled_is_computed(
    workers: tuple[Worker, Worker], changes: dict[str, Any], length: int, outcome: str
) -> None:
    one, other = workers
    prompt = tokens_of(length)
    source = compute_at(one, prompt) | changes
    before = samples_of(other.address)

    params = leg_1(source, len(prompt))
    answer = complete(other.address, prompt, max_tokens=1, kv_transfer_params=params)

    assert "prefix_tokens" not in answer["kv_transfer_params"]
    assert answer["usage"]["prompt_tokens"] == len(prompt)
    after = samples_of(other.address)
    assert increase(after, before, f'prefix_pulls_total{{outcome="{outcome}"}}') == 1


def test_a_prompt_that_the_source_does_not_hold_is_computed(
    workers: tuple[Worker, Worker],
) -> None:
    one, other = workers
    source = compute_at(one, tokens_of(300))
    before = samples_of(other.address)

    params = leg_1(source, LONG)
    complete(other.address, tokens_of(1500), max_tokens=1, kv_transfer_params=params)

    after = samples_of(other.address)
    assert increase(after, before, 'prefix_pulls_total{outcome="absent"}') == 1


def test_prefixes_are_pulled_out_of_an_engine_that_computes(
    workers: tuple[Worker, Worker],
) -> None:
    """Its cache changes under those who read: what comes of it is right, or is computed."""
    one, other = workers
    prompts = [tokens_of(800 + number) for number in range(6)]
    alone = [complete(one.address, prompt, max_tokens=8) for prompt in prompts]
    sources = [compute_at(one, prompt) for prompt in prompts]
    before = samples_of(other.address)
    deadline = time.monotonic() + 60

    def keep_busy() -> None:
        number = 0
        while not done and time.monotonic() < deadline:
            number += 1
            complete(one.address, tokens_of(1000 + number), max_tokens=2)

    done = False
    with ThreadPoolExecutor(1) as busy:
        computing = busy.submit(keep_busy)
        try:
            for prompt, source, expected in zip(prompts, sources, alone, strict=True):
                params = leg_1(source, len(prompt))
                complete(other.address, prompt, max_tokens=1, kv_transfer_params=params)
                answer = complete(other.address, prompt, max_tokens=8)
                assert answer["choices"][0]["token_ids"] == expected["choices"][0]["token_ids"]
        finally:
            done = True
        computing.result()
    assert increase(samples_of(other.address), before, 'prefix_pulls_total{outcome="pulled"}') > 0


def test_a_prompt_is_followed_while_it_is_computed(workers: tuple[Worker, Worker]) -> None:
    one, other = workers
    source = compute_at(one, tokens_of(200)) | {"follow": True, "tokens": LONG}
    prompt = tokens_of(LONG + 1)
    before = samples_of(other.address)

    with following(other, prompt, source):
        params = compute(one, prompt)
    after_leg_1 = samples_of(other.address)
    answer = complete(other.address, prompt, max_tokens=8, kv_transfer_params=params)
    after = samples_of(other.address)

    ahead = increase(after, before, "prefix_blocks_total")
    rest = increase(after, after_leg_1, "transfer_bytes_sum")
    assert ahead >= (LONG - 2 * STEP_TOKENS) // BLOCK_TOKENS
    assert rest == (-(-len(prompt) // BLOCK_TOKENS) - ahead) * BLOCK_BYTES
    alone = complete(one.address, prompt, max_tokens=8)
    assert answer["choices"][0]["token_ids"] == alone["choices"][0]["token_ids"]


def test_what_was_followed_stays_cached(workers: tuple[Worker, Worker]) -> None:
    one, other = workers
    source = compute_at(one, tokens_of(LONG + 2)) | {"follow": True, "tokens": LONG}
    before = samples_of(other.address)
    with following(other, tokens_of(LONG + 2), source):
        until(lambda: increase(samples_of(other.address), before, "prefix_blocks_total") > 0)

    answer = complete(other.address, tokens_of(LONG + 2), max_tokens=1)

    cached = answer["usage"]["prompt_tokens_details"]["cached_tokens"]
    assert cached == LONG // BLOCK_TOKENS * BLOCK_TOKENS
