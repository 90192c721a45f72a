"""What Prometheus reads."""

from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from twofold_cluster.identity import Role, WorkerId
from twofold_cluster.worker import Worker
from twofold_router.metrics import PREFIX, Leg, Metrics, Promise, RouterSnapshot, metrics_text
from twofold_router.placement import (
    Dispatch,
    Mode,
    PlacementSnapshot,
    PromptUsage,
    Reason,
    WorkerCounts,
)
from twofold_router.testing.workers import make_worker

P1, P2, D1 = (
    make_worker(name, role)
    for name, role in (("p1", Role.PREFILL), ("p2", Role.PREFILL), ("d1", Role.DECODE))
)
DISPATCH = Dispatch(request_id="r", prefill=P1, decode=D1, mode=Mode.DISAGGREGATED)
FALLBACK = Dispatch(
    request_id="r",
    prefill=None,
    decode=D1,
    mode=Mode.FALLBACK,
    reason=Reason.PREFILL_FAILED,
    cached_tokens=32.0,
)


def counts_of(worker: Worker, **changes: Any) -> WorkerCounts:
    values: dict[str, Any] = {"queued": 0, "unprefilled": 0, "decoding": 0, "pending_tokens": 0.0}
    values |= {"mirrored_blocks": 0, "mirror_is": "approximate"} | changes
    return WorkerCounts(worker_id=WorkerId(worker.worker_id), **values)


def read(metrics: Metrics, *workers: WorkerCounts, **changes: Any) -> dict[str, float]:
    """Return all samples by name and labels, as ``name{label="value"}``."""
    placement = PlacementSnapshot(
        queued=changes.pop("queued", 0),
        in_flight=changes.pop("in_flight", 0),
        moved=changes.pop("moved", 0),
        workers=workers,
    )
    snapshot = RouterSnapshot(
        metrics.tallies,
        placement,
        changes.pop("known", (P1, P2, D1)),
        changes.pop("stale", False),
        changes.pop("connections", 0),
    )
    assert not changes
    return {
        sample.name.removeprefix(PREFIX) + _labels(sample.labels): sample.value
        for family in text_string_to_metric_families(metrics_text(snapshot).decode())
        for sample in family.samples
    }


def _labels(labels: dict[str, str]) -> str:
    return "".join(f" {name}={value}" for name, value in sorted(labels.items()))


def test_requests_are_counted_by_mode_reason_and_end() -> None:
    metrics = Metrics()
    for dispatch, status in ((DISPATCH, "2xx"), (DISPATCH, "2xx"), (FALLBACK, "left"), (None, "")):
        metrics.request(dispatch, status or "4xx")

    seen = read(metrics)
    assert seen["requests_total mode=disaggregated reason= status=2xx"] == 2
    assert seen["requests_total mode=fallback reason=prefill-failed status=left"] == 1
    assert seen["requests_total mode=none reason= status=4xx"] == 1


def test_everything_else_that_is_counted_has_its_labels() -> None:
    metrics = Metrics()
    metrics.refusal("no_worker")
    metrics.upstream_error(Leg.PREFILL, "broken")
    metrics.retry(Leg.DECODE)
    metrics.release("released")
    metrics.continuation("tried")
    metrics.kv_events("loss")
    metrics.key_reload("failed")
    metrics.limit_alone()
    metrics.promise("default", Promise.LATE)
    metrics.worker_loss(Role.DECODE)
    metrics.output(7)
    metrics.output(3)

    seen = read(metrics)
    assert seen["refusals_total code=no_worker"] == 1
    assert seen["slo_total class=default outcome=late"] == 1
    assert seen["worker_losses_total role=decode"] == 1
    assert seen["upstream_errors_total kind=broken leg=1"] == 1
    assert seen["retries_total leg=2"] == 1
    assert seen["releases_total outcome=released"] == 1
    assert seen["continuations_total outcome=tried"] == 1
    assert seen["kv_events_total what=loss"] == 1
    assert seen["key_reloads_total outcome=failed"] == 1
    assert seen["limits_alone_total"] == 1
    assert seen["output_tokens_total"] == 10


