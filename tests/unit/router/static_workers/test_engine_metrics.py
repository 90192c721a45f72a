"""The scan of a metrics page, against the parser of the whole format."""

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from twofold_router.static_workers.engine_metrics import EngineMetrics, read_engine_metrics
from twofold_router.static_workers.testing import vllm_pages

LABELS = st.text(st.sampled_from('a0 \\"{}=,\n\r\x85#é'), max_size=8)
COUNTS = st.integers(0, 10**6)
SERIES = st.dictionaries(LABELS, st.tuples(COUNTS, COUNTS, st.floats(0, 1)), max_size=4)


def page(series: dict[str, tuple[int, int, float]], older: bool) -> bytes:
    """Return what the client library makes of the gauges of some engines, and of much else."""
    registry = CollectorRegistry()
    kv_name = "gpu_cache_usage_perc" if older else "kv_cache_usage_perc"
    by_engine = {
        name: Gauge(f"vllm:{name}", "Of \\ and\n more", ["engine", "model_name"], registry=registry)
        for name in ("num_requests_running", "num_requests_waiting", kv_name)
    }
    reasons = Gauge("vllm:num_requests_running_by_reason", "", ["reason"], registry=registry)
    Counter("vllm:num_requests_running_ever", "", registry=registry).inc(5)
    Histogram("vllm:kv_cache_usage_perc_seen", "", registry=registry).observe(0.5)
    for engine, values in series.items():
        reasons.labels(engine).set(9)
        for gauge, value in zip(by_engine.values(), values, strict=True):
            gauge.labels(engine, "a model").set(value)
    return generate_latest(registry)


def parsed(page: bytes, name: str) -> list[float]:
    return [
        sample.value
        for family in text_string_to_metric_families(page.decode())
        for sample in family.samples
        if sample.name == name
    ]


@given(SERIES, st.booleans())
def test_the_scan_finds_what_the_parser_finds(
    series: dict[str, tuple[int, int, float]], older: bool
) -> None:
    text = page(series, older)
    kv_used = parsed(text, "vllm:gpu_cache_usage_perc" if older else "vllm:kv_cache_usage_perc")

    read = read_engine_metrics(text)

    assert read.running_count == sum(parsed(text, "vllm:num_requests_running"))
    assert read.waiting_count == sum(parsed(text, "vllm:num_requests_waiting"))
    assert math.isclose(read.kv_used_fraction, sum(kv_used) / max(1, len(kv_used)))
    assert len(kv_used) == len(series)


@given(st.integers(1, 10**5), st.integers(1, 10**7), LABELS)
@example(16, 1000, '"0=')
def test_the_capacity_is_read_from_among_any_labels(block: int, blocks: int, other: str) -> None:
    registry = CollectorRegistry()
    labels = {"a": other, "block_size": block, "m": other, "num_gpu_blocks": blocks, "z": other}
    config = Gauge("vllm:cache_config_info", "", list(labels), registry=registry)
    config.labels(**{name: str(value) for name, value in labels.items()}).set(1)

    read = read_engine_metrics(generate_latest(registry))

    assert (read.kv_block_tokens, read.kv_capacity_tokens) == (block, block * blocks)


def test_a_page_of_vllm_is_read() -> None:
    pages = vllm_pages(running=3, waiting=2, kv_used=0.25, blocks=1000, started_at=1234.5)

    assert read_engine_metrics(pages["/metrics"][1]) == EngineMetrics(
        running_count=3,
        waiting_count=2,
        kv_used_fraction=0.25,
        kv_capacity_tokens=16_000,
        kv_block_tokens=16,
        started_at=1234.5,
    )


def test_data_parallel_engines_are_added_up_but_the_blocks_which_vllm_has_added_up() -> None:
    text = b"".join(
        b'vllm:num_requests_running{engine="%d"} 2.0\n'
        b'vllm:kv_cache_usage_perc{engine="%d"} 0.%d\n'
        b'vllm:cache_config_info{block_size="16",engine="%d",num_gpu_blocks="500"} 1.0\n'
        % (engine, engine, 2 + 2 * engine, engine)
        for engine in range(2)
    )

    read = read_engine_metrics(text)

    assert (read.running_count, read.kv_capacity_tokens) == (4, 8000)
    assert math.isclose(read.kv_used_fraction, 0.3)


@pytest.mark.parametrize(
    ("line", "running"),
    [
        (b"vllm:num_requests_running 3", 3),
        (b"vllm:num_requests_running_total 3", 3),
        (b'vllm:num_requests_running{a="b"}3', 3),
        (b'vllm:num_requests_running { a = "} 9" , } 3.0 1700000000000', 3),
        (b'vllm:num_requests_running{a="b"} NaN', 0),
        (b"vllm:num_requests_running +Inf", 0),
        (b"vllm:num_requests_running three", 0),
        (b"vllm:num_requests_running", 0),
        (b'vllm:num_requests_running{a="b', 0),
        (b"vllm:num_requests_running_by_reason 3", 0),
        (b"# vllm:num_requests_running 3", 0),
        (b"a_vllm:num_requests_running 3", 0),
    ],
)
def test_one_line_is_read_as_it_should_be(line: bytes, running: int) -> None:
    assert read_engine_metrics(b"# HELP\n" + line + b"\n").running_count == running


@pytest.mark.parametrize("blocks", ["None", "0", "-1", "1.5", ""])
def test_a_capacity_that_is_none_is_not_read(blocks: str) -> None:
    text = f'vllm:cache_config_info{{block_size="16",num_gpu_blocks="{blocks}"}} 1.0'

    assert read_engine_metrics(text.encode()) == EngineMetrics()


@given(st.binary())
def test_any_bytes_are_read_without_an_error(text: bytes) -> None:
    assert read_engine_metrics(text) == EngineMetrics()
