"""One engine: its model in time, its blocks and leases, its faults and its counts."""

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from twofold_sim.engine_model import BatchingEngine, EngineCounts
from twofold_sim.live.blocks import Keeping, block_ids, telling_block_ids
from twofold_sim.live.borrowing import Borrowing
from twofold_sim.live.driver import Driver
from twofold_sim.live.errors import UnknownModelError
from twofold_sim.live.faults import FaultOrder, Faults
from twofold_sim.live.gate import Gate
from twofold_sim.live.kv_publishing import KvPublisher
from twofold_sim.live.leases import BlockNumbers, Leases
from twofold_sim.live.metrics import EngineMetrics, Snapshot
from twofold_sim.live.settings import EngineSettings
from twofold_sim.live.tokens import Tokens

SAMPLE_COUNT = 32
"""Prefills whose seconds per token are remembered."""


class SimEngine:
    """What the requests of one engine share. It has crashed when ``crashed`` is set.

    A job's blocks are free at its end, or lent: then its id is in ``leases`` until they are freed.
    """

    def __init__(
        self,
        settings: EngineSettings,
        borrowing: Borrowing,
        publisher: KvPublisher | None,
        leases: Leases,
    ) -> None:
        profile = settings.profile
        self.settings = settings
        self.role = settings.role
        self.adapters = {name: name for name in settings.adapters}
        """The source of each, by the name that clients send."""
        self._in_use: Counter[str] = Counter()
        """Requests of each adapter that has any."""
        self.borrowing = borrowing
        self.publisher = publisher
        self.leases = leases
        self.faults = Faults(settings.faults, settings.seed)
        self.gate = Gate(settings.limits)
        self.started_at = time.time()
        self.side_channel_port = settings.side_channel_port
        self.crashed = asyncio.Event()
        self.external_queries = 0
        self.external_hits = 0
        self.prefill_speeds: deque[float] = deque(maxlen=SAMPLE_COUNT)
        """Seconds per token, of the last prefills."""
        self.on_change: Callable[[], None] = lambda: None
        """Called when something has happened; whoever announces the load sets it."""
        self.metrics = EngineMetrics(settings.model, self.snapshot)
        self.driver = Driver(
            self._new_model(), settings.speed / self.faults.slowness, self._changed
        )
        self._earlier_counts: list[EngineCounts] = []
        self._capacity_blocks = profile.kv_capacity_tokens // profile.block_tokens
        self._numbers = BlockNumbers(self._capacity_blocks)
        self._serial = 0

    @property
    def is_busy(self) -> bool:
        """Tell whether a request is here, or a block that somebody may still fetch."""
        return self.gate.request_count > 0 or len(self.leases) > 0

    def next_job_id(self, request_id: str) -> str:
        """Return an id that is new, also when a client sends the same *request_id* again."""
        self._serial += 1
        return f"{request_id}-{self._serial:08x}"

    def adapter(self, model: str | None) -> str | None:
        """Return the adapter that *model* names, None for the base model, as which no name counts.

        Raises:
            UnknownModelError: it is neither.
        """
        if not model or model == self.settings.model:
            return None
        if model in self.adapters:
            return model
        raise UnknownModelError(f"The model `{model}` does not exist.", param="model")

    @contextmanager
    def using(self, adapter: str | None) -> Iterator[None]:
        """Count a request for *adapter*, None the base model, as long as it is here."""
        if adapter is None:
            yield
            return
        self._in_use[adapter] += 1
        try:
            yield
        finally:
            self._in_use[adapter] -= 1
            if not self._in_use[adapter]:
                del self._in_use[adapter]

    def block_ids(self, tokens: Tokens, adapter: str | None, salt: str | None) -> list[int]:
        """Return the ids of the full blocks of a prompt."""
        name = block_ids if self.publisher is None else telling_block_ids
        keeping = Keeping(self.settings.model, adapter, salt)
        return name(tokens, self.settings.profile.block_tokens, keeping)

    def lend(self, job_id: str, prompt_tokens: int, cached_tokens: int) -> dict[str, Any]:
        """Keep the blocks of a finished leg 1 under a lease, and return where they are."""
        settings = self.settings
        block_count = -(-prompt_tokens // settings.profile.block_tokens)
        numbers = self._numbers.take(block_count)
        self.leases.lend(job_id, numbers, self._time())
        params = {
            "do_remote_prefill": True,
            "do_remote_decode": False,
            "remote_block_ids": [numbers],
            "remote_engine_id": settings.engine_id,
            "remote_request_id": job_id,
            "remote_host": settings.host,
            "remote_port": self.side_channel_port,
            "tp_size": 1,
            "dcp_size": 1,
            "pp_size": 1,
            "remote_num_tokens": prompt_tokens,
            "remote_blocks_expiry_time": None,
            "transfer_mode": "pull",
            "remote_prefill_cached_tokens": cached_tokens,
        }
        if self.faults.strike("drop-lease"):
            self.leases.drop(job_id)
            self.driver.release(job_id)
        if self.faults.strike("corrupt-params"):
            params["remote_request_id"] = f"corrupt-{job_id}"
        return params

    def expire_leases(self) -> None:
        """Free the blocks whose lease is over."""
        for job_id in self.leases.expire(self._time()):
            self.driver.release(job_id)

    def clear_cache(self) -> bool:
        """Forget all blocks, and return True, unless one is lent; then do nothing."""
        counts = self.driver.counts()
        if self.gate.request_count or counts.kv_used_fraction:
            return False
        self._earlier_counts.append(counts)
        self.driver.replace(self._new_model())
        if self.publisher is not None:
            self.publisher.note_cleared()
        return True

    def order_faults(self, orders: list[FaultOrder]) -> None:
        """Have these faults from now on, and no others."""
        self.faults.replace(orders)
        self.driver.set_speed(self.settings.speed / self.faults.slowness)

    def snapshot(self) -> Snapshot:
        borrowed = self.borrowing.counts
        return Snapshot(
            counts=self._counts(),
            capacity_blocks=self._capacity_blocks,
            block_tokens=self.settings.profile.block_tokens,
            started_at=self.started_at,
            external_queries=self.external_queries,
            external_hits=self.external_hits,
            failed_transfers=borrowed.failed_transfers,
            failed_notifications=borrowed.failed_notifications,
            expired_leases=self.leases.expired_count,
            late_notifications=self.leases.late_count,
            adapter_count=len(self.adapters),
            adapters_in_use=tuple(self._in_use),
        )

    def _new_model(self) -> BatchingEngine:
        on_blocks = None if self.publisher is None else self.publisher.note
        return BatchingEngine(self.settings.profile, tells_each_token=True, on_blocks=on_blocks)

    def _counts(self) -> EngineCounts:
        """Return the counts of now, with what was counted before the cache was cleared."""
        now = self.driver.counts()
        every = [*self._earlier_counts, now]
        return EngineCounts(
            running=now.running,
            waiting=now.waiting,
            kv_used_fraction=now.kv_used_fraction,
            preemptions=sum(each.preemptions for each in every),
            prompt_tokens=sum(each.prompt_tokens for each in every),
            generated_tokens=sum(each.generated_tokens for each in every),
            prefix_queries=sum(each.prefix_queries for each in every),
            prefix_hits=sum(each.prefix_hits for each in every),
        )

    def _time(self) -> float:
        return asyncio.get_running_loop().time()

    def _changed(self) -> None:
        if self.publisher is not None:
            self.publisher.flush()
        self.on_change()
