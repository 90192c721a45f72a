"""Workers with more ranks than those they take blocks from take to each the heads that it needs."""

from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial

import httpx
import pytest

from . import faulty_links
from .conftest import samples_of
from .lone_workers import (
    ASK_FOR_BLOCKS,
    Worker,
    complete,
    request,
    running,
    wait_until_all_serve,
)
from .prefixes import BLOCK_TOKENS, compute, compute_at, following, increase, leg_1, tokens_of

RANKS = 3
"""SmolLM2-135M has three heads of keys and values: one for each rank."""

LENGTHS = (1, 127, 128, 129, 300, 513)

LONG = 1100
"""Tokens of a prompt."""

CODED_LENGTHS = (700, 701, 702, 703)
"""By the first of them a reader learns how slow its link is."""

STEP_TOKENS = 256
"""That the worker of one rank computes of a prompt at a time."""

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def links(tmp_path_factory: pytest.TempPathFactory) -> faulty_links.Links:
    return faulty_links.install(tmp_path_factory.mktemp("links"))


@pytest.fixture(scope="module")
def workers(
    tmp_path_factory: pytest.TempPathFactory, links: faulty_links.Links
) -> Iterator[tuple[Worker, Worker, Worker]]:
    """Start a prefill worker of one rank and two decode workers of three, without a router."""
    logs = tmp_path_factory.mktemp("logs")
    steps = ("--max-num-batched-tokens", str(STEP_TOKENS))
    with ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        for name, text in links.environment.items():
            patch.setenv(name, text)
        run = partial(running, compression="lossless")
        prefill = stack.enter_context(run("prefill", logs, *steps))
        decode = stack.enter_context(run("decode", logs, ranks=RANKS))
        other = stack.enter_context(run("decode", logs, ranks=RANKS, name="other"))
        wait_until_all_serve({prefill, decode, other})
        yield prefill, decode, other


def test_what_three_ranks_fetched_of_one_continues_as_one_engine_would(
    workers: tuple[Worker, Worker, Worker],
) -> None:
    prefill, decode = workers[0].address, workers[1].address
    for length in LENGTHS:
        prompt = [100 + (7919 * i + 104_729 * length) % 40_000 for i in range(length)]
        first = complete(prefill, prompt, max_tokens=1, kv_transfer_params=ASK_FOR_BLOCKS)
        params = first["kv_transfer_params"]
        assert params["tp_size"] == 1

        second = complete(decode, prompt, max_tokens=8, kv_transfer_params=params)
        alone = complete(prefill, prompt, max_tokens=8)

        assert second["choices"][0]["token_ids"] == alone["choices"][0]["token_ids"]

    samples = samples_of(decode)
    assert samples["twofold_kv_transfer_seconds_count"] == len(LENGTHS)
    assert samples["twofold_kv_transfer_bytes_count"] == len(LENGTHS) * RANKS
    fetched = samples['vllm:prompt_tokens_by_source_total{source="external_kv_transfer"}']
    computed = samples['vllm:prompt_tokens_by_source_total{source="local_compute"}']
    assert fetched >= sum(LENGTHS) - len(LENGTHS), "all but the last token of each prompt"
    assert computed <= len(LENGTHS)
    assert samples_of(prefill)['twofold_kv_leases_ended_total{cause="read"}'] == len(LENGTHS)


def test_fewer_ranks_than_the_prefill_worker_has_are_refused(
    workers: tuple[Worker, Worker, Worker],
) -> None:
    prefill, decode = workers[0].address, workers[1].address
    first = complete(decode, [1, 2, 3], max_tokens=1, kv_transfer_params=ASK_FOR_BLOCKS)

    body = request([1, 2, 3], max_tokens=1, kv_transfer_params=first["kv_transfer_params"])
    answer = httpx.post(f"{prefill}/v1/completions", json=body, timeout=60)

    assert answer.status_code == 500
    assert samples_of(prefill)['twofold_kv_transfer_failures_total{reason="link"}'] == 1


def test_a_prefix_is_pulled_from_one_rank_by_three_and_from_those_by_three_others(
    workers: tuple[Worker, Worker, Worker],
) -> None:
    prefill, decode, other = workers
    length = 400
    prompt = tokens_of(length)
    blocks = (length - 1) // BLOCK_TOKENS
    alone = complete(prefill.address, prompt, max_tokens=8)
    for source, target in ((prefill, decode), (decode, other)):
        named = compute_at(source, prompt)
        before = samples_of(target.address)

        answer = complete(
            target.address, prompt, max_tokens=1, kv_transfer_params=leg_1(named, length)
        )
        after = samples_of(target.address)
        continued = complete(target.address, prompt, max_tokens=8)

        pulled = answer["kv_transfer_params"]["prefix_tokens"]
        assert pulled == blocks * BLOCK_TOKENS
        assert answer["usage"]["prompt_tokens_details"]["cached_tokens"] == pulled
        assert increase(after, before, 'prefix_pulls_total{outcome="pulled"}') == 1
        assert increase(after, before, "prefix_blocks_total") == blocks
        assert continued["choices"][0]["token_ids"] == alone["choices"][0]["token_ids"]


def test_three_ranks_follow_a_prompt_while_one_computes_it(
    workers: tuple[Worker, Worker, Worker],
) -> None:
    prefill, decode, _ = workers
    source = compute_at(prefill, tokens_of(200)) | {"follow": True, "tokens": LONG}
    prompt = tokens_of(LONG)
    before = samples_of(decode.address)

    with following(decode, prompt, source):
        params = compute(prefill, prompt)
    ahead = increase(samples_of(decode.address), before, "prefix_blocks_total")
    answer = complete(decode.address, prompt, max_tokens=8, kv_transfer_params=params)

    assert ahead >= STEP_TOKENS // BLOCK_TOKENS, "of the first step at least"
    alone = complete(prefill.address, prompt, max_tokens=8)
    assert answer["choices"][0]["token_ids"] == alone["choices"][0]["token_ids"]


def test_what_came_coded_over_a_slow_link_continues_as_one_engine_would(
    workers: tuple[Worker, Worker, Worker], links: faulty_links.Links
) -> None:
    prefill, decode, _ = workers
    before = samples_of(decode.address)
    links.slow.touch()
    for length in CODED_LENGTHS:
        prompt = tokens_of(length)
        params = compute(prefill, prompt)
        answer = complete(decode.address, prompt, max_tokens=8, kv_transfer_params=params)
        alone = complete(prefill.address, prompt, max_tokens=8)
        assert answer["choices"][0]["token_ids"] == alone["choices"][0]["token_ids"]
    links.slow.unlink()
    after = samples_of(decode.address)

    block_bytes, payload_bytes = (
        increase(after, before, f'transfer_{kind}_bytes_total{{codec="lossless"}}')
        for kind in ("block", "payload")
    )
    assert 0 < payload_bytes < block_bytes
