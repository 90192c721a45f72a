import functools
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

pytest.importorskip("vllm")

# vLLM imports parts of torch that are deprecated.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def metrics_in(registry: CollectorRegistry) -> Any:
    from twofold_kvtransfer.connector.statistics import TransferMetrics

    types: Any = {
        kind: functools.partial(kind, registry=registry) for kind in (Gauge, Counter, Histogram)
    }
    config: Any = SimpleNamespace(kv_transfer_config=None)
    return TransferMetrics(config, types, ["engine"], {0: ["0"]})


def pulls_in(registry: CollectorRegistry) -> dict[str, float]:
    (metric,) = (one for one in registry.collect() if one.name == "twofold_kv_prefix_pulls")
    return {
        sample.labels["outcome"]: sample.value
        for sample in metric.samples
        if sample.name.endswith("_total")
    }


def test_codecs_are_added_up_over_ranks_and_taken_once() -> None:
    from twofold_kvtransfer.connector.statistics import TransferStats

    first, second = TransferStats(), TransferStats()
    first.record_codecs([])
    assert first.is_empty()
    first.record_codecs([("none", 1, 10)])
    second.record_codecs([("int8", 2, 30)])
    first.aggregate(second)

    taken = first.take()

    assert taken is not None
    assert taken.data["codecs"] == [("none", 1, 10), ("int8", 2, 30)]
    assert first.take() is None


def test_pulls_are_added_up_and_taken_once() -> None:
    from twofold_kvtransfer.connector.statistics import TransferStats
    from twofold_kvtransfer.prefixes import Outcome, Pulled

    first, second = TransferStats(), TransferStats()
    first.record_pull(Pulled("r", Outcome.PULLED, 3, 0.5))
    second.record_pull(Pulled("s", Outcome.ABSENT))
    assert not second.is_empty()
    first.aggregate(second)

    taken = first.take()

    assert taken is not None
    assert taken.data["pulls"] == [("pulled", 3), ("absent", 0)]
    assert first.take() is None


def test_prometheus_sees_what_became_of_pulls_and_every_outcome_from_the_start() -> None:
    from twofold_kvtransfer.connector.statistics import TransferStats
    from twofold_kvtransfer.prefixes import Outcome, Pulled

    registry = CollectorRegistry()
    metrics = metrics_in(registry)
    assert pulls_in(registry) == dict.fromkeys(Outcome, 0.0)
    stats = TransferStats()
    stats.record_pull(Pulled("r", Outcome.PULLED, 3, 0.5))
    stats.record_pull(Pulled("s", Outcome.PULLED, 2, 0.5))
    stats.record_pull(Pulled("t", Outcome.LATE, 1, 0.5))

    # As it comes from the engine's process: a tuple is a list there.
    metrics.observe(msgspec.msgpack.decode(msgspec.msgpack.encode(stats.data)))

    assert pulls_in(registry) == dict.fromkeys(Outcome, 0.0) | {"pulled": 2.0, "late": 1.0}
    assert registry.get_sample_value("twofold_kv_prefix_blocks_total", {"engine": "0"}) == 6.0
