"""Which LoRA adapter one worker loads or unloads next. Pure; None when settled."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from twofold_engine.pools.planning import restart_delay_seconds
from twofold_engine.pools.wanting import Adapter


@dataclass(frozen=True, slots=True)
class AdapterState:
    """One adapter of one worker. ``loaded``: the engine may serve it. ``message`` says why the
    last attempt to change that failed; ``retry_at`` is in the clock of the caller."""

    source: str
    loaded: bool = False
    message: str = ""
    failure_count: int = 0
    retry_at: float = 0.0

    def failed(self, message: str, now: float) -> "AdapterState":
        """Return the state after another failure: tried again later after each in a row."""
        count = self.failure_count + 1
        retry_at = now + restart_delay_seconds(count)
        return AdapterState(self.source, self.loaded, message, count, retry_at)


@dataclass(frozen=True, slots=True)
class Load:
    adapter: Adapter


@dataclass(frozen=True, slots=True)
class Unload:
    name: str


def next_step(
    wanted: Sequence[Adapter], there: Mapping[str, AdapterState], now: float
) -> Load | Unload | None:
    """Return what brings *there* nearer to *wanted*. One of another source is unloaded first."""
    sources = {adapter.name: adapter.source for adapter in wanted}
    for name, state in there.items():
        if state.loaded and sources.get(name) != state.source and state.retry_at <= now:
            return Unload(name)
    for adapter in wanted:
        before = there.get(adapter.name)
        if before is None or (not before.loaded and _may_load(adapter, before, now)):
            return Load(adapter)
    return None


def _may_load(adapter: Adapter, before: AdapterState, now: float) -> bool:
    return before.source != adapter.source or before.retry_at <= now
