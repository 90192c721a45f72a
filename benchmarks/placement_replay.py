"""``python -m benchmarks.placement_replay --trace FILE``: how many are on time, by policy and load.

Replays a trace of Mooncake's form (a JSON object a line: ``timestamp`` in ms, ``input_length``,
``hash_ids`` of blocks of 512 tokens) in virtual time. The workers prefill only, one prompt after
the other at a constant speed, with a cache of bounded size; nothing else takes time. With several
replicas each places its share of the requests, taken in turn, on the same workers; of what the
others do it sees the reported load, a moment later.
"""

import argparse
import heapq
import itertools
import sys
import time
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from pathlib import Path

import msgspec

from benchmarks.report import Goal, publish, say, table
from twofold_cluster.identity import Role
from twofold_cluster.prompt_key import PromptKey
from twofold_cluster.worker import Load, Worker
from twofold_router.placement import (
    POLICIES,
    Decision,
    Dispatch,
    Outcome,
    Placement,
    PlacementRequest,
    PlacementSettings,
    PromptUsage,
    make_placement,
)
from twofold_router.testing import MODEL, make_worker

BLOCK_TOKENS = 512
BYTES_PER_TOKEN = 4
OURS = "twofold"
BEHIND_GOAL = 0.02

REPORT_SECONDS = 0.05
"""After which the routers know of a worker's load."""


class Row(msgspec.Struct, frozen=True):
    """A line of the trace."""

    timestamp: float
    input_length: int
    hash_ids: list[int]


class Prompt(msgspec.Struct, frozen=True):
    """A request to be replayed; ``at`` in seconds."""

    at: float
    tokens: int
    block_ids: tuple[int, ...]


