"""What a run in virtual time is made of, the requests and the policy left out."""

import msgspec

from twofold_cluster.identity import Role, WorkerId
from twofold_router.placement import PlacementSettings
from twofold_router.settings import RouterSettings
from twofold_sim.measuring import Slo
from twofold_sim.profiles import Profile
from twofold_sim.virtual.errors import InvalidSetupError
from twofold_sim.virtual.incidents import Incident
from twofold_sim.workloads import BLOCK_TOKENS

LEAST_SPEED = 0.001
"""Of a worker: the time of a run grows with how slow the slowest is."""
NEVER_SECONDS = 1e9

_ROUTER = RouterSettings(service="virtual")
_PLACEMENT = PlacementSettings()


class PrefillPool(msgspec.Struct, frozen=True, kw_only=True):
    """Prefill workers alone, as in DualMap's paper: one prompt after the other, at so many seconds
    a token, with the first token at the end and nothing after it."""

    workers: int
    seconds_per_token: float = 0.00016
    """The paper's."""
    cache_tokens: int = 1_000_000
    """Of each worker."""

    def counts(self) -> dict[Role, int]:
        """Return how many workers of each role there are at the beginning."""
        return {Role.PREFILL: self.workers}


class EngineCluster(msgspec.Struct, frozen=True, kw_only=True):
    """Whole engines of one profile: pairs of prefill and decode, or workers that do both."""

    profile: Profile
    prefill: int = 0
    decode: int = 0
    both: int = 0

    def __post_init__(self) -> None:
        """Make sure that the blocks of workloads can be cut into the engines', or be put together.

        Raises:
            InvalidSetupError: they cannot.
        """
        size = self.profile.block_tokens
        if BLOCK_TOKENS % size and size % BLOCK_TOKENS:
            raise InvalidSetupError(
                f"profile {self.profile.name} has blocks of {size} tokens, which neither divide "
                f"{BLOCK_TOKENS} nor are a multiple of it"
            )

    def counts(self) -> dict[Role, int]:
        """Return how many workers of each role there are at the beginning."""
        return {Role.PREFILL: self.prefill, Role.DECODE: self.decode, Role.BOTH: self.both}


_LETTERS = {Role.PREFILL: "p", Role.DECODE: "d", Role.BOTH: "b"}


def worker_ids(cluster: PrefillPool | EngineCluster) -> list[WorkerId]:
    """Name the workers who are there at the beginning: p0 and so on, d0, b0."""
    return [
        WorkerId(f"{_LETTERS[role]}{number}")
        for role, count in cluster.counts().items()
        for number in range(count)
    ]


class Reporting(msgspec.Struct, frozen=True, kw_only=True):
    """How the load of a worker comes to the routers. Each report takes its own time, and is lost to
    one router and not to another; later ones never overtake."""

    least_delay_seconds: float = 0.0
    most_delay_seconds: float = 0.0
    loss: float = 0.0
    """Share of the reports."""


class Setup(msgspec.Struct, frozen=True, kw_only=True):
    """All but the requests and the policy."""

    cluster: PrefillPool | EngineCluster
    replicas: int = 1
    """Routers that the requests are dealt out to in turn."""
    speeds: tuple[float, ...] = (1.0,)
    """Of the workers of each role, in turn and over again; 0.5 takes twice the time. At least
    ``LEAST_SPEED``."""
    misprediction: float = 0.0
    """The prefill of a request takes 1 - this to 1 + this times what its tokens say."""
    reporting: Reporting = Reporting()
    notice_seconds: float = 3.0
    """After which the routers know that a worker is dead: what its entry lives for in Redis."""
    incidents: tuple[Incident, ...] = ()
    slo: Slo = Slo()
    """Placements know of its TTFT."""
    refuse_late: bool = False
    """Requests that cannot be on time are refused, not served late."""
    timeout_seconds: float = NEVER_SECONDS
    """From a request's arrival to its last token; the router ends it then."""
    patience_seconds: float = NEVER_SECONDS
    """From a request's arrival to its first token; its client leaves then."""
    max_queued: int | None = None
    """Requests that may wait at a router; None: all of them."""
    max_unprefilled_tokens: int = _PLACEMENT.max_unprefilled_tokens
    """Tokens at one worker that a router has dispatched and that are not prefilled."""
    min_uncached_tokens: int = _PLACEMENT.min_uncached_tokens
    """With fewer uncached tokens where it is decoded a prompt has no leg 1."""
    max_attempts: int = _ROUTER.max_attempts
    """Workers tried for each leg."""
    suspect_seconds: float = _ROUTER.suspect_seconds
    """A worker that cannot be reached gets nothing new for this long."""
    sample_seconds: float = 1.0
    """Between two looks at what is pending where."""
    seed: int = 0

    def __post_init__(self) -> None:
        """Make sure that the workers come to an end.

        Raises:
            InvalidSetupError: one of them is too slow.
        """
        speed = min(self.speeds)
        if speed < LEAST_SPEED:
            raise InvalidSetupError(
                f"a worker has a speed of {speed:g}, and must have {LEAST_SPEED:g} or more"
            )

    def placement(self) -> PlacementSettings:
        """Return what a placement is bound by."""
        is_pool = isinstance(self.cluster, PrefillPool)
        return PlacementSettings(
            on_no_prefill="fail" if is_pool else "aggregate",
            max_queued=self.max_queued if self.max_queued is not None else 2**62,
            max_unprefilled_tokens=self.max_unprefilled_tokens,
            # Nobody in a pool computes a prompt but the prefill workers.
            min_uncached_tokens=0 if is_pool else self.min_uncached_tokens,
            ttft_slo_seconds=self.slo.ttft_seconds,
            seed=self.seed,
        )
