import dataclasses
import time

import pytest
from prometheus_client.parser import text_string_to_metric_families

from twofold_router.static_workers.engine_metrics import read_engine_metrics
from twofold_sim.engine_model import EngineCounts
from twofold_sim.live.metrics import EngineMetrics, Snapshot

COUNTS = EngineCounts(
    running=3,
    waiting=2,
    kv_used_fraction=0.25,
    preemptions=1,
    prompt_tokens=100,
    generated_tokens=50,
    prefix_queries=90,
    prefix_hits=30,
)
SNAPSHOT = Snapshot(
    counts=COUNTS,
    capacity_blocks=1000,
    block_tokens=16,
    started_at=1.5e9,
    external_queries=7,
    external_hits=6,
    failed_transfers=5,
    failed_notifications=4,
    expired_leases=3,
    late_notifications=2,
    adapter_count=3,
    adapters_in_use=("one", "other"),
)


@pytest.fixture
def metrics() -> EngineMetrics:
    return EngineMetrics("a model", lambda: SNAPSHOT)


def values(metrics: EngineMetrics) -> dict[str, float]:
    families = text_string_to_metric_families(metrics.page().decode())
    return {
        sample.name: sample.value
        for family in families
        for sample in family.samples
        if sample.labels.get("finished_reason", "stop") == "stop"
    }


def test_the_router_reads_the_page(metrics: EngineMetrics) -> None:
    read = read_engine_metrics(metrics.page())

    assert (read.running_count, read.waiting_count, read.kv_used_fraction) == (3, 2, 0.25)
    assert (read.kv_capacity_tokens, read.kv_block_tokens) == (16_000, 16)
    assert read.started_at == 1.5e9


def test_what_was_counted_stands_under_vllms_names(metrics: EngineMetrics) -> None:
    told = values(metrics)

    assert {name: told[name] for name in told if name.startswith("vllm:nixl_num")} == {
        "vllm:nixl_num_failed_transfers_total": 5,
        "vllm:nixl_num_failed_notifications_total": 4,
        "vllm:nixl_num_kv_expired_reqs_total": 3,
        "vllm:nixl_num_notifications_after_expiry_total": 2,
    }
    assert told["vllm:num_preemptions_total"] == 1
    assert told["vllm:prompt_tokens_total"] == 100
    assert told["vllm:generation_tokens_total"] == 50
    assert told["vllm:prefix_cache_queries_total"] == 90
    assert told["vllm:prefix_cache_hits_total"] == 30
    assert told["vllm:external_prefix_cache_queries_total"] == 7
    assert told["vllm:external_prefix_cache_hits_total"] == 6


@pytest.mark.parametrize(
    ("loaded", "in_use", "room", "names"),
    [(3, ("one", "other"), "3", "one,other"), (0, (), "1", "")],
)
def test_the_adapters_with_requests_are_told_with_the_time(
    loaded: int, in_use: tuple[str, ...], room: str, names: str
) -> None:
    now = dataclasses.replace(SNAPSHOT, adapter_count=loaded, adapters_in_use=in_use)
    before = time.time()
    page = EngineMetrics("m", lambda: now).page()
    families = text_string_to_metric_families(page.decode())
    [family] = [each for each in families if each.name == "vllm:lora_requests_info"]

    [sample] = family.samples
    assert sample.labels == {
        "max_lora": room,
        "running_lora_adapters": names,
        "waiting_lora_adapters": names,
    }
    assert before <= sample.value <= time.time()


def test_times_are_observed(metrics: EngineMetrics) -> None:
    metrics.ttft.observe(0.5)
    metrics.token_gap.observe(0.02)
    metrics.finished("stop")
    told = values(metrics)

    assert told["vllm:time_to_first_token_seconds_sum"] == 0.5
    assert told["vllm:inter_token_latency_seconds_count"] == 1
    assert told["vllm:request_success_total"] == 1


def test_prompts_are_counted_by_where_their_tokens_are_from(metrics: EngineMetrics) -> None:
    metrics.prefilled(computed=5, cached=16, fetched=32)
    metrics.prefilled(computed=7, cached=0, fetched=0)
    families = text_string_to_metric_families(metrics.page().decode())
    [family] = [each for each in families if each.name == "vllm:prompt_tokens_by_source"]

    assert {
        sample.labels["source"]: sample.value
        for sample in family.samples
        if sample.name == "vllm:prompt_tokens_by_source_total"
    } == {"local_compute": 12, "local_cache_hit": 16, "external_kv_transfer": 32}


def test_two_engines_of_a_process_count_by_themselves() -> None:
    one, other = (EngineMetrics("m", lambda: SNAPSHOT) for _ in range(2))
    one.finished("stop")

    assert values(other)["vllm:request_success_total"] == 0
