"""``python -m benchmarks.placement_cost``: what a placement takes, by the number of workers.

One placement in one process, driven in virtual time at half of what its workers can prefill, so
that some requests wait and move. The time is that of all calls about one request (``submit``,
``prefilled``, ``finished``), with what they decide about others. Half of the workers prefill, half
decode. A prompt continues one of many conversations, most of which the mirrors know. The p99
has the time of others on the machine in it.
"""

import argparse
import gc
import heapq
import itertools
import math
import random
import sys
import time
import tracemalloc
from pathlib import Path

import msgspec
from xxhash import xxh3_128_digest

from benchmarks.figures import quantile
from benchmarks.machine import describe_machine
from benchmarks.report import Goal, publish, say, table
from twofold_cluster.identity import Role
from twofold_cluster.prompt_key import PromptKey
from twofold_cluster.worker import Load, Worker
from twofold_router.placement import (
    Decision,
    Dispatch,
    Outcome,
    Placement,
    PlacementRequest,
    PlacementSettings,
    PromptUsage,
    make_placement,
)
from twofold_router.placement.prefill_speed import DEFAULT_SECONDS_PER_TOKEN
from twofold_router.testing import MODEL, make_worker

POLICIES = ("twofold", "dual-map")
WORKER_COUNTS = (8, 100, 1_000, 10_000)
MIRRORED_BLOCKS = 1_000_000
REQUESTS = 6_000

BLOCK_TOKENS = 512
BYTES_PER_TOKEN = 4
TURN_BLOCKS = 4
"""By which a turn of a conversation extends the one before."""
PROMPT_BLOCKS = 24
UTILISATION = 1 / 2
DECODE_SECONDS = 4.0
STEADY_REQUESTS_PER_WORKER = 3
"""After so many, as many end as begin."""

