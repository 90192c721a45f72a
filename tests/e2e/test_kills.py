"""Processes are killed under a trickle of requests: each request ends, the cluster is whole again.

They come after the other tests of the cluster, in alphabetical order: they replace its workers.
"""

import dataclasses
import threading
import time
from collections.abc import Callable, Iterator

import httpx
import pytest

from .conftest import Cluster, child_named, kill

TRICKLE_INTERVAL_SECONDS = 1.0
REQUEST_DEADLINE_SECONDS = 60.0
RECOVERY_LIMIT_SECONDS = 300.0
LOOK_SECONDS = 2.0
"""Between looks at the cluster: each takes a core for a second from the engine that starts."""

pytestmark = pytest.mark.engine


@dataclasses.dataclass
class Trickle:
    """Requests that go on until it is stopped, a streamed one and a whole one in turn.

    ``unended`` has those that neither answered nor failed within the deadline.
    """

    url: str
    outcomes: list[str] = dataclasses.field(default_factory=list)
    unended: list[str] = dataclasses.field(default_factory=list)

    def run(self, stopping: threading.Event) -> None:
        threads: list[threading.Thread] = []
        while not stopping.wait(TRICKLE_INTERVAL_SECONDS):
            thread = threading.Thread(target=self._one, args=(len(threads),))
            thread.start()
            threads.append(thread)
        for thread in threads:
            thread.join(REQUEST_DEADLINE_SECONDS + 5)
            if thread.is_alive():
                self.unended.append(thread.name)

    def _one(self, number: int) -> None:
        body = {
            "model": "smollm2",
            "prompt": f"Request {number}: once upon a time",
            "max_tokens": 16,
            "stream": number % 2 == 0,
        }
        started = time.monotonic()
        try:
            response = httpx.post(
                f"{self.url}/v1/completions", json=body, timeout=REQUEST_DEADLINE_SECONDS
            )
            self.outcomes.append(_outcome(response))
        except httpx.TimeoutException:
            self.unended.append(f"request {number} after {time.monotonic() - started:.0f} s")


def _outcome(response: httpx.Response) -> str:
    if response.status_code != 200:
        return f"error {response.status_code} {response.json()['error']['code']}"
    if '"error"' in response.text:
        assert response.text.endswith("data: [DONE]\n\n")
        return "stream error"
    return (
        response.headers["x-twofold-mode"] if "[DONE]" in response.text or response.json() else ""
    )


@pytest.fixture
def trickle(cluster: Cluster) -> Iterator[Trickle]:
    trickle = Trickle(cluster.url)
    stopping = threading.Event()
    thread = threading.Thread(target=trickle.run, args=(stopping,))
    thread.start()
    time.sleep(2)
    yield trickle
    stopping.set()
    thread.join()
    assert not trickle.unended
    assert "disaggregated" in trickle.outcomes


def server_of(role: str) -> Callable[[Cluster], int]:
    def find(cluster: Cluster) -> int:
        return int(cluster.worker(role)["pid"])

    find.__name__ = f"the_{role}_server"
    return find


def engine_of(role: str) -> Callable[[Cluster], int]:
    def find(cluster: Cluster) -> int:
        return child_named(int(cluster.worker(role)["pid"]), "EngineCore")

    find.__name__ = f"the_{role}_engine"
    return find


def component(name: str) -> Callable[[Cluster], int]:
    def find(cluster: Cluster) -> int:
        (found,) = (c for c in cluster.status()["components"] if c["name"] == name)
        return int(found["process"]["pid"])

    find.__name__ = name.replace(" ", "_")
    return find


@pytest.mark.parametrize(
    "victim",
    [
        server_of("decode"),
        server_of("prefill"),
        engine_of("decode"),
        engine_of("prefill"),
        component("valkey"),
        component("router"),
    ],
)
def test_after_a_kill_every_request_ends_and_the_cluster_is_whole_again(
    cluster: Cluster, request: pytest.FixtureRequest, victim: Callable[[Cluster], int]
) -> None:
    pid = victim(cluster)
    if victim.__name__ != "router":
        request.getfixturevalue("trickle")

    kill(pid)
    time.sleep(2)

    cluster.until(
        lambda: cluster.twofold("status", check=False).returncode == 0 and victim(cluster) != pid,
        seconds=RECOVERY_LIMIT_SECONDS,
        what="the cluster is ready, with a new process in the place of the killed one",
        every=LOOK_SECONDS,
    )
    cluster.forget_addresses()
    cluster.until_disaggregated(seconds=60)


def test_after_all_kills_no_block_is_held_and_no_count_is_left(cluster: Cluster) -> None:
    cluster.forget_addresses()

    cluster.until_idle()

    assert cluster.metrics()["twofold_router_worker_in_flight"] == 0
