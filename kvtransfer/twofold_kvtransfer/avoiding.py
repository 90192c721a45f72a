"""Sources of prefixes that did not answer, and are left alone for a while."""

from dataclasses import dataclass

FIRST_WAIT_SECONDS = 1.0
LONGEST_WAIT_SECONDS = 60.0
"""An engine that hangs is replaced in about a minute, and has another id then."""

MAX_SOURCES = 1024
"""That are known to be silent, at most; beyond it the one that failed longest ago is forgotten."""


@dataclass(slots=True)
class _Silence:
    failed_at: float
    wait_seconds: float
    until: float
    """Nobody asks before; whoever asks then moves it on, and is the only one to ask."""


class SilentSources:
    """Says who may be asked, by what came of asking before.

    A source that did not answer is left alone for a second, then one pull asks it, and each time in
    vain the wait doubles. An answer, whatever it says, ends that. All times are in seconds, of one
    clock that the caller has.
    """

    def __init__(self, max_sources: int = MAX_SOURCES) -> None:
        self._max_sources = max_sources
        self._silent: dict[str, _Silence] = {}
        """By engine id, so that a new incarnation is asked; the latest failure is the last."""

    def may_ask(self, engine_id: str, now: float) -> bool:
        """Say whether to ask a source *now*; who is told so is expected to do it."""
        silence = self._silent.get(engine_id)
        if silence is None:
            return True
        if now < silence.until:
            return False
        # The others wait for what comes of it, or as long again if nothing is heard of it.
        silence.until = now + silence.wait_seconds
        return True

    def note_answer(self, engine_id: str) -> None:
        self._silent.pop(engine_id, None)

    def note_silence(self, engine_id: str, asked_at: float, now: float) -> None:
        """Note that a source which was asked at *asked_at* has not answered.

        Many may have asked before the first of them failed; together they tell no more than it.
        """
        known = self._silent.get(engine_id)
        if known is not None and asked_at < known.failed_at:
            return
        wait_seconds = FIRST_WAIT_SECONDS
        if known is not None:
            wait_seconds = min(LONGEST_WAIT_SECONDS, 2 * known.wait_seconds)
            del self._silent[engine_id]
        self._silent[engine_id] = _Silence(now, wait_seconds, now + wait_seconds)
        if len(self._silent) > self._max_sources:
            del self._silent[next(iter(self._silent))]
