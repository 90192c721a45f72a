"""What cannot be measured, whatever the engine is like."""

from twofold_cluster.errors import TwofoldError


class InvalidCalibrationError(TwofoldError):
    """It makes no sense to begin so; the message names the setting."""
