"""A router process before engines without a model: what it serves, and what their faults do."""

import asyncio
import re
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from twofold_sim.live.serving import Serving, open_engine
from twofold_sim.live.testing import quick_engine

WAIT_SECONDS = 20.0
CHAT = "/v1/chat/completions"
QUESTION = "The quick brown fox jumps over the lazy dog. " * 60
ROLES = {"p": "prefill", "d": "decode", "b": "both"}


@dataclass
class Cluster:
    """A router, its engines by their names, and a client of the router."""

    engines: dict[str, Serving]
    http: httpx.AsyncClient

    async def ask(self, question: str = QUESTION, **fields: Any) -> httpx.Response:
        return await self.http.post(CHAT, json=chat(question, **fields))

    async def order(self, name: str, **fault: Any) -> None:
        """Have engine *name* fail."""
        url = f"{self.engines[name].url}/sim/faults"
        response = await self.http.post(url, json=[fault])
        assert response.status_code == 200, response.text

    async def alone(self, question: str = QUESTION, **fields: Any) -> str:
        """Return what one engine by itself says."""
        async with (
            open_engine(quick_engine()) as serving,
            httpx.AsyncClient(timeout=WAIT_SECONDS) as http,
        ):
            return said(await http.post(serving.url + CHAT, json=chat(question, **fields)))

    def lent(self) -> dict[str, int]:
        """Return the leases of the engines that have some."""
        counts = {name: len(each.engine.leases) for name, each in self.engines.items()}
        return {name: count for name, count in counts.items() if count}

    def used(self) -> float:
        return sum(each.engine.driver.counts().kv_used_fraction for each in self.engines.values())

    async def until_idle(self) -> None:
        await until(lambda: not self.lent() and not self.used())

    async def metric(self, pattern: str) -> float:
        """Return the sum of the router's samples that *pattern* finds."""
        page = (await self.http.get("/metrics")).text
        lines = [line for line in page.splitlines() if re.search(pattern, line)]
        return sum(float(line.rpartition(" ")[2]) for line in lines)


@asynccontextmanager
async def open_cluster(names: str, *flags: str, **settings: Any) -> AsyncIterator[Cluster]:
    async with AsyncExitStack() as stack:
        engines: dict[str, Serving] = {}
        for name in names.split():
            engine = open_engine(quick_engine(**settings))
            engines[name] = await stack.enter_async_context(engine)
        workers = [f"--worker={ROLES[name[0]]}={each.url}" for name, each in engines.items()]
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
        url = f"http://127.0.0.1:{port}"
        router = ["--port", str(port), "--min-uncached-tokens", "1", *workers, *flags]
        await stack.enter_async_context(running_router(router))
        http = await stack.enter_async_context(
            httpx.AsyncClient(base_url=url, timeout=WAIT_SECONDS)
        )
        await until_ready(http, len(engines))
        yield Cluster(engines, http)


@asynccontextmanager
async def running_router(flags: Sequence[str]) -> AsyncIterator[None]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "twofold_router", *flags, stderr=subprocess.PIPE
    )
    try:
        yield
    finally:
        process.kill()
        await process.communicate()


async def until_ready(http: httpx.AsyncClient, count: int) -> None:
    """Wait until the router serves, and knows all its workers."""
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            try:
                page = (await http.get("/metrics")).text
            except httpx.TransportError:
                page = ""
            known = sum(
                float(line.rpartition(" ")[2])
                for line in page.splitlines()
                if line.startswith("twofold_router_workers{")
            )
            if known >= count:
                return
            await asyncio.sleep(0.05)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_SECONDS):
        while not condition():
            await asyncio.sleep(0.01)


def chat(question: str, **fields: Any) -> dict[str, Any]:
    asked = [{"role": "user", "content": question}]
    return {"model": "quick", "messages": asked, "max_tokens": 30, **fields}


def said(response: httpx.Response) -> str:
    assert response.status_code == 200, response.text
    text: str = response.json()["choices"][0]["message"]["content"]
    return text


def served(response: httpx.Response) -> tuple[int, str, str]:
    headers = response.headers
    mode, reason = headers.get("x-twofold-mode", ""), headers.get("x-twofold-reason", "")
    return response.status_code, mode, reason


def streamed(text: str) -> str:
    return "".join(re.findall(r'"content":"([^"]*)"', text))


async def test_two_legs_say_what_one_engine_says_and_leave_nothing_lent() -> None:
    async with open_cluster("p1 p2 d1 d2") as cluster:
        questions = [f"{number}. {QUESTION}" for number in range(8)]
        answers = await asyncio.gather(*map(cluster.ask, questions))
        stream = await cluster.ask(stream=True)
        await cluster.until_idle()

        assert {served(answer) for answer in answers} == {(200, "disaggregated", "")}
        for question, answer in zip(questions, answers, strict=True):
            assert said(answer) == await cluster.alone(question)
        assert streamed(stream.text) == await cluster.alone()
        snapshots = [each.engine.snapshot() for each in cluster.engines.values()]
        assert sum(snapshot.external_hits for snapshot in snapshots) > 0
        assert (
            sum(snapshot.expired_leases + snapshot.late_notifications for snapshot in snapshots)
            == 0
        )