RATIO_GOAL = 1.5
MICROSECONDS_GOAL = 100.0


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured with one policy and number of workers; times in microseconds."""

    policy: str
    workers: int
    whole_median: float
    whole_p99: float
    submit_median: float
    submit_p99: float
    load_update_median: float
    waited_share: float
    mirrored_blocks: int
    join_seconds: float
    bytes_per_worker: float
    whole: list[float]
    submit: list[float]
    load_updates: list[float]


class Conversations:
    """Prompts that continue one another, and keep the depth at which they are measured."""

    def __init__(self, count: int, rng: random.Random) -> None:
        self._rng = rng
        self._blocks = [self._grow((), PROMPT_BLOCKS) for _ in range(count)]

    def turn(self, number: int) -> PromptKey:
        """Return the next prompt of conversation *number*, which branches off the last one."""
        blocks = self._blocks[number]
        shared = self._rng.randrange(PROMPT_BLOCKS - 2 * TURN_BLOCKS, PROMPT_BLOCKS + 1)
        self._blocks[number] = self._grow(blocks[:shared], TURN_BLOCKS)
        return key_of(self._blocks[number])

    def first(self, number: int) -> PromptKey:
        return key_of(self._blocks[number])

    def __len__(self) -> int:
        return len(self._blocks)

    def _grow(self, blocks: tuple[bytes, ...], count: int) -> tuple[bytes, ...]:
        digest = blocks[-1] if blocks else b""
        grown = list(blocks)
        for _ in range(count):
            digest = xxh3_128_digest(digest + self._rng.randbytes(8))
            grown.append(digest)
        return tuple(grown)


class Bench:
    """A placement in virtual time, with workers as quick as it believes them to be."""

    def __init__(self, policy: str, worker_count: int, block_count: int) -> None:
        self._rng = random.Random(worker_count)
        self._workers = make_workers(worker_count)
        self.bytes_per_worker = _bytes_per_worker(policy, self._workers)
        self.placement = _make_placement(policy)
        started = time.perf_counter()
        self.placement.workers_changed(self._workers, 0.0)
        self.join_seconds = time.perf_counter() - started
        self._now = 0.0
        self._busy_until: dict[str, float] = {}
        self._events: list[tuple[float, int, str]] = []
        self._requests: dict[str, PlacementRequest] = {}
        self._serial = 0
        self.nanoseconds: dict[str, int] = {}
        self.submit_nanoseconds: list[int] = []
        self.waited_count = 0
        # A prompt is mirrored where it is computed and where it is decoded.
        self._conversations = Conversations(block_count // PROMPT_BLOCKS // 2, self._rng)
        self._turn = itertools.cycle(range(len(self._conversations)))
        prefill_count = worker_count // 2
        prompt_seconds = 1.5 * TURN_BLOCKS * BLOCK_TOKENS * DEFAULT_SECONDS_PER_TOKEN
        self._gap_seconds = prompt_seconds / prefill_count / UTILISATION

    def fill(self) -> None:
        """Have the workers hold the first prompt of every conversation."""
        for number in range(len(self._conversations)):
            self._now += 10.0  # everybody is idle again
            self._arrive(self._conversations.first(number))
            self._run_until(self._now + 5.0)
        self._forget_figures()

    def run(self, count: int) -> None:
        """Serve *count* requests to their end, more before to come to a steady state."""
        self._serve(max(STEADY_REQUESTS_PER_WORKER * len(self._workers), count // 5))
        self._forget_figures()
        gc.collect()
        self._serve(count)
        measured = list(self.nanoseconds)
        self._run_until(math.inf)
        self.nanoseconds = {name: self.nanoseconds[name] for name in measured}

    def load_updates(self, count: int) -> list[int]:
        """Tell of the new load of *count* workers, one by one; return the nanoseconds of each."""
        taken = []
        for number in range(count):
            worker = self._workers[number % len(self._workers)]
            load = Load(running_count=number % 7, kv_used_fraction=number % 100 / 100)
            changed = [msgspec.structs.replace(worker, load=load)]
            started = time.perf_counter_ns()
            self.placement.workers_changed(changed, self._now)
            taken.append(time.perf_counter_ns() - started)
        return taken

    def _serve(self, count: int) -> None:
        for _ in range(count):
            # In turn, because nobody goes on before the last answer is read.
            number = next(self._turn)
            self._now += self._rng.expovariate(1.0) * self._gap_seconds
            self._run_until(self._now)
            self._arrive(self._conversations.turn(number))

    def _arrive(self, key: PromptKey) -> None:
        self._serial += 1
        request_id = f"request-{self._serial}"
        request = self._requests[request_id] = PlacementRequest(
            request_id=request_id,
            model=MODEL,
            key=key,
            separable=True,
            arrived_at=self._now,
            deadline_at=self._now + 600.0,
            max_output_tokens=512,
        )
        started = time.perf_counter_ns()
        decisions = self.placement.submit(request, self._now)
        taken = time.perf_counter_ns() - started
        self.nanoseconds[request_id] = taken
        self.submit_nanoseconds.append(taken)
        is_served = any(decision.request_id == request_id for decision in decisions)
        self.waited_count += not is_served
        self._carry_out(decisions, self._now)

    def _run_until(self, until: float) -> None:
        while self._events and self._events[0][0] <= until:
            now, _, name = heapq.heappop(self._events)
            phase, _, request_id = name.partition(" ")
            usage = PromptUsage(PROMPT_BLOCKS * BLOCK_TOKENS)
            started = time.perf_counter_ns()
            if phase == "prefill":
                decisions = self.placement.prefilled(request_id, usage, now)
            else:
                outcome = Outcome(output_tokens=200, decode_seconds=DECODE_SECONDS)
                decisions = self.placement.finished(request_id, outcome, now)
            taken = time.perf_counter_ns() - started
            if request_id in self.nanoseconds:
                self.nanoseconds[request_id] += taken
            self._carry_out(decisions, now)
            if phase == "prefill":
                self._add_event(now + DECODE_SECONDS, f"decode {request_id}")

    def _carry_out(self, decisions: list[Decision], now: float) -> None:
        for decision in decisions:
            assert isinstance(decision, Dispatch), decision
            assert decision.prefill is not None
            del self._requests[decision.request_id]
            name = decision.prefill.worker_id
            uncached_tokens = decision.prompt_tokens - decision.cached_tokens
            begins_at = max(now, self._busy_until.get(name, 0.0))
            ends_at = begins_at + uncached_tokens * DEFAULT_SECONDS_PER_TOKEN
            self._busy_until[name] = ends_at
            self._add_event(ends_at, f"prefill {decision.request_id}")

    def _add_event(self, at: float, name: str) -> None:
        self._serial += 1
        heapq.heappush(self._events, (at, self._serial, name))

    def _forget_figures(self) -> None:
        self.nanoseconds.clear()
        self.submit_nanoseconds.clear()
        self.waited_count = 0


def main() -> int:
    parsed = _parser().parse_args()
    machine = describe_machine(("msgspec", "xxhash"))
    blocks = MIRRORED_BLOCKS // 4 if parsed.quick else MIRRORED_BLOCKS
    requests = REQUESTS // 6 if parsed.quick else REQUESTS
    costs = []
    for policy in POLICIES:
        for worker_count in WORKER_COUNTS:
            costs.append(measure(policy, worker_count, blocks, requests))
            say(render(costs[-1:]))
    say(render(costs))
    return publish(
        "placement_cost", {"machine": machine, "costs": costs}, goals(costs), parsed.json
    )


def measure(policy: str, worker_count: int, block_count: int, request_count: int) -> Cost:
    bench = Bench(policy, worker_count, block_count)
    bench.fill()
    bench.run(request_count)
    snapshot = bench.placement.snapshot()
    whole = [taken / 1e3 for taken in bench.nanoseconds.values()]
    submit = [taken / 1e3 for taken in bench.submit_nanoseconds]
    updates = [taken / 1e3 for taken in bench.load_updates(2_000)]
    return Cost(
        policy=policy,
        workers=worker_count,
        whole_median=quantile(whole, 0.5),
        whole_p99=quantile(whole, 0.99),
        submit_median=quantile(submit, 0.5),
        submit_p99=quantile(submit, 0.99),
        load_update_median=quantile(updates, 0.5),
        waited_share=bench.waited_count / request_count,
        mirrored_blocks=sum(counts.mirrored_blocks for counts in snapshot.workers),
        join_seconds=bench.join_seconds,
        bytes_per_worker=bench.bytes_per_worker,
        whole=whole,
        submit=submit,
        load_updates=updates,
    )


def goals(costs: list[Cost]) -> list[Goal]:
    made = []
    for policy in POLICIES:
        whole = {cost.workers: cost.whole_median for cost in costs if cost.policy == policy}
        fewest, most = min(whole), max(whole)
        ratio = whole[most] / whole[fewest]
        made += [
            Goal(f"{policy}: {most} workers to {fewest}", ratio, RATIO_GOAL, "x"),
            Goal(f"{policy}: the slowest median", max(whole.values()), MICROSECONDS_GOAL, "us"),
        ]
    return made


def render(costs: list[Cost]) -> str:
    headers = (
        *("policy, workers", "request us", "p99", "submit us", "p99", "load update us"),
        *("waited", "blocks", "join s", "KiB a worker"),
    )
    rows = [
        (
            *(f"{cost.policy}, {cost.workers}", cost.whole_median, cost.whole_p99),
            *(cost.submit_median, cost.submit_p99, cost.load_update_median, cost.waited_share),
            *(cost.mirrored_blocks, cost.join_seconds, cost.bytes_per_worker / 1024),
        )
        for cost in costs
    ]
    return table(headers, rows)


def key_of(blocks: tuple[bytes, ...]) -> PromptKey:
    block_bytes = BLOCK_TOKENS * BYTES_PER_TOKEN
    return PromptKey(len(blocks) * block_bytes, block_bytes, blocks, blocks[-1])


def make_workers(count: int) -> list[Worker]:
    """Make *count* workers, half of each role, which never have to evict."""
    roles = (Role.PREFILL, Role.DECODE)
    return [make_worker(f"w{number}", roles[number % 2], capacity=10**9) for number in range(count)]


def _make_placement(policy: str) -> Placement:
    return make_placement(policy, PlacementSettings(max_queued=10_000))


def _bytes_per_worker(policy: str, workers: list[Worker]) -> float:
    """Return what the placement keeps of each worker that holds nothing yet."""
    placement = _make_placement(policy)
    tracemalloc.start()
    placement.workers_changed(workers, 0.0)
    size_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return size_bytes / len(workers)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="benchmarks.placement_cost", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few requests and blocks")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    return parser


if __name__ == "__main__":
    sys.exit(main())
