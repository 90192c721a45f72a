"""How long an engine that has nothing to compute waits for news of its blocks.

vLLM steps on as long as blocks are lent or awaited. A step that waits keeps a new request from the
engine's next one for as long.
"""

SHORT_SECONDS = 0.002
LONG_SECONDS = 0.01
PATIENT_AFTER_SECONDS = 1.0


class IdleWaits:
    """The waits of one engine: short at first, since what is awaited mostly comes within some
    steps. Once they were in vain for a second, as while a prefix is pinned, they are longer, and an
    idle engine needs less CPU."""

    def __init__(self) -> None:
        self._waited_seconds = 0.0

    def next_seconds(self) -> float:
        """Return how long to wait in this step."""
        return SHORT_SECONDS if self._waited_seconds < PATIENT_AFTER_SECONDS else LONG_SECONDS

    def note_vain(self, seconds: float) -> None:
        """Note that nothing came for *seconds*."""
        self._waited_seconds += seconds

    def begin_anew(self) -> None:
        """Note that there was news, or something to compute."""
        self._waited_seconds = 0.0
