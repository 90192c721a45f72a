"""Every metric of the router moves, and none has a label that a client chooses."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import pytest

from twofold_cluster.errors import Fault
from twofold_router.access import Classes, parse_class
from twofold_router.metrics import PREFIX, Metrics, RouterSnapshot, metrics_text
from twofold_router.placement import PlacementSnapshot

if TYPE_CHECKING:
    from tests.integration.gateway.conftest import Cluster, OpenCluster

LONG = [{"role": "user", "content": "a long story " * 100}]


async def serve_two_turns(cluster: "Cluster") -> None:
    for _ in range(2):
        await cluster.ask(stream=True, messages=LONG)


async def fail_each_leg(cluster: "Cluster") -> None:
    for name, engine in cluster.engines.items():
        engine.behaviour.drops = name.startswith("p")
    await cluster.ask()
    cluster["d1"].behaviour.refusal = cluster["d2"].behaviour.refusal = Fault.DECODE_BUSY
    await cluster.ask()


async def break_a_stream(cluster: "Cluster") -> None:
    for name in ("d1", "d2"):
        cluster[name].behaviour.cut_after_events = 2
    await cluster.ask(stream=True)


async def leave_in_leg_1(cluster: "Cluster") -> None:
    for name in ("p1", "p2"):
        cluster[name].behaviour.gate.clear()
    client = await cluster.leaving_client()
    await cluster.eventually(lambda: cluster["p1"].running + cluster["p2"].running)
    await client.leave()
    await cluster.eventually(lambda: cluster.metric("requests_total", status="left"))
    for name in ("p1", "p2"):
        cluster[name].behaviour.gate.set()
    await cluster.eventually(lambda: cluster.metric("releases_total"))


async def ask_in_vain(cluster: "Cluster") -> None:
    await cluster.ask(model="stranger")


Scene = Callable[["Cluster"], Awaitable[None]]

COUNTED: list[tuple[str, Scene]] = [
    ("requests_total", serve_two_turns),
    ("prompt_tokens_total", serve_two_turns),
    ("cached_tokens_predicted_total", serve_two_turns),
    ("cached_tokens_reported_total", serve_two_turns),
    ("output_tokens_total", serve_two_turns),
    ("queue_seconds_count", serve_two_turns),
    ("ttft_seconds_count", serve_two_turns),
    ("ttft_predicted_seconds_count", serve_two_turns),
    ("tpot_seconds_count", serve_two_turns),
    ("slo_total", serve_two_turns),
    ("leg_seconds_count", serve_two_turns),
    ("placement_seconds_count", serve_two_turns),
    ("worker_mirrored_blocks", serve_two_turns),
    ("refusals_total", ask_in_vain),
    ("upstream_errors_total", fail_each_leg),
    ("retries_total", fail_each_leg),
    ("continuations_total", break_a_stream),
    ("releases_total", leave_in_leg_1),
]

STATES = {
    "in_flight",
    "queued",
    "connections",
    "membership_stale",
    "moves_total",
    "tpot_slo_total",
    "prefill_skew",
    "workers",
    "worker_in_flight",
    "worker_pending_tokens",
}
"""Those that the other tests here are about."""

ELSEWHERE = {
    *("key_reloads_total", "kv_events_total", "limits_alone_total"),
    *("prefix_sources_total", "pulled_tokens_total", "followed_total"),
    "worker_losses_total",
}
"""Of owners that this gateway has not, and of workers that these are not; they are tested where
those are."""


@pytest.mark.parametrize(("name", "scene"), COUNTED)
async def test_a_count_moves(open_cluster: "OpenCluster", name: str, scene: Scene) -> None:
    async with open_cluster("p1 p2 d1 d2", block_tokens=64) as cluster:
        cluster.keeps_leases = scene in (fail_each_leg, break_a_stream)
        before = cluster.metric(name)
        await scene(cluster)

        await cluster.eventually(lambda: cluster.metric(name) > before)


def test_every_metric_has_a_test() -> None:
    nothing = PlacementSnapshot(queued=0, in_flight=0, moved=0, workers=())
    text = metrics_text(RouterSnapshot(Metrics().tallies, nothing, (), False, 0)).decode()
    families = set(re.findall(rf"^# TYPE {PREFIX}(\w+) (?!gauge)\w+", text, re.MULTILINE))
    gauges = set(re.findall(rf"^# TYPE {PREFIX}(\w+) gauge", text, re.MULTILINE))

    tested = {name.removesuffix("_count") for name, _ in COUNTED} | STATES | ELSEWHERE
    assert families | gauges == tested


async def test_the_state_is_what_is_going_on(open_cluster: "OpenCluster") -> None:
    async with open_cluster("p1 p2 d1 d2", max_unprefilled_tokens=1) as cluster:
        for name in ("p1", "p2"):
            cluster[name].behaviour.gate.clear()
        asking = [asyncio.create_task(cluster.ask(messages=LONG)) for _ in range(5)]
        await cluster.eventually(
            lambda: cluster.metric("in_flight") + cluster.metric("queued") == 5
        )
        await cluster.eventually(lambda: cluster["p1"].running + cluster["p2"].running >= 1)
        running = cluster["p1"].running + cluster["p2"].running

        assert cluster.metric("in_flight") == running > 0
        assert cluster.metric("queued") == 5 - running
        assert cluster.metric("connections") == 5
        assert cluster.metric("worker_in_flight", phase="prefill") == running
        assert cluster.metric("worker_in_flight", phase="queue") == 5 - running
        assert cluster.metric("worker_in_flight", phase="decode") == running
        assert cluster.metric("worker_pending_tokens") > 5 * 300
        for name in ("p1", "p2"):
            cluster[name].behaviour.gate.set()
        await asyncio.gather(*asking)
        await cluster.eventually(cluster.is_idle)
        assert cluster.metric("worker_in_flight") == cluster.metric("in_flight") == 0
        assert cluster.metric("worker_pending_tokens") == 0


async def test_the_skew_is_the_most_over_the_mean(open_cluster: "OpenCluster") -> None:
    async with open_cluster("p1 p2 d1") as cluster:
        even = cluster.metric("prefill_skew")
        for name in ("p1", "p2"):
            cluster[name].behaviour.gate.clear()
        asking = asyncio.create_task(cluster.ask(messages=LONG))
        await cluster.eventually(lambda: cluster["p1"].running + cluster["p2"].running)
        uneven = cluster.metric("prefill_skew")
        for name in ("p1", "p2"):
            cluster[name].behaviour.gate.set()
        await asking

        assert (even, uneven) == (1.0, 2.0)


async def test_a_stream_is_on_time_late_or_failed(open_cluster: "OpenCluster") -> None:
    async with open_cluster("p1 d1") as cluster:
        cluster.keeps_leases = True
        await cluster.ask(stream=True)
        cluster["p1"].behaviour.gate.clear()
        headers = {"x-llm-d-slo-ttft-ms": "1"}
        asking = asyncio.create_task(cluster.ask(stream=True, headers=headers))
        await cluster.eventually(lambda: cluster["p1"].running)
        await asyncio.sleep(0.002)
        cluster["p1"].behaviour.gate.set()
        await asking
        cluster["d1"].behaviour.refusal = Fault.DECODE_BUSY
        refused = await cluster.ask(stream=True)
        await cluster.ask()
        await cluster.ask(stream=True, model="stranger")

        counts = {
            outcome: cluster.metric("slo_total", outcome=outcome, **{"class": "default"})
            for outcome in ("met", "late", "failed")
        }
        assert refused.status >= 429
        assert counts == {"met": 1, "late": 1, "failed": 1}


async def test_a_whole_stream_kept_its_pace_or_not_if_its_class_promises_one(
    open_cluster: "OpenCluster",
) -> None:
    told = ("steady:tpot=3600", "hasty:tpot=0.000000001", "free:")
    classes = Classes([parse_class(text) for text in told])
    async with open_cluster("p1 d1", classes=classes) as cluster:
        for name in ("steady", "hasty", "free"):
            await cluster.ask(stream=True, headers={"x-llm-d-inference-objective": name})

        counts = {
            (name, outcome): cluster.metric("tpot_slo_total", outcome=outcome, **{"class": name})
            for name in ("steady", "hasty", "free")
            for outcome in ("met", "late")
        }
        assert {key for key, count in counts.items() if count} == {
            ("steady", "met"),
            ("hasty", "late"),
        }


async def test_a_waiting_request_that_moves_is_counted(open_cluster: "OpenCluster") -> None:
    async with open_cluster("p1 p2 d1", max_unprefilled_tokens=1) as cluster:
        for name in ("p1", "p2"):
            cluster[name].behaviour.gate.clear()
        asking = [asyncio.create_task(cluster.ask(messages=LONG)) for _ in range(12)]
        await cluster.eventually(lambda: cluster.metric("queued") >= 10)
        # One of them frees itself, so that those who wait at the other come over.
        cluster["p1"].behaviour.gate.set()
        await cluster.eventually(lambda: cluster.metric("moves_total") >= 1)
        cluster["p2"].behaviour.gate.set()

        assert {seen.status for seen in await asyncio.gather(*asking)} == {200}


async def test_the_workers_are_counted_by_role(open_cluster: "OpenCluster") -> None:
    async with open_cluster("p1 p2 d1 b1") as cluster:
        roles = {role: cluster.metric("workers", role=role) for role in ("prefill", "decode")}

        assert roles == {"prefill": 2, "decode": 1}
        assert cluster.metric("workers", role="both") == 1


async def test_a_worker_that_leaves_takes_its_labels_with_it(open_cluster: "OpenCluster") -> None:
    async with open_cluster("p1 d1") as cluster:
        await cluster.ask()
        before = (await cluster.get("/metrics")).body
        cluster.follow("d1")
        after = (await cluster.get("/metrics")).body

        assert b'worker_in_flight{phase="prefill",worker="p1"} 0.0' in before
        assert b'worker="p1"' not in after


async def test_no_label_is_of_a_clients_choice(open_cluster: "OpenCluster") -> None:
    async with open_cluster("p1 d1") as cluster:
        mark = "clientsword"
        headers = {
            "x-request-id": mark,
            "x-llm-d-inference-objective": mark,
            "x-llm-d-inference-fairness-id": mark,
            "user-agent": mark,
        }
        await cluster.ask(headers=headers, user=mark, cache_salt=mark, metadata={mark: mark})
        await cluster.ask(headers=headers, model=mark)
        await cluster.client.request("POST", f"/{mark}", headers=headers)
        await cluster.client.request("DELETE", f"/v1/models/{mark}", headers=headers)

        assert mark.encode() not in cluster.text()


async def test_leg_times_are_by_leg(open_cluster: "OpenCluster") -> None:
    async with open_cluster("p1 d1") as cluster:
        await cluster.ask()
        await cluster.ask("/tokenize")

        legs = {leg: cluster.metric("leg_seconds_count", leg=leg) for leg in ("1", "2")}
        assert legs == {"1": 1, "2": 1}
        assert cluster.metric("leg_seconds_count", leg="passed-on") == 1


@pytest.mark.parametrize("names", ["p1 d1", "d1"])
async def test_the_engines_tokens_are_counted_once(open_cluster: "OpenCluster", names: str) -> None:
    usage = {"include_usage": True}
    async with open_cluster(names) as cluster:
        tokens = [cluster.metric("prompt_tokens_total")]
        output = [cluster.metric("output_tokens_total")]
        await cluster.ask(messages=LONG)
        streamed: list[dict[str, Any]] = [{}, {"stream_options": usage}]
        for options in streamed:
            await cluster.ask(messages=LONG, stream=True, **options)
            tokens.append(cluster.metric("prompt_tokens_total"))
            output.append(cluster.metric("output_tokens_total"))

        size = cluster.leg_2s[0].prompt
        each = len(size) // 4 + 1
        # A stream without usage tells of its prompt only where leg 1 did.
        first = 2 * each if names == "p1 d1" else each
        assert tokens == [0, first, first + each]
        assert output[0] == 0
        assert output[2] == pytest.approx(9, abs=1)
