"""What a router needs from an engine's ``/metrics`` page.

vLLM's page has many hundred lines, most of them of histograms, and a page is read for each worker
every other second: a parser of the whole format takes nearly a hundred times as long as this scan.
"""

import math
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

RUNNING = b"vllm:num_requests_running"
WAITING = b"vllm:num_requests_waiting"
KV_USED = b"vllm:kv_cache_usage_perc"
OLDER_KV_USED = b"vllm:gpu_cache_usage_perc"
"""Before vLLM 0.10."""
CACHE_CONFIG = b"vllm:cache_config_info"
STARTED_AT = b"process_start_time_seconds"

_NAMES = (RUNNING, WAITING, KV_USED, OLDER_KV_USED, CACHE_CONFIG, STARTED_AT)
_SAMPLE = re.compile(rb"([\w:]+)\s*(?:\{(.*)\})?\s*([^\s}]+)")
_LABEL = re.compile(rb'(\w+)="((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True, slots=True)
class EngineMetrics:
    """None and zeros where the page says nothing. With data parallelism, of all engines."""

    running_count: int = 0
    waiting_count: int = 0
    kv_used_fraction: float = 0.0
    kv_capacity_tokens: int | None = None
    kv_block_tokens: int | None = None
    started_at: float | None = None
    """Seconds since 1970. Not told by a vLLM with more than one API server process."""


@dataclass(frozen=True, slots=True)
class _Sample:
    labels: Mapping[bytes, bytes]
    value: float


def read_engine_metrics(page: bytes) -> EngineMetrics:
    """Read what is there of what is needed. A line that cannot be read is as if it were absent."""
    samples: dict[bytes, list[_Sample]] = defaultdict(list)
    for name, sample in _scan(page):
        samples[name].append(sample)
    capacity, block = _cache_config(samples[CACHE_CONFIG])
    kv_used = samples[KV_USED] or samples[OLDER_KV_USED]
    return EngineMetrics(
        running_count=int(_sum(samples[RUNNING])),
        waiting_count=int(_sum(samples[WAITING])),
        kv_used_fraction=_sum(kv_used) / max(1, len(kv_used)),
        kv_capacity_tokens=capacity,
        kv_block_tokens=block,
        started_at=samples[STARTED_AT][0].value if samples[STARTED_AT] else None,
    )


def _scan(page: bytes) -> Iterator[tuple[bytes, _Sample]]:
    # Only "\n" ends a line: a label's value may have any other control character in it.
    for line in page.split(b"\n"):
        if not line.startswith(_NAMES):
            continue
        match = _SAMPLE.match(line)
        sample = _sample(match[2] or b"", match[3]) if match else None
        if match and sample:
            # Some versions and collectors give a gauge's name the suffix of a counter.
            yield match[1].removesuffix(b"_total"), sample


def _sample(labels: bytes, value: bytes) -> _Sample | None:
    try:
        number = float(value)
    except ValueError:
        return None
    if not math.isfinite(number):
        return None
    return _Sample({match[1]: match[2] for match in _LABEL.finditer(labels)}, number)


def _sum(samples: list[_Sample]) -> float:
    return sum(sample.value for sample in samples)


def _cache_config(samples: list[_Sample]) -> tuple[int | None, int | None]:
    """Return the capacity and the size of a block, in tokens.

    vLLM adds the blocks of its data-parallel engines up, and says the sum of each of them.
    """
    for sample in samples:
        block, count = sample.labels.get(b"block_size"), sample.labels.get(b"num_gpu_blocks")
        if block and count and block.isdigit() and count.isdigit() and int(block) * int(count):
            return int(block) * int(count), int(block)
    return None, None