async def test_a_later_turn_goes_where_the_one_before_is_cached() -> None:
    async with open_cluster("p1 p2 p3 p4 d1") as cluster:
        first = await cluster.ask()
        asked = chat(QUESTION)["messages"]
        turn = [*asked, first.json()["choices"][0]["message"], {"role": "user", "content": "Why?"}]
        second = await cluster.http.post(CHAT, json=chat("", messages=turn))

        assert second.headers["x-twofold-prefill"] == first.headers["x-twofold-prefill"]
        cached = second.json()["usage"]["prompt_tokens_details"]["cached_tokens"]
        assert cached >= first.json()["usage"]["prompt_tokens"] // 16 * 16 - 16


FAULTS: list[tuple[str, dict[str, Any], tuple[int, str, str]]] = [
    ("p1", {"kind": "refuse"}, (200, "fallback", "prefill-refused")),
    ("p1", {"kind": "refuse", "status": 500}, (200, "fallback", "prefill-failed")),
    ("p1", {"kind": "reset"}, (200, "fallback", "prefill-failed")),
    ("p1", {"kind": "crash-before-leg-1"}, (200, "fallback", "prefill-failed")),
    ("p1", {"kind": "hang"}, (200, "fallback", "prefill-failed")),
]


@pytest.mark.parametrize(("name", "fault", "expected"), FAULTS)
async def test_without_a_leg_1_the_decode_engine_says_the_same(
    name: str, fault: dict[str, Any], expected: tuple[int, str, str]
) -> None:
    async with open_cluster("p1 d1", "--leg-1-timeout=1") as cluster:
        await cluster.order(name, **fault)
        answer = await cluster.ask()

        assert served(answer) == expected
        assert said(answer) == await cluster.alone()
        await cluster.until_idle()


async def test_another_prefill_engine_is_asked_when_one_refuses() -> None:
    async with open_cluster("p1 p2 d1") as cluster:
        await cluster.order("p1", kind="refuse")
        answers = [await cluster.ask(f"{number}. {QUESTION}") for number in range(6)]

        assert {served(answer) for answer in answers} == {(200, "disaggregated", "")}
        assert cluster.engines["p1"].engine.faults.snapshot()[0].struck > 0


@pytest.mark.parametrize("kind", ["drop-lease", "corrupt-params", "crash-after-leg-1"])
async def test_blocks_that_are_gone_are_seen_and_the_answer_is_the_same(kind: str) -> None:
    async with open_cluster("p1 d1", lease_seconds=2.0) as cluster:
        await cluster.order("p1", kind=kind, **({} if "crash" in kind else {"count": 1}))
        answer = await cluster.ask()

        assert answer.status_code == 200
        assert answer.headers["x-twofold-mode"] in ("fallback", "disaggregated")
        assert said(answer) == await cluster.alone()
        assert cluster.engines["d1"].engine.snapshot().failed_transfers >= 1
        failures = await cluster.metric(r'^twofold_router_upstream_errors_total\{.*leg="2"')
        assert failures >= 1
        if kind != "crash-after-leg-1":
            await cluster.until_idle()


async def test_a_stream_that_is_cut_goes_on_at_another_engine_as_it_would_have() -> None:
    async with open_cluster("p1 d1 d2") as cluster:
        await cluster.order("d1", kind="cut", after_chunks=5, count=1)
        asking = [cluster.ask(stream=True) for _ in range(6)]
        answers = await asyncio.gather(*asking)

        assert {streamed(answer.text) for answer in answers} == {await cluster.alone()}
        assert all(answer.text.endswith("data: [DONE]\n\n") for answer in answers)
        assert cluster.engines["d1"].engine.faults.snapshot()[0].struck == 1
        assert await cluster.metric('^twofold_router_continuations_total.*"tried"') == 1
        await cluster.until_idle()


async def test_a_slow_prefill_engine_is_used_less() -> None:
    async with open_cluster("p1 p2 d1") as cluster:
        await cluster.order("p1", kind="slow", factor=100.0)
        questions = [f"{number}. {QUESTION}" for number in range(24)]
        answers = await asyncio.gather(*map(cluster.ask, questions))
        slow = cluster.engines["p1"].url.removeprefix("http://")
        by_slow = sum(answer.headers["x-twofold-prefill"] == slow for answer in answers)

        assert {answer.status_code for answer in answers} == {200}
        assert by_slow < 12


async def test_an_engine_alone_serves_both_phases() -> None:
    async with open_cluster("b1", "--no-disaggregation") as cluster:
        answer = await cluster.ask()

        assert served(answer) == (200, "aggregated", "")
        assert said(answer) == await cluster.alone()
