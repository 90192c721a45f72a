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
    from twofold_kvtransfer.connector.codec_tally import CodecUse
    from twofold_kvtransfer.connector.statistics import TransferStats

    first, second = TransferStats(), TransferStats()
    first.record_codecs([])
    assert first.is_empty()
    first.record_codecs([CodecUse("none", 1, 10, 10)])
    second.record_codecs([CodecUse("int8", 2, 60, 30)])
    first.aggregate(second)

    taken = first.take()

    assert taken is not None
    assert taken.data["codecs"] == [("none", 1, 10, 10), ("int8", 2, 60, 30)]
    assert first.take() is None


def test_what_a_codec_left_to_be_moved_is_shown_beside_what_it_coded() -> None:
    from twofold_kvtransfer.connector.codec_tally import CodecUse
    from twofold_kvtransfer.connector.statistics import TransferStats

    stats, registry = TransferStats(), CollectorRegistry()
    stats.record_codecs([CodecUse("int8", 2, 60, 30)])

    metrics_in(registry).observe(msgspec.json.decode(msgspec.json.encode(stats.data)))

    shown = {
        name: registry.get_sample_value(
            f"twofold_kv_transfer{name}_total", {"engine": "0", "codec": "int8"}
        )
        for name in ("s_by_codec", "_block_bytes", "_payload_bytes")
    }
    assert shown == {"s_by_codec": 2, "_block_bytes": 60, "_payload_bytes": 30}


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


def told_by_ranks(*ranks: Any) -> CollectorRegistry:
    """What Prometheus sees of what *ranks* tell, each in a step of its own."""
    registry = CollectorRegistry()
    metrics = metrics_in(registry)
    for stats in ranks:
        metrics.observe(msgspec.msgpack.decode(msgspec.msgpack.encode(stats.data)))
    return registry


def test_a_request_and_a_lease_of_several_ranks_count_once() -> None:
    from twofold_kvtransfer.connector.statistics import TransferStats
    from twofold_kvtransfer.lease import Cause
    from twofold_kvtransfer.leases import Ended
    from twofold_kvtransfer.receiving import Failure, Reception

    ranks = [TransferStats() for _ in range(4)]
    for number, stats in enumerate(ranks):
        stats.record(Reception("r", None, 100, 0.5), is_first_rank=number == 0)
        stats.record(Reception("s", Failure.LATE), is_first_rank=number == 0)
        stats.record_lease(Ended("t", Cause.EXPIRED))
    ranks[3].record(Reception("u", Failure.INTEGRITY), is_first_rank=False)

    seen = told_by_ranks(*ranks).get_sample_value

    engine = {"engine": "0"}
    assert seen("twofold_kv_transfer_seconds_count", engine) == 1
    assert seen("twofold_kv_transfer_bytes_sum", engine) == 400
    assert seen("twofold_kv_transfer_failures_total", engine | {"reason": "late"}) == 1
    assert seen("twofold_kv_transfer_failures_total", engine | {"reason": "integrity"}) == 1
    assert seen("twofold_kv_leases_ended_total", engine | {"cause": "expired"}) == 1
    joined = ranks[0]
    for other in ranks[1:]:
        joined.aggregate(other)
    assert joined.reduce()["KV transfers"] == 1
    assert joined.reduce()["Failed"] == 2


def test_what_was_told_long_ago_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    from twofold_kvtransfer.connector import statistics
    from twofold_kvtransfer.connector.statistics import TransferStats
    from twofold_kvtransfer.lease import Cause
    from twofold_kvtransfer.leases import Ended

    monkeypatch.setattr(statistics, "_MAX_TOLD", 2)
    stats = TransferStats()
    for name in ("a", "b", "c", "c", "a"):
        stats.record_lease(Ended(name, Cause.READ))

    seen = told_by_ranks(stats).get_sample_value

    assert seen("twofold_kv_leases_ended_total", {"engine": "0", "cause": "read"}) == 4


def test_of_what_there_is_now_the_latest_of_the_rank_with_most_is_shown() -> None:
    from twofold_kvtransfer.connector.statistics import TransferStats
    from twofold_kvtransfer.loading import Load

    steps = []
    for rank, load in ((0, Load(held=1)), (1, Load(held=9, reading=2)), (1, Load(held=1))):
        stats = TransferStats()
        stats.record_load(rank, Load(pinned=5))
        stats.record_load(rank, load)
        steps.append(stats)
    seen = told_by_ranks(*steps[:2]).get_sample_value
    later = told_by_ranks(*steps).get_sample_value

    engine = {"engine": "0"}
    assert seen("twofold_kv_leases", engine | {"state": "held"}) == 9
    assert seen("twofold_kv_leases", engine | {"state": "pinned"}) == 0
    assert seen("twofold_kv_reads", engine | {"state": "reading"}) == 2
    assert later("twofold_kv_leases", engine | {"state": "held"}) == 1
    assert later("twofold_kv_reads", engine | {"state": "reading"}) == 0


def test_bandwidth_is_of_each_read_of_a_rank() -> None:
    from twofold_kvtransfer.connector.statistics import TransferStats
    from twofold_kvtransfer.receiving import Reception

    stats = TransferStats()
    stats.record(Reception("r", None, 10**9, 0.5))
    stats.record(Reception("r", None, 10**9, 0.25), is_first_rank=False)
    stats.record(Reception("s", None, 0, 0.0))

    seen = told_by_ranks(stats).get_sample_value

    engine = {"engine": "0"}
    assert seen("twofold_kv_transfer_bytes_per_second_count", engine) == 2
    assert seen("twofold_kv_transfer_bytes_per_second_sum", engine) == 6e9


def test_prefixes_count_with_their_bytes_and_time_and_in_no_number_of_transfers() -> None:
    from twofold_kvtransfer.connector.statistics import TransferStats
    from twofold_kvtransfer.prefixes import PrefixRead

    ranks = [TransferStats(), TransferStats()]
    ranks[0].record_prefix_reads([PrefixRead(10**9, 0.5), PrefixRead(10**9, 0.25)])
    ranks[1].record_prefix_reads([PrefixRead(10**9, 0.5)])

    seen = told_by_ranks(*ranks).get_sample_value

    engine = {"engine": "0"}
    assert seen("twofold_kv_prefix_bytes_total", engine) == 3e9
    assert seen("twofold_kv_prefix_seconds_total", engine) == 1.25
    assert seen("twofold_kv_transfer_bytes_per_second_sum", engine) == 8e9
    assert seen("twofold_kv_transfer_seconds_count", engine) == 0
    assert ranks[0].aggregate(ranks[1]).reduce()["KV transfers"] == 0
