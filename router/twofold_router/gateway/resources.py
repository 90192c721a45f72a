"""What all exchanges of one gateway share."""

from dataclasses import dataclass

from twofold_router.gateway.background import Background
from twofold_router.gateway.dispatcher import Dispatcher
from twofold_router.gateway.upstream import Upstream
from twofold_router.metrics import Metrics
from twofold_router.settings import RouterSettings


@dataclass(frozen=True, slots=True)
class Resources:
    """Owned by the gateway; an exchange only uses them."""

    settings: RouterSettings
    dispatcher: Dispatcher
    upstream: Upstream
    background: Background
    metrics: Metrics
