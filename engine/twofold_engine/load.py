"""What an engine is busy with, from the statistics of its steps."""

import statistics
from collections import deque

from twofold_cluster.worker import Load
from twofold_engine.roles import InFlight

SAMPLE_COUNT = 32
"""Prefills in the median: enough to outvote an outlier, few enough to follow a change."""

MIN_SAMPLE_TOKENS = 16
"""A shorter prefill measures the step, not its tokens."""


class LoadMeter:
    """Holds the last known state of the engine; knows nothing of vLLM."""

    def __init__(self) -> None:
        self._running = 0
        self._waiting = 0
        self._kv_used = 0.0
        self._seconds_per_token: deque[float] = deque(maxlen=SAMPLE_COUNT)

    def step(self, running_count: int, waiting_count: int, kv_used_fraction: float) -> None:
        """Take in the state after one step of the engine."""
        self._running = running_count
        self._waiting = waiting_count
        self._kv_used = kv_used_fraction

    @property
    def is_busy(self) -> bool:
        """True while the engine has a request or holds a block, be it one of millions."""
        return self._running > 0 or self._waiting > 0 or self._kv_used > 0

    def prefilled(self, seconds: float, computed_tokens: int) -> None:
        """Take in one finished prefill that computed *computed_tokens* itself."""
        if computed_tokens >= MIN_SAMPLE_TOKENS and seconds > 0:
            self._seconds_per_token.append(seconds / computed_tokens)

    def load(self, in_flight: InFlight) -> Load:
        """Return the load; the KV use in thousandths, so that noise is not a change."""
        samples = self._seconds_per_token
        return Load(
            running_count=self._running,
            waiting_count=self._waiting,
            unprefilled_count=in_flight.unprefilled_count,
            kv_used_fraction=round(self._kv_used, 3),
            seconds_per_prefill_token=float(f"{statistics.median(samples):.3g}")
            if samples
            else None,
        )
