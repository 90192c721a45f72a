"""What a pool manager is told once, and what it tells each worker of it."""

import secrets
from dataclasses import dataclass, field

from twofold_engine.pools.member import Member
from twofold_engine.settings import WorkerSettings

ORPHAN_LIMIT_SECONDS = 600.0
"""Longer than Kubernetes takes to give up a node (300 s) and to start a pod elsewhere."""

START_LIMIT_SECONDS = 3600.0
"""Longer than large models take to be downloaded and loaded."""


@dataclass(frozen=True, slots=True)
class ManagerSettings:
    service: str
    redis: str
    worker_prefix: str
    """What worker ids begin with. Two managers of one service have two of them."""
    directory_holdings: int | None = None
    """Most that the service's block directory lists; None: its own limit. The directory is one for
    all pools, so this is none of an engine."""
    start_limit_seconds: float = START_LIMIT_SECONDS
    """A worker that has its place, and is not ready after this long, is taken for dead."""
    drain_limit_seconds: float = 60.0
    """Longer than the lease of blocks, so that none is taken away from a decode worker."""
    stop_limit_seconds: float = 15.0
    silence_limit_seconds: float = 60.0
    """A worker whose actor does not answer for this long is taken for dead."""
    orphan_limit_seconds: float = ORPHAN_LIMIT_SECONDS
    """A worker whose manager is silent for this long ends by itself."""
    manager_id: str = field(default_factory=lambda: secrets.token_hex(8))
    """Tells this process from all others that manage, or managed, the same workers."""


def worker_settings(settings: ManagerSettings, member: Member) -> WorkerSettings:
    """Return how *member* is started."""
    engine = member.pool.engine
    return WorkerSettings(
        service=settings.service,
        worker_id=member.worker_id,
        role=member.role,
        revision=member.pool.revision,
        incarnation=member.incarnation,
        model=engine.model,
        served_name=engine.served_name,
        redis=settings.redis,
        tensor_parallel=engine.tensor_parallel,
        threads=max(1, int(engine.cpus)),
        kv_cache_gib=engine.kv_cache_gib,
        max_unprefilled=engine.max_unprefilled,
        engine_args=engine.engine_args,
        kv_events=engine.kv_events,
        rdma=engine.rdma,
        connector=engine.connector,
        transport=engine.transport,
        compression=engine.compression,
        unverified=engine.unverified,
        directory_holdings=settings.directory_holdings,
        standby=member.pool.standby,
    )
