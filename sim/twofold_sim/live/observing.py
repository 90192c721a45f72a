"""What an engine's metrics are told of one job."""

from twofold_sim.engine_model import Event
from twofold_sim.live.engine import SimEngine

MIN_SAMPLE_TOKENS = 16
"""A shorter prefill measures the step, not its tokens (twofold_engine.load)."""


class JobObserver:
    """Notes the times of one job, in real seconds. Its events come in their order."""

    def __init__(self, engine: SimEngine, prompt_tokens: int) -> None:
        self._engine = engine
        self._prompt_tokens = prompt_tokens
        self._arrived_at = engine.driver.now()
        """In the model's time, as the others."""
        self._first_at = self._last_at = 0.0

    def first_token(self, event: Event) -> None:
        """Note the end of the prefill.

        The model does not say when a job leaves the queue: what the prefill and the fetch do not
        take by themselves was waiting.
        """
        metrics = self._engine.metrics
        self._first_at = self._last_at = event.at
        whole = event.at - self._arrived_at
        alone = min(whole, self._alone_seconds(event))
        metrics.ttft.observe(self._seconds(whole))
        metrics.prefill.observe(self._seconds(alone))
        metrics.queue.observe(self._seconds(whole - alone))
        cached, fetched = event.cached_tokens, event.fetched_tokens
        computed = self._prompt_tokens - cached - fetched
        metrics.prefilled(computed=computed, cached=cached, fetched=fetched)

    def token(self, event: Event) -> None:
        self._engine.metrics.token_gap.observe(self._seconds(event.at - self._last_at))
        self._last_at = event.at

    def finished(self, event: Event) -> None:
        metrics = self._engine.metrics
        decode_seconds = self._seconds(event.at - self._first_at)
        metrics.whole.observe(self._seconds(event.at - self._arrived_at))
        metrics.decode.observe(decode_seconds)
        if event.token_count > 1:
            metrics.token_mean.observe(decode_seconds / (event.token_count - 1))

    def _alone_seconds(self, event: Event) -> float:
        """Return how long this prefill takes on an engine that does nothing else, and note how long
        that is for a token."""
        profile = self._engine.settings.profile
        before = event.cached_tokens + event.fetched_tokens
        computed = max(1, self._prompt_tokens - before)
        pairs = computed * before + computed * (computed + 1) / 2
        seconds = profile.steps.seconds(computed, pairs)
        if computed >= MIN_SAMPLE_TOKENS:
            self._engine.prefill_speeds.append(self._seconds(seconds) / computed)
        if event.fetched_tokens:
            transfer = profile.transfer
            fetching = transfer.latency_seconds + transfer.per_token * event.fetched_tokens
            self._engine.metrics.transfer.observe(self._seconds(fetching))
            seconds += fetching
        return seconds + profile.request_seconds

    def _seconds(self, model_seconds: float) -> float:
        return model_seconds / self._engine.driver.speed