class Setup(msgspec.Struct, frozen=True, kw_only=True):
    """What is the same for all policies and loads."""

    workers: int
    replicas: int
    seconds_per_token: float
    slo_seconds: float
    truncate_tokens: int
    cache_tokens: int
    unprefilled_tokens: int


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What one replay gave."""

    policy: str
    qps: float
    on_time_share: float
    hit_rate: float
    moved: int
    seconds: float
    """That the replay took."""


class PrefillWorker:
    """Computes prompts in the order they come, and caches their blocks, the least recently used
    going first."""

    def __init__(self, worker: Worker, setup: Setup) -> None:
        self._worker = worker
        self._setup = setup
        self._cache: OrderedDict[int, None] = OrderedDict()
        self._busy_until = 0.0
        self.unprefilled_count = 0

    def serve(self, prompt: Prompt, now: float) -> tuple[float, int]:
        """Return when *prompt* is computed, and how many of its tokens were cached."""
        self.unprefilled_count += 1
        cached_blocks = itertools.takewhile(self._cache.__contains__, prompt.block_ids)
        cached_tokens = min(sum(1 for _ in cached_blocks) * BLOCK_TOKENS, prompt.tokens - 1)
        seconds = (prompt.tokens - cached_tokens) * self._setup.seconds_per_token
        self._busy_until = max(now, self._busy_until) + seconds
        for block in reversed(prompt.block_ids):
            self._cache[block] = None
            self._cache.move_to_end(block)
        while len(self._cache) * BLOCK_TOKENS > self._setup.cache_tokens:
            self._cache.popitem(last=False)
        return self._busy_until, cached_tokens

    def announcement(self) -> Worker:
        load = Load(
            unprefilled_count=self.unprefilled_count,
            seconds_per_prefill_token=self._setup.seconds_per_token,
        )
        return msgspec.structs.replace(self._worker, load=load)


class Replay:
    """One run: events in the order of their moments, each a function of the moment."""

    def __init__(self, policy: str, prompts: list[Prompt], setup: Setup) -> None:
        self._setup = setup
        self._prompts = prompts
        settings = PlacementSettings(
            max_queued=len(prompts),
            max_unprefilled_tokens=setup.unprefilled_tokens,
            ttft_slo_seconds=setup.slo_seconds,
        )
        self._placements = [make_placement(policy, settings) for _ in range(setup.replicas)]
        announced = [
            make_worker(f"p{number}", Role.PREFILL, capacity=setup.cache_tokens)
            for number in range(setup.workers)
        ]
        self._workers = {worker.worker_id: PrefillWorker(worker, setup) for worker in announced}
        decode = make_worker("d", Role.DECODE, capacity=10**9)
        for placement in self._placements:
            placement.workers_changed([*announced, decode], 0.0)
        self._events: list[tuple[float, int, Callable[[float], None]]] = []
        self._serial = itertools.count()
        self._on_time_count = 0
        self._cached_tokens = 0

    def run(self) -> tuple[float, float, int]:
        """Return the share on time, the share of the tokens that were cached, and the moves."""
        placements = itertools.cycle(self._placements)
        for number, prompt in enumerate(self._prompts):
            self._add(prompt.at, partial(self._arrive, str(number), next(placements)))
        while self._events:
            now, _, happen = heapq.heappop(self._events)
            happen(now)
        total_tokens = sum(prompt.tokens for prompt in self._prompts)
        return (
            self._on_time_count / len(self._prompts),
            self._cached_tokens / total_tokens,
            sum(placement.snapshot().moved for placement in self._placements),
        )

    def _arrive(self, request_id: str, placement: Placement, now: float) -> None:
        request = PlacementRequest(
            request_id=request_id,
            model=MODEL,
            key=key_of(self._prompts[int(request_id)]),
            separable=True,
            arrived_at=now,
            deadline_at=now + 1e9,
        )
        self._carry_out(placement, placement.submit(request, now), now)

    def _carry_out(self, placement: Placement, decisions: list[Decision], now: float) -> None:
        for decision in decisions:
            assert isinstance(decision, Dispatch), decision
            assert decision.prefill is not None
            worker = self._workers[decision.prefill.worker_id]
            prompt = self._prompts[int(decision.request_id)]
            ends_at, cached_tokens = worker.serve(prompt, now)
            self._on_time_count += ends_at - prompt.at <= self._setup.slo_seconds
            self._cached_tokens += cached_tokens
            usage = PromptUsage(prompt.tokens, cached_tokens)
            end = partial(self._end, decision.request_id, placement, worker, usage)
            self._add(ends_at, end)
            self._report(worker, now)

    def _end(
        self,
        request_id: str,
        placement: Placement,
        worker: PrefillWorker,
        usage: PromptUsage,
        now: float,
    ) -> None:
        worker.unprefilled_count -= 1
        self._report(worker, now)
        self._carry_out(placement, placement.prefilled(request_id, usage, now), now)
        outcome = Outcome(output_tokens=1)
        self._carry_out(placement, placement.finished(request_id, outcome, now), now)

    def _report(self, worker: PrefillWorker, now: float) -> None:
        if len(self._placements) > 1:  # a lone router knows it all
            self._add(now + REPORT_SECONDS, partial(self._hear, worker.announcement()))

    def _hear(self, worker: Worker, now: float) -> None:
        for placement in self._placements:
            self._carry_out(placement, placement.workers_changed([worker], now), now)

    def _add(self, at: float, happen: Callable[[float], None]) -> None:
        heapq.heappush(self._events, (at, next(self._serial), happen))


def main() -> int:
    parsed = _parser().parse_args()
    setup = Setup(
        workers=parsed.workers,
        replicas=parsed.replicas,
        seconds_per_token=parsed.seconds_per_token,
        slo_seconds=parsed.slo,
        truncate_tokens=parsed.truncate,
        cache_tokens=parsed.cache,
        unprefilled_tokens=parsed.unprefilled,
    )
    rows = read_trace(parsed.trace)[: parsed.requests]
    results = []
    for policy in parsed.policies:
        for qps in parsed.qps:
            results.append(replay(policy, qps, rows, setup))
            say(f"{policy} at {qps:g} a second: {results[-1].on_time_share:.3f} on time")
    say(render(results))
    found = {"setup": setup, "results": results}
    return publish("placement_replay", found, goals(results), parsed.json)


def replay(policy: str, qps: float, rows: list[Row], setup: Setup) -> Result:
    started = time.perf_counter()
    on_time_share, hit_rate, moved = Replay(policy, prompts_of(rows, qps, setup), setup).run()
    return Result(
        policy=policy,
        qps=qps,
        on_time_share=on_time_share,
        hit_rate=hit_rate,
        moved=moved,
        seconds=time.perf_counter() - started,
    )


def goals(results: list[Result]) -> list[Goal]:
    """Compare the default with the best of the others, where both are there."""
    made = []
    for qps in dict.fromkeys(each.qps for each in results):
        shares = {each.policy: each.on_time_share for each in results if each.qps == qps}
        ours = shares.pop(OURS, None)
        if ours is not None and shares:
            name = f"the best other above {OURS} at {qps:g}"
            made.append(Goal(name, max(shares.values()) - ours, BEHIND_GOAL))
    return made


def read_trace(path: Path) -> list[Row]:
    return msgspec.json.Decoder(Row).decode_lines(path.read_bytes())


def prompts_of(rows: list[Row], qps: float, setup: Setup) -> list[Prompt]:
    """Stretch the time of *rows* to *qps* on average, and truncate the long ones."""
    recorded_ms = rows[-1].timestamp - rows[0].timestamp
    scale = len(rows) / qps / recorded_ms if recorded_ms else 0.0
    prompts = []
    for row in rows:
        tokens = min(row.input_length, setup.truncate_tokens)
        block_ids = tuple(row.hash_ids[: max(1, -(-tokens // BLOCK_TOKENS))])
        prompts.append(Prompt((row.timestamp - rows[0].timestamp) * scale, tokens, block_ids))
    return prompts


def key_of(prompt: Prompt) -> PromptKey:
    """Make the key that the prompt's bytes would have. The last block of the trace is part of one
    if the prompt ends in it."""
    full_count, rest_tokens = divmod(prompt.tokens, BLOCK_TOKENS)
    blocks = tuple(block.to_bytes(16) for block in prompt.block_ids[:full_count])
    end = b"end" + prompt.block_ids[-1].to_bytes(13) if rest_tokens else blocks[-1]
    size_bytes = prompt.tokens * BYTES_PER_TOKEN
    return PromptKey(size_bytes, BLOCK_TOKENS * BYTES_PER_TOKEN, blocks, end)


def render(results: list[Result]) -> str:
    headers = ("policy", "QPS", "on time", "hit rate", "moved", "seconds")
    rows = [
        (each.policy, f"{each.qps:g}", each.on_time_share, each.hit_rate, each.moved, each.seconds)
        for each in results
    ]
    return table(headers, rows)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="benchmarks.placement_replay", description=__doc__)
    parser.add_argument("--trace", type=Path, required=True)
    parser.add_argument("--policies", nargs="+", choices=POLICIES, default=list(POLICIES))
    parser.add_argument("--qps", nargs="+", type=float, default=[7.0, 8.0, 9.0])
    parser.add_argument("--requests", type=int, help="only the first of the trace")
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--replicas", type=int, default=1, help="routers that share the requests")
    parser.add_argument("--seconds-per-token", type=float, default=0.00016)
    parser.add_argument("--slo", type=float, default=5.0, help="seconds to the first token")
    parser.add_argument("--truncate", type=int, default=32_768, help="tokens of a prompt")
    parser.add_argument("--cache", type=int, default=1_000_000, help="tokens of a worker")
    parser.add_argument(
        "--unprefilled",
        type=int,
        default=PlacementSettings().max_unprefilled_tokens,
        help="tokens dispatched to a worker and not computed yet",
    )
    parser.add_argument("--json", type=Path, help="where to write the figures")
    return parser


if __name__ == "__main__":
    sys.exit(main())