@pytest.mark.parametrize(("cached", "predicted", "reported"), [(16, 32, 16), (None, 0, 0)])
def test_cached_tokens_are_compared_only_where_the_engine_tells_of_them(
    cached: int | None, predicted: int, reported: int
) -> None:
    metrics = Metrics()
    metrics.prompt(FALLBACK, PromptUsage(100, cached))

    seen = read(metrics)
    assert seen["prompt_tokens_total"] == 100
    assert seen["cached_tokens_predicted_total"] == predicted
    assert seen["cached_tokens_reported_total"] == reported


def test_a_count_without_labels_is_0_before_it_moves() -> None:
    seen = read(Metrics())

    assert seen["output_tokens_total"] == seen["prompt_tokens_total"] == 0


def test_what_alerts_wait_for_is_0_before_it_happens() -> None:
    seen = read(Metrics())

    assert [seen[f"worker_losses_total role={role}"] for role in Role] == [0, 0, 0]
    assert seen["refusals_total code=no_worker"] == 0


def test_a_histogram_adds_up_its_buckets() -> None:
    metrics = Metrics()
    for seconds in (0.001, 0.02, 0.02, 1000.0):
        metrics.ttft(seconds)
    metrics.leg(Leg.RELEASE, 0.3)
    metrics.placement(0.00002)
    metrics.queue(0.0)
    metrics.ttft_predicted(0.1)
    metrics.tpot(0.03)

    seen = read(metrics)
    assert seen["ttft_seconds_bucket le=0.005"] == 1
    assert seen["ttft_seconds_bucket le=0.025"] == 3
    assert seen["ttft_seconds_bucket le=640.0"] == 3
    assert seen["ttft_seconds_bucket le=+Inf"] == seen["ttft_seconds_count"] == 4
    assert seen["ttft_seconds_sum"] == pytest.approx(1000.041)
    assert seen["leg_seconds_count leg=release"] == 1
    assert seen["placement_seconds_bucket le=2.5e-05"] == 1
    assert seen["tpot_seconds_bucket le=0.03"] == 1
    assert seen["queue_seconds_count"] == seen["ttft_predicted_seconds_count"] == 1


def test_the_state_is_that_of_the_snapshot() -> None:
    seen = read(
        Metrics(),
        counts_of(P1, queued=1, unprefilled=2, pending_tokens=30.0, mirrored_blocks=5),
        counts_of(P2, mirror_is="exact"),
        counts_of(D1, decoding=4, pending_tokens=900.0),
        queued=1,
        in_flight=6,
        moved=7,
        stale=True,
        connections=8,
    )

    assert (seen["queued"], seen["in_flight"], seen["moves_total"]) == (1, 6, 7)
    assert (seen["membership_stale"], seen["connections"]) == (1, 8)
    assert seen["workers role=prefill"] == 2
    assert seen["workers role=both"] == 0
    assert seen["worker_in_flight phase=queue worker=p1"] == 1
    assert seen["worker_in_flight phase=prefill worker=p1"] == 2
    assert seen["worker_in_flight phase=decode worker=d1"] == 4
    assert seen["worker_pending_tokens worker=p1"] == 30
    assert seen["worker_mirrored_blocks state=approximate worker=p1"] == 5
    assert seen["worker_mirrored_blocks state=exact worker=p2"] == 0
    assert seen["prefill_skew"] == 2.0, "that of the prefill workers alone"


@pytest.mark.parametrize("workers", [(), (P1,), (P1, P2)])
def test_without_work_there_is_no_skew(workers: tuple[Worker, ...]) -> None:
    assert read(Metrics(), *map(counts_of, workers), known=workers)["prefill_skew"] == 1.0
