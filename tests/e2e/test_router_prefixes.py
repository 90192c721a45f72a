"""A router, three workers with real engines and nothing else: what it has them take from each
other is what one engine computes."""

import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from benchmarks import processes

from twofold_cli.installation import find_valkey
from twofold_cluster.identity import Role
from twofold_engine.settings import REDIS_ENV

from . import faulty_links
from .conftest import samples_of
from .lone_workers import HOST, Worker, complete, request, running, wait_until_all_serve

BLOCK_TOKENS = 128
BLOCK_BYTES = 30 * 2 * 3 * 64 * BLOCK_TOKENS * 4
"""SmolLM2-135M: 30 layers, K and V, 3 heads of 64, in float32."""

STEP_TOKENS = 256
"""That a prefill worker computes of a prompt at a time."""

FOLLOW_TOKENS = 512
FOLLOWED = 1300
"""Tokens of a prompt that is longer: ten full blocks, and some more."""

STORY = 900
SHARED = 480
"""Tokens of the story that the next request begins with: three full blocks."""
ATTEMPTS = 10
BEGUN_AGAIN = 4
"""Requests that go on with the whole story meanwhile."""
OWN = 600
"""Tokens that each of them adds: together the worker that has the story needs longer for them than
another needs to compute ``SHARED`` tokens, even with the weight that computing again has."""

PATIENT = "default:ttft=600"
"""A class in which nobody is late, so that only what requests cost decides where they go."""

START_SECONDS = 30.0

pytestmark = pytest.mark.engine


@dataclass(frozen=True)
class Workers:
    redis_url: str
    prefill: dict[str, str]
    """Addresses by worker id."""
    decode: str
    links: faulty_links.Links

    def other(self, worker_id: str) -> str:
        """Return the address of the prefill worker that is not *worker_id*."""
        (address,) = (at for name, at in self.prefill.items() if name != worker_id)
        return address


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:
    logs = tmp_path_factory.mktemp("logs")
    with ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        redis_url = stack.enter_context(valkey(logs))
        patch.setenv(REDIS_ENV, redis_url)
        links = faulty_links.install(tmp_path_factory.mktemp("links"))
        for name, text in links.environment.items():
            patch.setenv(name, text)
        steps = ("--max-num-batched-tokens", str(STEP_TOKENS))
        prefill = [
            stack.enter_context(running("prefill", logs, *steps, name=name))
            for name in ("one", "other")
        ]
        decode = stack.enter_context(running("decode", logs))
        wait_until_all_serve({*prefill, decode})
        addresses = {id_of(each): each.address for each in prefill}
        yield Workers(redis_url, addresses, decode.address, links)


def id_of(prefill: Worker) -> str:
    """Return what a prefill worker calls itself unless it is told."""
    return f"{Role.PREFILL}-{prefill.process.pid}"


@contextmanager
def valkey(logs: Path) -> Iterator[str]:
    """Run an empty server meanwhile, and yield its URL."""
    binary = find_valkey()
    assert binary is not None, "scripts/install dev"
    (port,) = processes.free_ports(1)
    command = [str(binary), "--port", str(port), "--bind", HOST, "--save", ""]
    with processes.running("valkey", [*command, "--dir", str(logs)], logs):
        yield f"redis://{HOST}:{port}"


@contextmanager
def router(workers: Workers, logs: Path, *flags: str) -> Iterator[str]:
    """Run a router that knows all workers, and of no prompt yet; yield its address."""
    (port,) = processes.free_ports(1)
    command = [sys.executable, "-m", "twofold_router", "--service", "local", "--host", HOST]
    command += ["--redis", workers.redis_url, "--port", str(port)]
    command += ["--block-tokens", str(BLOCK_TOKENS), "--class", PATIENT, *flags]
    with processes.running("router", command, logs) as process:
        processes.wait_until_ready(process, port, ("GET", "/ready", None), START_SECONDS)
        address = f"http://{HOST}:{port}"
        until(lambda: samples_of(address)['twofold_router_workers{role="prefill"}'] == 2)
        yield address


