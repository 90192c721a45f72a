"""A decode worker with more ranks than the prefill worker takes to each the heads that it needs."""

from collections.abc import Iterator
from contextlib import ExitStack

import httpx
import pytest

from .conftest import samples_of
from .lone_workers import ASK_FOR_BLOCKS, complete, request, running, wait_until_all_serve

RANKS = 3
"""SmolLM2-135M has three heads of keys and values: one for each rank."""

LENGTHS = (1, 127, 128, 129, 300, 513)

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """Start a prefill worker of one rank and a decode worker of three, without a router."""
    logs = tmp_path_factory.mktemp("logs")
    with ExitStack() as stack:
        prefill = stack.enter_context(running("prefill", logs))
        decode = stack.enter_context(running("decode", logs, ranks=RANKS))
        wait_until_all_serve({prefill, decode})
        yield prefill.address, decode.address


def test_what_three_ranks_fetched_of_one_continues_as_one_engine_would(
    workers: tuple[str, str],
) -> None:
    prefill, decode = workers
    for length in LENGTHS:
        prompt = [100 + (7919 * i + 104_729 * length) % 40_000 for i in range(length)]
        first = complete(prefill, prompt, max_tokens=1, kv_transfer_params=ASK_FOR_BLOCKS)
        params = first["kv_transfer_params"]
        assert params["tp_size"] == 1

        second = complete(decode, prompt, max_tokens=8, kv_transfer_params=params)
        alone = complete(prefill, prompt, max_tokens=8)

        assert second["choices"][0]["token_ids"] == alone["choices"][0]["token_ids"]

    samples = samples_of(decode)
    transfers = samples["twofold_kv_transfer_seconds_count"]
    assert transfers == len(LENGTHS) * RANKS
    fetched = samples['vllm:prompt_tokens_by_source_total{source="external_kv_transfer"}']
    computed = samples['vllm:prompt_tokens_by_source_total{source="local_compute"}']
    assert fetched >= sum(LENGTHS) - len(LENGTHS), "all but the last token of each prompt"
    assert computed <= len(LENGTHS)
    assert samples_of(prefill)['twofold_kv_leases_ended_total{cause="read"}'] == len(LENGTHS)


def test_fewer_ranks_than_the_prefill_worker_has_are_refused(workers: tuple[str, str]) -> None:
    prefill, decode = workers
    first = complete(decode, [1, 2, 3], max_tokens=1, kv_transfer_params=ASK_FOR_BLOCKS)

    body = request([1, 2, 3], max_tokens=1, kv_transfer_params=first["kv_transfer_params"])
    answer = httpx.post(f"{prefill}/v1/completions", json=body, timeout=60)

    assert answer.status_code == 500
    assert samples_of(prefill)['twofold_kv_transfer_failures_total{reason="link"}'] == 1
