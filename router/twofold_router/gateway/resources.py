"""What all exchanges of one gateway share."""

from collections import Counter
from dataclasses import dataclass, field

from twofold_cluster.identity import WorkerId
from twofold_router.gateway.background import Background
from twofold_router.gateway.doubting import Doubts
from twofold_router.gateway.request_timeout import Deadlines
from twofold_router.gateway.tickets import Desk
from twofold_router.gateway.upstream import Upstream
from twofold_router.metrics import Metrics
from twofold_router.settings import RouterSettings


@dataclass(frozen=True, slots=True)
class Resources:
    """Owned by the gateway; an exchange only uses them."""

    settings: RouterSettings
    desk: Desk
    upstream: Upstream
    background: Background
    deadlines: Deadlines
    metrics: Metrics
    doubts: Doubts
    passed_on: Counter[WorkerId] = field(default_factory=Counter)
    """How many requests that are not placed each worker is answering."""