def test_a_long_prompt_is_followed_and_continues_as_one_engine_has_it(
    workers: Workers, tmp_path: Path
) -> None:
    prompt = tokens_of(1, FOLLOWED)
    with router(workers, tmp_path, "--follow-tokens", str(FOLLOW_TOKENS)) as address:
        before = samples_of(workers.decode)
        answer = ask(address, prompt)
        ask(address, tokens_of(11, FOLLOW_TOKENS // 2))
        asked = samples_of(address)

    assert answer.json()["choices"][0]["token_ids"] == alone(workers, prompt)
    after = samples_of(workers.decode)
    ahead = increase(after, before, "twofold_kv_prefix_blocks_total")
    assert ahead >= (FOLLOWED - 2 * STEP_TOKENS) // BLOCK_TOKENS
    moved = increase(after, before, "twofold_kv_transfer_bytes_sum") / BLOCK_BYTES
    assert moved == -(-FOLLOWED // BLOCK_TOKENS) - ahead + -(-FOLLOW_TOKENS // 2 // BLOCK_TOKENS)
    assert asked["twofold_router_followed_total"] == 1
    assert asked.get("twofold_router_upstream_errors_total", 0.0) == 0


def test_a_prefix_is_pulled_from_the_worker_that_the_router_names(
    workers: Workers, tmp_path: Path
) -> None:
    with router(workers, tmp_path) as address:
        asked = ask_while_the_holder_is_busy(workers, address, story=2)

    assert asked.pulls == {"pulled": 1}
    assert asked.pulled_blocks == SHARED // BLOCK_TOKENS
    assert asked.router["twofold_router_prefix_sources_total"] == 1
    assert asked.router["twofold_router_pulled_tokens_total"] == asked.pulled_blocks * BLOCK_TOKENS
    assert asked.token_ids == alone(workers, asked.prompt)


def test_a_router_that_is_to_have_no_prefix_pulled_names_nobody(
    workers: Workers, tmp_path: Path
) -> None:
    with router(workers, tmp_path, "--no-prefix-pull") as address:
        asked = ask_while_the_holder_is_busy(workers, address, story=3)

    assert asked.pulls == {}
    assert asked.router["twofold_router_prefix_sources_total"] == 0
    assert asked.token_ids == alone(workers, asked.prompt)


def test_a_block_that_arrives_damaged_is_computed_again_and_never_used(
    workers: Workers, tmp_path: Path
) -> None:
    prompt = tokens_of(5, SHARED)
    with router(workers, tmp_path) as address:
        before = samples_of(workers.decode)
        workers.links.damage.touch()
        answer = post(address, prompt)
        intact = ask(address, tokens_of(6, SHARED))
        asked = samples_of(address)

    assert not workers.links.damage.exists()
    assert answer.headers["x-twofold-mode"] == "fallback"
    assert answer.headers["x-twofold-reason"] == "transfer-failed"
    assert answer.json()["choices"][0]["token_ids"] == alone(workers, prompt)
    assert intact.json()["choices"][0]["token_ids"] == alone(workers, tokens_of(6, SHARED))
    after = samples_of(workers.decode)
    damaged = 'twofold_kv_transfer_failures_total{reason="integrity"}'
    assert after[damaged] - before.get(damaged, 0.0) == 1
    assert asked['twofold_router_requests_total{reason="transfer-failed"}'] == 1


@dataclass(frozen=True)
class Asked:
    """A request, what came of it at its prefill worker, and what the router counts."""

    prompt: list[int]
    token_ids: list[int]
    pulls: dict[str, float]
    """By outcome."""
    pulled_blocks: float
    router: dict[str, float]
    """By how much its counts grew meanwhile."""


def ask_while_the_holder_is_busy(workers: Workers, address: str, *, story: int) -> Asked:
    """Have a worker compute a story, give it more to do with it, and ask for the story's beginning
    meanwhile: the other prefill worker is sent that, and has not a block of it.

    On cores that others use too the holder may be done before, or the other one be taken for slow:
    then it is tried with another story.
    """
    for attempt in range(ATTEMPTS):
        asked = ask_beside_the_holder(workers, address, story + 10 * attempt)
        if asked is not None:
            return asked
    raise AssertionError("the holder was never avoided")


def ask_beside_the_holder(workers: Workers, address: str, story: int) -> Asked | None:
    """Return what came of the request; None: it was sent to the holder all the same."""
    whole = tokens_of(story, STORY)
    holder = ask(address, whole).headers["x-twofold-prefill"]
    cold = workers.other(holder)
    prompt = [*whole[:SHARED], *tokens_of(story + 100, 40)]
    before, counted = samples_of(cold), samples_of(address)
    with ThreadPoolExecutor(BEGUN_AGAIN) as others:
        going_on = [
            others.submit(ask, address, [*whole, *tokens_of(1000 * (story + number), OWN)])
            for number in range(1, BEGUN_AGAIN + 1)
        ]
        until(
            lambda: (
                pending_tokens(address, holder) > (BEGUN_AGAIN - 1) * OWN
                or all(each.done() for each in going_on)
            )
        )
        answer = ask(address, prompt)
        places = {each.result().headers["x-twofold-prefill"] for each in going_on}
    if places != {holder} or workers.prefill[answer.headers["x-twofold-prefill"]] != cold:
        return None
    after = samples_of(cold)
    pulls = "twofold_kv_prefix_pulls_total{outcome="
    grown = {name: after[name] - before.get(name, 0.0) for name in after if name.startswith(pulls)}
    return Asked(
        prompt=prompt,
        token_ids=answer.json()["choices"][0]["token_ids"],
        pulls={name[len(pulls) + 1 : -2]: value for name, value in grown.items() if value},
        pulled_blocks=increase(after, before, "twofold_kv_prefix_blocks_total"),
        router={name: value - counted.get(name, 0) for name, value in samples_of(address).items()},
    )


def ask(address: str, prompt: list[int]) -> httpx.Response:
    answer = post(address, prompt)
    assert answer.headers["x-twofold-mode"] == "disaggregated"
    return answer


def post(address: str, prompt: list[int]) -> httpx.Response:
    body = request(prompt, max_tokens=8, ignore_eos=True, return_token_ids=True)
    answer = httpx.post(f"{address}/v1/completions", json=body, timeout=60)
    assert answer.status_code == 200, answer.text
    return answer


def alone(workers: Workers, prompt: list[int]) -> list[int]:
    """Return what the decode worker generates when it computes *prompt* itself, all of it."""
    fields: dict[str, Any] = {"max_tokens": 8, "ignore_eos": True, "cache_salt": "alone"}
    answer = complete(workers.decode, prompt, **fields)
    assert answer["usage"]["prompt_tokens_details"]["cached_tokens"] == 0
    token_ids: list[int] = answer["choices"][0]["token_ids"]
    return token_ids


def tokens_of(seed: int, length: int) -> list[int]:
    """Return text-like token ids, others for each seed."""
    return [100 + (7919 * i + 104_729 * seed) % 40_000 for i in range(length)]


def pending_tokens(address: str, worker_id: str) -> float:
    return samples_of(address)[f'twofold_router_worker_pending_tokens{{worker="{worker_id}"}}']


def increase(after: dict[str, float], before: dict[str, float], name: str) -> float:
    return after[name] - before[name]


def until(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.02)
