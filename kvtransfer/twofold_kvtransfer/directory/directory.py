"""Who holds which blocks, as it stands in Redis."""

from collections.abc import Iterable, Sequence
from typing import Any, Literal, cast

from redis.asyncio import Redis

from twofold_cluster.identity import Incarnation, WorkerId
from twofold_cluster.kv_events import BlockHash
from twofold_cluster.membership.entries import awaited
from twofold_kvtransfer.directory.apply_script import APPLY
from twofold_kvtransfer.directory.encoding import encoded, milliseconds
from twofold_kvtransfer.directory.find_script import FIND
from twofold_kvtransfer.directory.holdings import Holding, Owners, Search, decode_owners
from twofold_kvtransfer.directory.layout import KEY_NAMES
from twofold_kvtransfer.directory.names import block_name
from twofold_kvtransfer.directory.settings import DirectorySettings
from twofold_kvtransfer.directory.sweep_script import FENCE_MARK, FORGET, SWEEP
from twofold_kvtransfer.directory.updates import (
    Answer,
    DirectoryUpdate,
    Position,
    Rebuild,
    Verdict,
)

BLOCKS_PER_FIND = 512
"""Others wait meanwhile: 64 took 0.4 ms of Redis' only thread (docs/performance.md). A longer chain
takes several round trips."""

SWEEPER_PATIENCE_SECONDS = 2.0
"""One that takes no step for so long is gone, and another goes on."""

Sweep = Literal["more", "idle", "busy"]
"""There is more to sweep; there is nothing; another sweeps."""


class Directory:
    """The block directory of one service. Every method takes one round trip, of bounded time; one
    that looks for a long chain takes several.

    What it says is what the workers' events have said: never more, but for events that are still
    on their way. All workers must hash alike (vLLM's SHA-256, or a common ``PYTHONHASHSEED``);
    who pairs with whom is for the caller to know, and so is which incarnation is the newest.

    Everything raises ``RedisError`` or ``OSError``, ``TimeoutError`` among them, when Redis cannot
    be reached.
    """

    def __init__(
        self, redis: "Redis", service: str, settings: DirectorySettings | None = None
    ) -> None:
        self._redis = redis
        self._settings = settings or DirectorySettings()
        self._root = f"twofold:{{{service}}}:kv:"
        self._keys = [self._root + name for name in KEY_NAMES]
        self._apply: Any = redis.register_script(APPLY)
        self._find: Any = redis.register_script(FIND)
        self._forget: Any = redis.register_script(FORGET)
        self._sweep: Any = redis.register_script(SWEEP)
        self._version = b""
        self._owners: Owners = {}

    @property
    def settings(self) -> DirectorySettings:
        return self._settings

    async def apply(self, update: DirectoryUpdate | Rebuild) -> Answer:
        """Take in *update* in one step, and renew the worker's time limit."""
        header, names = encoded(update, self._settings)
        reply = await awaited(self._apply(self._keys, [header, *names]))
        verdict, degraded, refused = cast(tuple[bytes, int, int], reply)
        return Answer(Verdict(verdict.decode()), bool(degraded), refused)

    async def position(self, worker_id: WorkerId, incarnation: Incarnation) -> Position | None:
        """Return how far this incarnation's batches are taken in; None if it is not known."""
        reply = await awaited(
            self._redis.hmget(f"{self._root}life:{worker_id}", "incarnation", "at", "number")
        )
        known, at, number = cast(tuple[bytes | None, bytes | None, bytes | None], reply)
        if known is None or at is None or number is None or known.decode() != incarnation:
            return None
        return Position(float(at), int(number))

    async def incarnations(self, worker_ids: Iterable[WorkerId]) -> list[Incarnation]:
        """Return the newest incarnation of each of these workers that is known, or fenced."""
        pipeline = self._redis.pipeline(transaction=False)
        for worker_id in worker_ids:
            pipeline.hget(f"{self._root}life:{worker_id}", "incarnation")
        found: list[bytes | None] = await awaited(pipeline.execute())
        return [
            Incarnation(known.decode().removesuffix(FENCE_MARK))
            for known in found
            if known is not None
        ]

    async def lists_all(self, worker_id: WorkerId, incarnation: Incarnation) -> bool:
        """Tell whether this incarnation holds nothing but what is listed here."""
        life = f"{self._root}life:{worker_id}"
        reply = await awaited(self._redis.hmget(life, "incarnation", "degraded"))
        return list(reply) == [incarnation.encode(), b"0"]

    async def find(self, chain: Sequence[BlockHash]) -> list[Holding]:
        """Return who holds the longest prefixes of *chain*, and where, the longest first.

        *chain*: the hashes of a prompt's blocks, in order.
        """
        search = Search()
        names = [block_name(block) for block in chain]
        for start in range(0, len(names), BLOCKS_PER_FIND):
            part = names[start : start + BLOCKS_PER_FIND]
            owners, holders = await self._look_up(part)
            search.start(owners)
            search.take(holders, is_end=len(holders) < len(part))
            if search.is_over:
                break
        return search.result()

    async def forget(self, worker_id: WorkerId, incarnation: Incarnation) -> None:
        """Drop what the worker holds. This incarnation cannot come back; a newer one is left."""
        fence_ms = milliseconds(self._settings.fence_seconds)
        await awaited(self._forget(self._keys, [worker_id, incarnation, fence_ms]))

    async def sweep(self, token: str) -> Sweep:
        """Take some of the dropped entries out of memory.

        *token* names the sweeper. There is one at a time; the others are told ``busy``.
        """
        patience_ms = milliseconds(SWEEPER_PATIENCE_SECONDS)
        fence_ms = milliseconds(self._settings.fence_seconds)
        arguments = [token, self._settings.shards_per_sweep, patience_ms, fence_ms]
        reply: bytes = await awaited(self._sweep(self._keys, arguments))
        return cast(Sweep, reply.decode())

    async def holding_count(self) -> int:
        """Return how many holdings take room, with those that are dropped and not swept yet."""
        return int(await awaited(self._redis.hget(f"{self._root}meta", "holdings")) or 0)

    async def _look_up(self, names: list[bytes]) -> tuple[Owners, list[bytes]]:
        """Return the owners of slots whose time is not over, and each block's holders."""
        asked, owners = self._version, self._owners  # others may look up meanwhile
        reply = await awaited(self._find(self._keys, [asked, *names]))
        version, table, late, holders = cast(
            tuple[bytes, list[bytes], list[bytes], list[bytes]], reply
        )
        if version != asked:
            self._version, self._owners = version, decode_owners(table)
            owners = self._owners
        if late:
            gone = {worker.decode() for worker in late}
            owners = {slot: owner for slot, owner in owners.items() if owner.worker_id not in gone}
        return owners, holders
