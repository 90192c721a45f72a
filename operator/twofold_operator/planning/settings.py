"""What the operator is told once for all services."""

from dataclasses import dataclass

from twofold_operator.planning.redis import Redis, redis_at


@dataclass(frozen=True, slots=True)
class PlanSettings:
    redis_url: str
    """The membership's Redis, with its password; written into a Secret beside each service."""
    router_image: str = "twofold-router:0.1.0"
    worker_image: str = "twofold-worker:0.1.0"
    sim_image: str = "twofold-sim:0.1.0"
    image_pull_secrets: tuple[str, ...] = ()
    ray_version: str = "2.60.0"
    operator_namespace: str = "twofold"
    """From here the pool managers are reached; for the NetworkPolicy."""
    network_policies: bool = True
    scraping_namespaces: tuple[str, ...] = ()
    """From here Prometheus reaches the workers; for the NetworkPolicy."""
    lease_seconds: float = 30.0
    """How long a prefill worker keeps blocks that nobody fetches."""
    drain_seconds: float = 60.0
    """How long a leaving worker may take to finish what it has."""
    ending_limit_seconds: float = 600.0
    """After this long a revision that should end is deleted, whether it has drained or not."""
    deletion_limit_seconds: float = 180.0
    """The same for a service that is deleted."""

    @property
    def redis(self) -> Redis:
        """Return the Redis that whatever starts now shall know."""
        return redis_at(self.redis_url)
