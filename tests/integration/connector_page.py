"""A process that shows our own connector's metrics, without the engine that it would be in.

The connector counts in vLLM's own metrics, so that this needs vLLM, whose import takes a while.
"""

import functools
import itertools
import sys
import time
from types import SimpleNamespace
from typing import Any

import msgspec
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from twofold_kvtransfer.connector.codec_tally import CodecUse
from twofold_kvtransfer.connector.statistics import TransferMetrics, TransferStats
from twofold_kvtransfer.loading import Load
from twofold_kvtransfer.prefixes import Outcome, PrefixRead, Pulled
from twofold_kvtransfer.receiving import Reception

STEP_SECONDS = 0.2


def show(port: int) -> None:
    """Count a read in a code, a pulled prefix, and leases, again and again until killed."""
    registry = CollectorRegistry()
    types: Any = {
        kind: functools.partial(kind, registry=registry) for kind in (Gauge, Counter, Histogram)
    }
    config: Any = SimpleNamespace(kv_transfer_config=None)
    metrics = TransferMetrics(config, types, ["model_name", "engine"], {0: ["quick", "0"]})
    start_http_server(port, "127.0.0.1", registry)
    for number in itertools.count():
        stats = TransferStats()
        stats.record(Reception(str(number), size_bytes=2**20, seconds=0.01))
        stats.record_load(0, Load(held=2, claimed=1, reading=1, waiting=1))
        stats.record_pull(Pulled(str(number), Outcome.PULLED, block_count=2))
        stats.record_prefix_reads([PrefixRead(2**20, 0.01)])
        stats.record_codecs([CodecUse("int8", 1, 2**20, 2**19)])
        # As it comes from the engine's process.
        metrics.observe(msgspec.msgpack.decode(msgspec.msgpack.encode(stats.data)))
        time.sleep(STEP_SECONDS)


if __name__ == "__main__":
    show(int(sys.argv[1]))
