"""How much later than predicted first tokens come."""

from twofold_router.placement.rolling_quantile import RollingQuantile

WINDOW = 64
SHARE = 0.9
"""Of the first tokens, so many are not to come later than planned for."""

MIN_SAMPLES = 8
"""Before so many, one slow request would speak for all."""


class Lateness:
    """What a plan has to keep in reserve, in ``seconds``: the transfer and the first step of the
    decode, a speed that is judged a little too well, and work that other routers brought."""

    __slots__ = ("_errors", "seconds")

    seconds: float

    def __init__(self) -> None:
        self._errors = RollingQuantile(WINDOW, SHARE)
        self.seconds = 0.0

    def observe(self, predicted_seconds: float, measured_seconds: float) -> None:
        """Take in a first token that came *measured_seconds* after its request was dispatched."""
        self._errors.add(measured_seconds - predicted_seconds)
        if len(self._errors) >= MIN_SAMPLES:
            self.seconds = max(self._errors.value or 0.0, 0.0)
