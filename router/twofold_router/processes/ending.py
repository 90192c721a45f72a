"""How long the end of a gateway process may take."""

import math

from twofold_router.gateway.server import BACKGROUND_DRAIN_SECONDS
from twofold_router.http.server import CANCEL_SECONDS, LAST_WORDS_SECONDS
from twofold_router.settings import RouterSettings

SPARE_SECONDS = 2.0


def end_seconds(settings: RouterSettings) -> int:
    """Return the whole seconds after which a process that was told to end has hung."""
    drain = settings.drain_timeout_seconds + LAST_WORDS_SECONDS + BACKGROUND_DRAIN_SECONDS
    return math.ceil(settings.drain_delay_seconds + drain + CANCEL_SECONDS + SPARE_SECONDS)
