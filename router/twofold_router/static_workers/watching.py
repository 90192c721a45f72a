"""From what a given worker's probes say to the entry that a router has of it."""

from collections.abc import Callable

from twofold_cluster.identity import Incarnation
from twofold_cluster.worker import Engine, Load, Worker
from twofold_router.static_workers.errors import RefusedError
from twofold_router.static_workers.flags import GivenWorker
from twofold_router.static_workers.probing import Reading

UNKNOWN_MODEL_TOKENS = 131_071
"""The longest context, of a server that does not tell: what most current models have, less one, so
that it is not taken for what a server has told."""

UNKNOWN_CAPACITY_TOKENS = 262_144
"""Of a server that does not tell: two such contexts. An 8B model has about 400,000 on 80 GB. Too
much here is corrected by the cached tokens that answers report; too little forgets prefixes."""

UNKNOWN_BLOCK_TOKENS = 16
"""vLLM's default."""

REFUSALS_TO_GONE = 2
"""One may come from a full backlog; a process that listens does not refuse twice running."""


class Watch:
    """One given worker: ``worker`` is its entry while it serves, None before and after; ``error``
    is that of its last probe, None if it was good.

    All static workers of one model can pair, as far as is known here: a plain server does not tell
    which KV connector it has, let alone of which version. That they fit is for whoever gives them.
    """

    def __init__(
        self,
        given: GivenWorker,
        service: str,
        *,
        failures_to_gone: int,
        incarnate: Callable[[], Incarnation],
    ) -> None:
        self.given = given
        self.worker: Worker | None = None
        self.error: Exception | None = None
        self._service = service
        self._failures_to_gone = failures_to_gone
        self._incarnate = incarnate
        self._started_at: float | None = None
        self._failures = 0
        self._refusals = 0

    def answered(self, reading: Reading) -> None:
        """Take in a good probe. A worker that was away, or whose process or model is another one
        now, begins a new incarnation."""
        self.error = None
        self._failures = self._refusals = 0
        before = self.worker
        started_at = reading.metrics.started_at
        restarted = None not in (started_at, self._started_at) and started_at != self._started_at
        if before is not None and (restarted or before.model != reading.model):
            before = None
        if before is None or started_at is not None:
            self._started_at = started_at
        self.worker = self._entry(reading, before)

    def failed(self, error: Exception) -> None:
        """Take in a bad probe. The worker is gone after some in a row; after two refusals at
        once, since then its process is."""
        self.error = error
        self._failures += 1
        self._refusals = self._refusals + 1 if isinstance(error, RefusedError) else 0
        if self._failures >= self._failures_to_gone or self._refusals >= REFUSALS_TO_GONE:
            self.worker = None

    def _entry(self, reading: Reading, before: Worker | None) -> Worker:
        """Describe the worker; what it does not tell this time is as *before* in this life."""
        metrics = reading.metrics
        capacity = metrics.kv_capacity_tokens or (before and before.kv_capacity_tokens)
        block = metrics.kv_block_tokens or (before and before.kv_block_tokens)
        longest = reading.max_model_tokens or UNKNOWN_MODEL_TOKENS
        return Worker(
            worker_id=self.given.worker_id,
            incarnation=before.incarnation if before else self._incarnate(),
            service=self._service,
            role=self.given.role,
            revision="",
            address=self.given.origin,
            model=reading.model,
            aliases=reading.aliases,
            engine=Engine(version=reading.version, compatibility=""),
            # vLLM does not start unless one request of the longest context fits.
            kv_capacity_tokens=capacity or max(UNKNOWN_CAPACITY_TOKENS, longest),
            kv_block_tokens=block or UNKNOWN_BLOCK_TOKENS,
            max_model_tokens=longest,
            kv_events=self.given.kv_events,
            kv_events_replay=self.given.kv_events_replay,
            adapters=reading.adapters,
            load=Load(
                running_count=metrics.running_count,
                waiting_count=metrics.waiting_count,
                kv_used_fraction=round(metrics.kv_used_fraction, 3),
            ),
        )
