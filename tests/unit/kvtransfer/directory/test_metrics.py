from dataclasses import fields

from prometheus_client import CollectorRegistry, generate_latest

from twofold_kvtransfer.directory import FeedSnapshot
from twofold_kvtransfer.directory.metrics import FeedCollector

NOW = FeedSnapshot(
    applied_batches=1,
    lost_batches=2,
    rebuilds=3,
    refused_blocks=4,
    errors=5,
    holdings=6,
    degraded=True,
    lag_seconds=7.5,
)


def page(*snapshots: FeedSnapshot) -> list[str]:
    """Return the lines of the last of as many pages as there are *snapshots*."""
    told = list(snapshots)
    registry = CollectorRegistry()
    registry.register(FeedCollector(lambda: told.pop(0)))
    pages = [generate_latest(registry).decode() for _ in snapshots]
    return [line for line in pages[-1].splitlines() if not line.startswith("#")]


def test_all_that_a_feeder_tells_is_shown_under_its_name() -> None:
    assert page(NOW) == [
        'twofold_kv_directory_batches_total{outcome="applied"} 1.0',
        'twofold_kv_directory_batches_total{outcome="lost"} 2.0',
        "twofold_kv_directory_rebuilds_total 3.0",
        "twofold_kv_directory_refused_blocks_total 4.0",
        "twofold_kv_directory_errors_total 5.0",
        "twofold_kv_directory_holdings 6.0",
        "twofold_kv_directory_degraded 1.0",
        "twofold_kv_directory_lag_seconds 7.5",
    ]
    assert len(page(NOW)) == len(fields(NOW))


def test_a_page_says_how_it_is_when_somebody_looks() -> None:
    later = FeedSnapshot(9, 0, 0, 0, 0, 0, False, 0.0)

    assert 'twofold_kv_directory_batches_total{outcome="applied"} 9.0' in page(NOW, later)
