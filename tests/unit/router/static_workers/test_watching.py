"""A given worker's entry: when it is there, in which incarnation, and what it says."""

from dataclasses import replace
from itertools import count

from hypothesis import given
from hypothesis import strategies as st

from twofold_cluster.identity import Incarnation, Role
from twofold_cluster.worker import Engine, Load, Worker
from twofold_router.static_workers.engine_metrics import EngineMetrics
from twofold_router.static_workers.errors import ProbeFailedError, RefusedError
from twofold_router.static_workers.flags import GivenWorker
from twofold_router.static_workers.probing import Reading
from twofold_router.static_workers.watching import (
    UNKNOWN_BLOCK_TOKENS,
    UNKNOWN_CAPACITY_TOKENS,
    UNKNOWN_MODEL_TOKENS,
    Watch,
)

METRICS = EngineMetrics(
    running_count=3,
    waiting_count=2,
    kv_used_fraction=0.12345,
    kv_capacity_tokens=16_000,
    kv_block_tokens=32,
    started_at=1.0,
)
READING = Reading(model="m", max_model_tokens=8192, version="0.32.0", metrics=METRICS)
SILENT = replace(READING, max_model_tokens=None, metrics=EngineMetrics())
FAILED = ProbeFailedError("no")
REFUSED = RefusedError("refused")


def watch(failures_to_gone: int = 3) -> Watch:
    lives = count(1)
    return Watch(
        GivenWorker(Role.PREFILL, "http://a:8000", "tcp://a:5557", "tcp://a:5558"),
        "service",
        failures_to_gone=failures_to_gone,
        incarnate=lambda: Incarnation(str(next(lives))),
    )


def incarnation_after(*events: Reading | ProbeFailedError) -> str | None:
    watched = watch()
    for event in events:
        if isinstance(event, Reading):
            watched.answered(event)
        else:
            watched.failed(event)
    return watched.worker.incarnation if watched.worker else None


def restarted(started_at: float | None) -> Reading:
    return replace(READING, metrics=replace(METRICS, started_at=started_at))


def test_an_adapter_that_is_loaded_is_announced_in_the_same_life() -> None:
    watched = watch()
    watched.answered(READING)
    watched.answered(replace(READING, adapters=("tuned",)))

    assert watched.worker is not None
    assert (watched.worker.adapters, watched.worker.incarnation) == (("tuned",), "1")


def test_a_worker_is_there_from_its_first_answer_and_is_as_it_says() -> None:
    watched = watch()
    assert watched.worker is None

    watched.answered(replace(READING, aliases=("n",)))

    assert watched.worker == Worker(
        worker_id=watched.given.worker_id,
        incarnation=Incarnation("1"),
        service="service",
        role=Role.PREFILL,
        revision="",
        address="http://a:8000",
        model="m",
        aliases=("n",),
        engine=Engine(version="0.32.0", compatibility=""),
        kv_capacity_tokens=16_000,
        kv_block_tokens=32,
        max_model_tokens=8192,
        kv_events="tcp://a:5557",
        kv_events_replay="tcp://a:5558",
        load=Load(running_count=3, waiting_count=2, kv_used_fraction=0.123),
    )


def test_a_worker_is_gone_after_three_failures_in_a_row() -> None:
    assert incarnation_after(READING, FAILED, FAILED) == "1"
    assert incarnation_after(READING, FAILED, FAILED, FAILED) is None
    assert incarnation_after(READING, FAILED, FAILED, READING, FAILED, FAILED) == "1"


def test_a_worker_is_gone_after_two_refusals_in_a_row() -> None:
    assert incarnation_after(READING, REFUSED) == "1"
    assert incarnation_after(READING, REFUSED, REFUSED) is None
    assert incarnation_after(READING, FAILED, REFUSED, REFUSED) is None
    assert incarnation_after(READING, REFUSED, READING, REFUSED) == "1"


def test_refusals_do_not_add_up_over_another_failure() -> None:
    watched = watch(failures_to_gone=5)
    watched.answered(READING)
    for error in (REFUSED, FAILED, REFUSED):
        watched.failed(error)
    assert watched.worker is not None

    watched.failed(REFUSED)
    assert watched.worker is None


def test_a_worker_that_comes_back_is_a_new_incarnation() -> None:
    assert incarnation_after(READING, REFUSED, REFUSED, READING) == "2"
    assert incarnation_after(READING, REFUSED, READING) == "1"


def test_a_worker_whose_process_is_another_is_a_new_incarnation() -> None:
    assert incarnation_after(READING, restarted(2.0)) == "2"
    assert incarnation_after(READING, FAILED, restarted(2.0)) == "2"
    assert incarnation_after(READING, restarted(2.0), restarted(2.0)) == "2"


def test_a_process_start_that_is_not_told_changes_nothing() -> None:
    assert incarnation_after(READING, SILENT, READING) == "1"
    assert incarnation_after(SILENT, READING, restarted(2.0)) == "2"
    assert incarnation_after(READING, SILENT, restarted(2.0)) == "2"
    assert incarnation_after(READING, FAILED, FAILED, FAILED, SILENT, restarted(2.0)) == "2"


def test_another_model_is_a_new_incarnation() -> None:
    assert incarnation_after(SILENT, replace(SILENT, model="other")) == "2"


def test_what_a_server_does_not_tell_is_assumed() -> None:
    watched = watch()
    watched.answered(SILENT)

    assert watched.worker is not None
    assert watched.worker.max_model_tokens == UNKNOWN_MODEL_TOKENS
    assert watched.worker.kv_capacity_tokens == UNKNOWN_CAPACITY_TOKENS
    assert watched.worker.kv_block_tokens == UNKNOWN_BLOCK_TOKENS
    assert watched.worker.load == Load()


def test_the_assumed_capacity_holds_the_longest_request() -> None:
    watched = watch()
    watched.answered(replace(SILENT, max_model_tokens=10 * UNKNOWN_CAPACITY_TOKENS))

    assert watched.worker is not None
    assert watched.worker.kv_capacity_tokens == 10 * UNKNOWN_CAPACITY_TOKENS


def test_what_was_told_once_holds_for_the_life() -> None:
    watched = watch()
    watched.answered(READING)
    watched.answered(replace(SILENT, max_model_tokens=8192))
    assert watched.worker is not None
    assert watched.worker.kv_capacity_tokens == 16_000
    assert watched.worker.kv_block_tokens == 32

    watched.answered(replace(SILENT, model="other"))
    assert watched.worker.kv_capacity_tokens == UNKNOWN_CAPACITY_TOKENS


EVENTS = st.lists(st.sampled_from([READING, restarted(2.0), SILENT, FAILED, REFUSED]), max_size=12)


@given(EVENTS)
def test_a_worker_is_there_exactly_when_its_last_answer_is_not_too_many_failures_ago(
    events: list[Reading | ProbeFailedError],
) -> None:
    alive, failures, refusals = False, 0, 0
    for event in events:
        if isinstance(event, Reading):
            alive, failures, refusals = True, 0, 0
        else:
            failures, refusals = failures + 1, refusals + 1 if event is REFUSED else 0
            alive = alive and failures < 3 and refusals < 2

    assert (incarnation_after(*events) is not None) == alive
