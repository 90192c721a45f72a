"""Workers that refuse, fail, vanish or hang: each failure has its stated answer, and is counted."""

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from twofold_cluster.apis import Api
from twofold_cluster.errors import Fault
from twofold_cluster.worker import Load, WorkerState
from twofold_router.testing import Received
from twofold_router.testing.answers import died

if TYPE_CHECKING:
    from tests.integration.gateway.conftest import Cluster, OpenCluster


WORDS = "abcdefghijkl"
"""Prompts enough that each worker is the first choice of one."""


def say(word: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": word}]


def misbehave(cluster: "Cluster", names: str, **behaviour: Any) -> None:
    for name in names.split():
        for field, value in behaviour.items():
            setattr(cluster[name].behaviour, field, value)


def renew(cluster: "Cluster", name: str, **changes: Any) -> None:
    """Have worker *name* announce something else."""
    engine = cluster[name]
    engine.worker = msgspec.structs.replace(engine.worker, **changes)
    cluster.follow(*cluster.engines)


def chats_at(cluster: "Cluster", name: str) -> list[Received]:
    """Return what engine *name* got of clients that ask for chats."""
    return [each for each in cluster[name].received if each.path == Api.CHAT]


def trials_at(cluster: "Cluster", name: str) -> list[Received]:
    """Return what engine *name* got of the gateway itself, where clients ask for chats."""
    return [each for each in cluster[name].received if each.path == Api.COMPLETIONS]


async def until_it_hangs(cluster: "Cluster", name: str) -> None:
    """Have engine *name* hang, and the gateway know."""
    cluster[name].behaviour.gate.clear()
    await asyncio.gather(*(cluster.ask(stream=True, messages=say(word)) for word in WORDS))
    await cluster.eventually(lambda: cluster.metric("upstream_errors_total", leg="trial") == 1)


# --- leg 1 ---


async def test_a_busy_prefill_worker_is_passed_over(open_cluster: "OpenCluster") -> None:
    async with open_cluster("p1 p2 d1") as cluster:
        misbehave(cluster, "p1", refusal=Fault.PREFILL_BUSY)
        seen = [await cluster.ask(messages=say(word)) for word in WORDS]

        assert {each.served for each in seen} == {("disaggregated", "p2", "d1", None)}
        asked = len(cluster["p1"].received)
        assert asked
        assert cluster.metric("retries_total", leg="1") == asked
        assert cluster.metric("upstream_errors_total", leg="1", kind="refused") == asked


async def test_after_the_candidates_any_other_prefill_worker_is_asked(
    open_cluster: "OpenCluster",
) -> None:
    async with open_cluster("p1 p2 p3 p4 p5 d1", max_attempts=5) as cluster:
        misbehave(cluster, "p1 p2 p3 p4", status=500)
        seen = [await cluster.ask(messages=say(word)) for word in WORDS]

        assert {each.served for each in seen} == {("disaggregated", "p5", "d1", None)}


async def test_the_prefill_workers_that_are_asked_are_bounded(open_cluster: "OpenCluster") -> None:
    async with open_cluster("p1 p2 p3 p4 p5 d1", max_attempts=3) as cluster:
        misbehave(cluster, "p1 p2 p3 p4 p5", status=500)
        seen = await cluster.ask()

        assert seen.served == ("fallback", None, "d1", "prefill-failed")
        assert sum(len(engine.received) for engine in cluster.engines.values()) == 3 + 1


FAILED = [
    ({"refusal": Fault.PREFILL_BUSY}, "prefill-refused", "refused"),
    ({"refusal": Fault.DRAINING}, "prefill-refused", "refused"),
    ({"status": 500}, "prefill-failed", "failed"),
    ({"drops": True}, "prefill-failed", "broken"),
    ({"omits_params": True}, "invalid-params", "invalid-params"),
]


@pytest.mark.parametrize(("behaviour", "reason", "kind"), FAILED)
async def test_without_leg_1_the_decode_worker_computes_and_says_why(
    open_cluster: "OpenCluster", behaviour: dict[str, Any], reason: str, kind: str
) -> None:
    async with open_cluster("p1 d1") as cluster:
        misbehave(cluster, "p1", **behaviour)
        seen = await cluster.ask()

        assert seen.status == 200
        assert seen.served == ("fallback", None, "d1", reason)
        assert len(cluster["p1"].received) == 1
        assert "kv_transfer_params" not in cluster["d1"].received[0].body
        labels = {"mode": "fallback", "reason": reason, "status": "2xx"}
        assert cluster.metric("requests_total", **labels) == 1
        assert cluster.metric("upstream_errors_total", leg="1", kind=kind) == 1


async def test_a_prefill_worker_that_cannot_be_reached_is_suspect_for_a_while(
    open_cluster: "OpenCluster",
) -> None:
    async with open_cluster("p1 p2 d1", suspect_seconds=60.0) as cluster:
        cluster.unreach("p1")
        seen = [await cluster.ask(messages=say(word)) for word in WORDS]

        assert {each.served[:3] for each in seen} == {("disaggregated", "p2", "d1")}
        assert cluster.metric("upstream_errors_total", leg="1", kind="unreachable") == 1


async def test_a_suspect_worker_is_trusted_again(open_cluster: "OpenCluster") -> None:
    async with open_cluster("p1 d1", suspect_seconds=0.05) as cluster:
        right = cluster.unreach("p1")
        during = await cluster.ask()
        cluster.restore(right)
        await asyncio.sleep(0.1)

        assert during.served[0] == "fallback"
        assert (await cluster.ask()).served[0] == "disaggregated"


async def test_a_leg_1_that_takes_too_long_is_given_up(open_cluster: "OpenCluster") -> None:
    async with open_cluster("p1 d1", leg_1_timeout_seconds=0.1) as cluster:
        cluster["p1"].behaviour.gate.clear()

        assert (await cluster.ask()).served == ("fallback", None, "d1", "prefill-failed")
        await cluster.eventually(lambda: cluster["p1"].aborted == 1)
        assert cluster.metric("upstream_errors_total", leg="1", kind="timeout") == 1
        cluster["p1"].behaviour.gate.set()


async def test_what_the_engine_refuses_in_leg_1_is_the_answer(open_cluster: "OpenCluster") -> None:
    async with open_cluster("p1 p2 d1") as cluster:
        misbehave(cluster, "p1 p2", status=400)
        seen = await cluster.ask()

        assert (seen.status, seen.error["message"]) == (400, "as vLLM says")
        assert len(cluster["p1"].received) + len(cluster["p2"].received) == 1
        assert not cluster.leg_2s


async def test_no_prefill_worker_is_an_error_where_that_is_set(open_cluster: "OpenCluster") -> None:
    async with open_cluster("d1", on_no_prefill="fail") as cluster:
        seen = await cluster.ask()

        assert (seen.status, seen.error["code"]) == (503, "no_worker")
        assert "Retry-After" in seen.headers


async def test_a_prefill_worker_that_refuses_is_an_error_where_that_is_set(
    open_cluster: "OpenCluster",
) -> None:
    async with open_cluster("p1 d1", on_no_prefill="fail") as cluster:
        misbehave(cluster, "p1", refusal=Fault.PREFILL_BUSY)
        seen = await cluster.ask()

        assert (seen.status, seen.error["code"]) == (429, "prefill_busy")
        assert "Retry-After" in seen.headers


async def test_without_a_prefill_worker_the_reason_is_told(open_cluster: "OpenCluster") -> None:
    async with open_cluster("d1") as cluster:
        assert (await cluster.ask()).served == ("fallback", None, "d1", "no-prefill-worker")


# --- leg 2 ---


@pytest.mark.parametrize("refusal", [Fault.DECODE_BUSY, Fault.DRAINING])
async def test_a_refusing_decode_worker_is_replaced_and_the_blocks_are_used(
    open_cluster: "OpenCluster", refusal: Fault
) -> None:
    async with open_cluster("p1 d1 d2") as cluster:
        misbehave(cluster, "d1", refusal=refusal)
        seen = [await cluster.ask() for _ in range(2)]

        assert {each.served for each in seen} == {("disaggregated", "p1", "d2", None)}
        assert len(cluster["d1"].received) >= 1
        assert all(leg.params["remote_engine_id"] == "p1" for leg in cluster["d2"].received)
        assert not cluster.leases
        refused = cluster.metric("upstream_errors_total", leg="2", kind="refused")
        assert cluster.metric("retries_total", leg="2") == refused == len(cluster["d1"].received)


async def test_a_decode_worker_that_cannot_be_reached_is_replaced(
    open_cluster: "OpenCluster",
) -> None:
    async with open_cluster("p1 d1 d2") as cluster:
        cluster.unreach("d1")
        seen = [await cluster.ask() for _ in range(2)]

        assert {each.served for each in seen} == {("disaggregated", "p1", "d2", None)}
        assert cluster.metric("upstream_errors_total", leg="2", kind="unreachable") == 1


async def lead_to_d1(cluster: "Cluster") -> None:
    """Have the next request decoded at d1, whose turn it is after d2."""
    for _ in range(5):
        if (await cluster.ask()).served[2] == "d2":
            return
    raise AssertionError("d2 decodes nothing")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("behaviour", [{"status": 500}, {"drops": True}])
async def test_a_failed_transfer_is_computed_again_and_released(
    open_cluster: "OpenCluster", behaviour: dict[str, Any], stream: bool
) -> None:
    async with open_cluster("p1 d1 d2") as cluster:
        await lead_to_d1(cluster)
        misbehave(cluster, "d1", **behaviour)
        seen = await cluster.ask(stream=stream)
        await cluster.eventually(lambda: not cluster.leases)

        assert seen.status == 200
        assert seen.served == ("fallback", None, "d2", "transfer-failed")
        await cluster.eventually(lambda: cluster.metric("releases_total", outcome="released") == 1)


async def test_what_no_decode_worker_of_its_revision_takes_is_computed_elsewhere(
    open_cluster: "OpenCluster",
) -> None:
    async with open_cluster("p1 d1 d2 d3 d4", max_attempts=2) as cluster:
        for name in ("d3", "d4"):
            renew(cluster, name, revision="r2")
        cluster.keeps_leases = True  # those who could free the blocks refuse that too
        misbehave(cluster, "d1 d2", refusal=Fault.DRAINING)
        seen = await cluster.ask()
        tried = len(cluster["d1"].received) + len(cluster["d2"].received)

        assert seen.status == 200
        assert seen.served[::3] == ("fallback", "decode-refused")
        assert seen.served[2] in ("d3", "d4")
        assert tried >= 2
        labels = {"mode": "fallback", "reason": "decode-refused", "status": "2xx"}
        assert cluster.metric("requests_total", **labels) == 1
        assert cluster.metric("retries_total", leg="2") == 2


async def test_a_leg_2_that_all_refuse_is_tried_once_beyond_the_bound(
    open_cluster: "OpenCluster",
) -> None:
    async with open_cluster("p1 d1 d2 d3 d4 d5 d6", max_attempts=2) as cluster:
        cluster.keeps_leases = True
        misbehave(cluster, "d1 d2 d3 d4 d5 d6", refusal=Fault.DECODE_BUSY)
        seen = await cluster.ask(max_tokens=50)

        assert (seen.status, seen.error["code"]) == (429, "decode_busy")
        assert [leg.body["max_tokens"] for leg in cluster.leg_2s].count(50) == 2 + 1


async def test_a_worker_on_standby_takes_the_second_leg_of_its_own_revision(
    open_cluster: "OpenCluster",
) -> None:
    async with open_cluster("p1 d1 d2") as cluster:
        renew(cluster, "d2", revision="r2")
        cluster["p1"].behaviour.gate.clear()
        asking = asyncio.create_task(cluster.ask())
        await cluster.eventually(lambda: cluster["p1"].received)
        renew(cluster, "p1", state=WorkerState.STANDBY)
        renew(cluster, "d1", state=WorkerState.STANDBY)
        cluster["p1"].behaviour.gate.set()
        begun, new = await asking, await cluster.ask()

        assert begun.served == ("disaggregated", "p1", "d1", None)
        assert new.served == ("fallback", None, "d2", "no-prefill-worker")


@pytest.mark.parametrize("behaviour", [{"status": 500}, {"drops": True}, {"fails_to_load": True}])
async def test_a_failed_transfer_is_told_where_nothing_may_be_computed_again(
    open_cluster: "OpenCluster", behaviour: dict[str, Any]
) -> None:
    async with open_cluster("p1 d1", on_transfer_failure="fail") as cluster:
        cluster.keeps_leases = True
        misbehave(cluster, "d1", **behaviour)
        seen = await cluster.ask(stream=True)
        misbehave(cluster, "d1", status=None, drops=False, fails_to_load=False)

        assert (seen.status, seen.error["code"]) == (502, "transfer_failed")
        assert seen.served[:3] == ("disaggregated", "p1", "d1")
        assert len([leg for leg in cluster.leg_2s if leg.body.get("stream")]) == 1
        assert cluster.metric("refusals_total", code="transfer_failed") == 1


async def test_a_refused_leg_2_goes_to_another_worker_where_nothing_may_be_computed_again(
    open_cluster: "OpenCluster",
) -> None:
    async with open_cluster("p1 d1 d2", on_transfer_failure="fail") as cluster:
        cluster.keeps_leases = True
        misbehave(cluster, "d1", refusal=Fault.DECODE_BUSY)
        passed_on = [await cluster.ask() for _ in range(2)]
        misbehave(cluster, "d2", refusal=Fault.DECODE_BUSY)
        refused = await cluster.ask()

        assert {each.served for each in passed_on} == {("disaggregated", "p1", "d2", None)}
        assert (refused.status, refused.error["code"]) == (429, "decode_busy")


async def test_a_refused_leg_2_is_computed_again_at_once_where_that_is_set(
    open_cluster: "OpenCluster",
) -> None:
    async with open_cluster("p1 d1 d2", on_transfer_failure="recompute") as cluster:
        await lead_to_d1(cluster)
        misbehave(cluster, "d1", refusal=Fault.DECODE_BUSY)
        seen = await cluster.ask()

        assert seen.served == ("fallback", None, "d2", "decode-refused")


async def test_a_decode_worker_that_broke_the_connection_is_not_asked_again(
    open_cluster: "OpenCluster",
) -> None:
    async with open_cluster("p1 d1", release_timeout_seconds=0.1) as cluster:
        cluster.keeps_leases = True
        misbehave(cluster, "d1", drops=True)
        seen = await cluster.ask(max_tokens=50)

        assert (seen.status, seen.error["code"]) == (502, "engine_failed")
        assert [leg.body["max_tokens"] for leg in cluster.leg_2s].count(50) == 1


ALL_FAIL = [
    ({"drops": True}, 502, "engine_failed"),
    ({"status": 500}, 500, "engine_failed"),
    ({"refusal": Fault.DECODE_BUSY}, 429, "decode_busy"),
    ({"refusal": Fault.DRAINING}, 503, "draining"),
]


@pytest.mark.parametrize(("behaviour", "status", "code"), ALL_FAIL)
async def test_with_no_decode_worker_left_the_last_error_is_told(
    open_cluster: "OpenCluster", behaviour: dict[str, Any], status: int, code: str
) -> None:
    async with open_cluster("p1 d1 d2", release_timeout_seconds=0.3) as cluster:
        cluster.keeps_leases = True
        misbehave(cluster, "d1 d2", **behaviour)
        seen = await cluster.ask()
        await cluster.eventually(lambda: cluster.metric("releases_total", outcome="release_failed"))

        assert (seen.status, seen.error["code"]) == (status, code)
        assert ("Retry-After" in seen.headers) == ("refusal" in behaviour)
        if "refusal" in behaviour:
            assert seen.headers["Retry-After"] == "7"


async def test_a_decode_worker_that_refused_is_not_asked_again(open_cluster: "OpenCluster") -> None:
    async with open_cluster("d1", disaggregate=False) as cluster:
        misbehave(cluster, "d1", refusal=Fault.DECODE_BUSY)

        assert (await cluster.ask()).status == 429
        assert len(cluster["d1"].received) == 1


async def test_the_decode_workers_that_are_asked_are_bounded(open_cluster: "OpenCluster") -> None:
    names = "d1 d2 d3 d4 d5"
    async with open_cluster(names, disaggregate=False, max_attempts=3) as cluster:
        misbehave(cluster, names, drops=True)

        assert (await cluster.ask()).status == 502
        assert len(cluster.leg_2s) == 3


async def test_an_engine_error_keeps_its_status_and_message(open_cluster: "OpenCluster") -> None:
    async with open_cluster("d1 d2", disaggregate=False) as cluster:
        misbehave(cluster, "d1 d2", status=400)
        seen = await cluster.ask()

        assert (seen.status, seen.error["message"]) == (400, "as vLLM says")
        assert len(cluster.leg_2s) == 1
        assert cluster.metric("upstream_errors_total", leg="2", kind="rejected") == 1


async def test_what_leg_2_is_refused_as_invalid_has_its_blocks_released(
    open_cluster: "OpenCluster",
) -> None:
    async with open_cluster("p1 d1") as cluster:
        misbehave(cluster, "d1", status=400)
        seen = await cluster.ask()
        misbehave(cluster, "d1", status=None)

        assert seen.status == 400
        await cluster.eventually(lambda: not cluster.leases)


async def test_an_answer_that_is_too_large_to_hold_is_an_error(open_cluster: "OpenCluster") -> None:
    async with open_cluster("d1", disaggregate=False, max_answer_bytes=10) as cluster:
        seen = await cluster.ask()

        assert (seen.status, seen.error["code"]) == (502, "engine_failed")
        assert len(cluster["d1"].received) == 1


async def test_a_redirect_is_no_answer(open_cluster: "OpenCluster") -> None:
    async with open_cluster("d1", disaggregate=False) as cluster:
        misbehave(cluster, "d1", status=302)
        seen = await cluster.ask()

        assert (seen.status, seen.error["code"]) == (502, "engine_failed")


# --- leg 2 as a stream, before its first byte ---


async def test_a_stream_that_breaks_before_its_first_byte_is_begun_anew(
    open_cluster: "OpenCluster",
) -> None:
    async with open_cluster("d1 d2", disaggregate=False) as cluster:
        misbehave(cluster, "d1", cut_after_events=0)
        seen = [await cluster.ask(stream=True, messages=say(word)) for word in WORDS]

        assert {each.served for each in seen} == {("aggregated", None, "d2", None)}
        assert {each.said for each in seen} == {"a0 a1 a2 "}
        asked = len(cluster["d1"].received)
        assert asked
        assert cluster.metric("upstream_errors_total", leg="2", kind="broken") == asked


@pytest.mark.parametrize("opens", [False, True])
async def test_a_stream_that_does_not_begin_is_asked_of_another_worker(
    open_cluster: "OpenCluster", opens: bool
) -> None:
    async with open_cluster("d1 d2", disaggregate=False, first_byte_timeout_seconds=0.1) as cluster:
        if opens:
            misbehave(cluster, "d1", pause_after_events=0)
        else:
            cluster["d1"].behaviour.gate.clear()
        seen = [await cluster.ask(stream=True, messages=say(word)) for word in WORDS]

        assert {each.served for each in seen} == {("aggregated", None, "d2", None)}
        asked = len(chats_at(cluster, "d1"))
        assert asked
        await cluster.eventually(lambda: cluster["d1"].aborted == asked)
        assert cluster.metric("upstream_errors_total", leg="2", kind="timeout") == asked
        cluster["d1"].behaviour.gate.set()


async def test_a_leg_2_that_does_not_begin_is_computed_by_another_worker(
    open_cluster: "OpenCluster",
) -> None:
    async with open_cluster(
        "p1 d1 d2", first_byte_timeout_seconds=0.1, release_timeout_seconds=0.1
    ) as cluster:
        cluster.keeps_leases = True
        await lead_to_d1(cluster)
        cluster["d1"].behaviour.gate.clear()
        seen = await cluster.ask(stream=True)

        assert seen.served == ("fallback", None, "d2", "transfer-failed")
        assert seen.said == "a0 a1 a2 "
        cluster["d1"].behaviour.gate.set()


async def test_a_decode_worker_that_hangs_is_not_asked_again(open_cluster: "OpenCluster") -> None:
    async with open_cluster(
        "p1 d1", first_byte_timeout_seconds=0.1, release_timeout_seconds=0.1
    ) as cluster:
        cluster.keeps_leases = True
        cluster["d1"].behaviour.gate.clear()
        seen = await cluster.ask(stream=True, max_tokens=50)

        assert (seen.status, seen.error["code"]) == (504, "deadline_exceeded")
        assert [leg.body["max_tokens"] for leg in cluster.leg_2s].count(50) == 1
        cluster["d1"].behaviour.gate.set()


async def test_a_stream_that_begins_nowhere_is_too_late(open_cluster: "OpenCluster") -> None:
    async with open_cluster("d1", disaggregate=False, first_byte_timeout_seconds=0.1) as cluster:
        cluster["d1"].behaviour.gate.clear()
        seen = await cluster.ask(stream=True)

        assert (seen.status, seen.error["code"]) == (504, "deadline_exceeded")
        assert seen.error["message"].startswith("the engine sent nothing within")
        cluster["d1"].behaviour.gate.set()


async def test_a_worker_that_hangs_gets_nothing_until_it_answers(
    open_cluster: "OpenCluster",
) -> None:
    async with open_cluster("d1 d2", disaggregate=False, first_byte_timeout_seconds=0.2) as cluster:
        await until_it_hangs(cluster, "d1")
        suspected = [await cluster.ask(stream=True, messages=say(word)) for word in WORDS]
        asked = len(chats_at(cluster, "d1"))
        await asyncio.sleep(1.2)  # a suspicion that nobody renewed would be over
        still = [await cluster.ask(stream=True, messages=say(word)) for word in WORDS]
        asked_later = len(chats_at(cluster, "d1"))
        cluster["d1"].behaviour.gate.set()
        await asyncio.sleep(1.2)
        cluster.follow("d1")

        assert {each.served[2] for each in suspected + still} == {"d2"}
        assert asked_later == asked
        assert (await cluster.ask(stream=True)).said == "a0 a1 a2 "
        assert len(trials_at(cluster, "d1")) == 1
        assert cluster.metric("upstream_errors_total", leg="trial", kind="timeout") == 1


@pytest.mark.parametrize("stream", [False, True])
async def test_who_waits_at_a_worker_that_hangs_asks_elsewhere(
    open_cluster: "OpenCluster", stream: bool
) -> None:
    async with open_cluster("d1 d2", disaggregate=False, first_byte_timeout_seconds=0.2) as cluster:
        cluster["d1"].behaviour.gate.clear()
        seen = await asyncio.gather(
            *(cluster.ask(stream=stream, messages=say(word)) for word in WORDS)
        )

        assert {each.served[2] for each in seen} == {"d2"}
        assert {each.said for each in seen} == {"a0 a1 a2 "}
        cluster["d1"].behaviour.gate.set()


async def test_a_leg_1_at_a_worker_that_hangs_is_not_waited_for(
    open_cluster: "OpenCluster",
) -> None:
    async with open_cluster(
        "p1 p2 d1", first_byte_timeout_seconds=0.2, leg_1_timeout_seconds=4.0
    ) as cluster:
        cluster.follow("p1", "d1")
        cluster["p1"].behaviour.gate.clear()
        first = asyncio.create_task(cluster.ask(messages=say("first")))
        await asyncio.sleep(3.5)
        second = asyncio.create_task(cluster.ask(messages=say("second")))
        await cluster.eventually(lambda: len(cluster["p1"].received) == 2)
        cluster.follow("p1", "p2", "d1")
        await first
        seen = await asyncio.wait_for(second, 3.0)  # of the 3.5 that are left to it

        assert seen.served == ("disaggregated", "p2", "d1", None)
        cluster["p1"].behaviour.gate.set()


async def test_a_stream_at_a_worker_that_hangs_goes_on_elsewhere(
    open_cluster: "OpenCluster",
) -> None:
    async with open_cluster("d1 d2", disaggregate=False, first_byte_timeout_seconds=0.2) as cluster:
        cluster.follow("d1")
        misbehave(cluster, "d1", pause_after_events=2)
        begun = asyncio.create_task(cluster.ask(stream=True))
        await cluster.eventually(lambda: not cluster["d1"].behaviour.gate.is_set())
        cluster.follow("d1", "d2")
        await until_it_hangs(cluster, "d1")
        seen = await begun

        assert seen.said == "a0 a1 a2 "
        assert seen.served[2] == "d1"
        assert cluster.metric("continuations_total", outcome="tried") == 1
        cluster["d1"].behaviour.gate.set()


async def test_who_cannot_go_on_elsewhere_is_told_that_the_worker_hangs(
    open_cluster: "OpenCluster",
) -> None:
    async with open_cluster("d1", disaggregate=False, first_byte_timeout_seconds=0.2) as cluster:
        misbehave(cluster, "d1", pause_after_events=2)
        begun = asyncio.create_task(cluster.ask(stream=True, logprobs=True))
        await cluster.eventually(lambda: not cluster["d1"].behaviour.gate.is_set())
        await until_it_hangs(cluster, "d1")
        seen = await begun

        assert "the worker hangs" in seen.events[-2]["error"]["message"]
        cluster["d1"].behaviour.gate.set()


async def test_a_worker_that_refuses_its_trial_is_asked_again(open_cluster: "OpenCluster") -> None:
    async with open_cluster("d1 d2", disaggregate=False, first_byte_timeout_seconds=0.2) as cluster:
        await until_it_hangs(cluster, "d1")
        misbehave(cluster, "d1", refusal=Fault.DECODE_BUSY)
        cluster["d1"].behaviour.gate.set()
        await cluster.eventually(lambda: len(trials_at(cluster, "d1")) == 2)
        cluster.follow("d1")
        during = await cluster.ask()
        misbehave(cluster, "d1", refusal=None)
        await cluster.eventually(lambda: len(trials_at(cluster, "d1")) == 3)
        await asyncio.sleep(1.2)

        assert (during.status, during.error["code"]) == (503, "no_worker")
        assert (await cluster.ask()).said == "a0 a1 a2 "


@pytest.mark.parametrize("sign", ["answers", "fills", "nobody tells"])
async def test_a_worker_that_is_only_busy_is_not_put_on_trial(
    open_cluster: "OpenCluster", sign: str
) -> None:
    async with open_cluster("d1", disaggregate=False, first_byte_timeout_seconds=0.2) as cluster:
        engine = cluster["d1"]
        engine.behaviour.gate.clear()
        asking = asyncio.create_task(cluster.ask(stream=True))
        await cluster.eventually(lambda: engine.received)
        if sign == "fills":
            renew(cluster, "d1", load=Load(kv_used_fraction=0.5))
        elif sign == "nobody tells":
            cluster.dispatcher.stale_if(lambda: True)
        else:
            first, engine.behaviour.gate = engine.behaviour.gate, asyncio.Event()
            engine.behaviour.gate.set()
            await cluster.ask()
            engine.behaviour.gate = first
        seen = await asking
        await asyncio.sleep(0.2)

        assert seen.status == 504
        assert not trials_at(cluster, "d1")
        assert (await cluster.get("/ready")).status == 200
        engine.behaviour.gate.set()


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_may_take_longer_than_a_first_byte(
    open_cluster: "OpenCluster", stream: bool
) -> None:
    async with open_cluster("d1", disaggregate=False, first_byte_timeout_seconds=0.1) as cluster:
        engine = cluster["d1"].behaviour
        if stream:
            engine.pause_after_events = 2
        else:
            engine.gate.clear()
        asked = asyncio.create_task(cluster.ask(stream=stream))
        await cluster.eventually(lambda: cluster["d1"].running == 1)
        for step in range(1, 26):
            renew(cluster, "d1", load=Load(kv_used_fraction=step / 100))
            await asyncio.sleep(0.02)
        engine.gate.set()

        assert (await asked).said == "a0 a1 a2 "


@pytest.mark.parametrize("api", list(Api))
async def test_a_stream_that_begins_with_a_failed_transfer_is_computed_again(
    open_cluster: "OpenCluster", api: Api
) -> None:
    async with open_cluster("p1 d1") as cluster:
        misbehave(cluster, "d1", fails_to_load=True)
        seen = await cluster.ask(api, stream=True, prompt="hello", input="hello")

        assert seen.served == ("fallback", None, "d1", "transfer-failed")
        assert b"error" not in seen.body
        assert b"a2 " in seen.body


@pytest.mark.parametrize("api", list(Api))
async def test_a_comment_does_not_begin_a_stream(open_cluster: "OpenCluster", api: Api) -> None:
    async with open_cluster("d1 d2", disaggregate=False) as cluster:
        cluster.follow("d1")
        behaviour = cluster["d1"].behaviour
        behaviour.pieces = [b": keep-alive\n\n"] * 2 + list(died(api))
        behaviour.pause_after_events = 2
        asking = asyncio.create_task(cluster.ask(api, stream=True, prompt="x", input="x"))
        await cluster.eventually(lambda: cluster["d1"].received and not behaviour.gate.is_set())
        await asyncio.sleep(0.05)
        begun = cluster.metric("ttft_seconds_count")
        cluster.follow("d1", "d2")
        behaviour.gate.set()
        seen = await asking

        assert begun == 0
        assert seen.served[2] == "d2"
        assert b"a2 " in seen.body
        assert b"keep-alive" not in seen.body


async def test_a_response_has_begun_when_its_prompt_is_computed(
    open_cluster: "OpenCluster",
) -> None:
    async with open_cluster("d1", disaggregate=False) as cluster:
        cluster["d1"].behaviour.pause_after_events = 2
        asking = asyncio.create_task(cluster.ask(Api.RESPONSES, stream=True, input="hello"))
        await cluster.eventually(lambda: not cluster["d1"].behaviour.gate.is_set())
        await asyncio.sleep(0.05)
        begun = cluster.metric("ttft_seconds_count")
        cluster["d1"].behaviour.gate.set()
        seen = await asking

        assert begun == 0
        assert cluster.metric("ttft_seconds_count") == 1
        assert [event["type"] for event in seen.events[:3]] == [
            "response.created",
            "response.in_progress",
            "response.output_text.delta",
        ]


async def test_an_empty_stream_is_a_failure(open_cluster: "OpenCluster") -> None:
    async with open_cluster("d1", disaggregate=False) as cluster:
        misbehave(cluster, "d1", pieces=[b""])
        seen = await cluster.ask(stream=True)

        assert (seen.status, seen.error["code"]) == (502, "engine_failed")


async def test_a_stream_that_begins_with_a_clients_error_is_not_tried_elsewhere(
    open_cluster: "OpenCluster",
) -> None:
    async with open_cluster("d1 d2", disaggregate=False) as cluster:
        told = b'data: {"error": {"message": "no such tool", "code": 400}}\n\n'
        misbehave(cluster, "d1 d2", pieces=[told])
        seen = await cluster.ask(stream=True)

        assert (seen.status, seen.error["message"]) == (400, "no such tool")
        assert len(cluster.leg_2s) == 1


async def test_a_worker_that_does_not_let_the_router_in_is_passed_by(
    open_cluster: "OpenCluster",
) -> None:
    async with open_cluster("d1 d2", disaggregate=False) as cluster:
        misbehave(cluster, "d1", status=401)
        seen = [await cluster.ask(messages=say(word)) for word in WORDS]

        assert {each.served for each in seen} == {("aggregated", None, "d2", None)}
        assert cluster.metric("upstream_errors_total", leg="2", kind="unauthorized")
