"""Workers announce themselves in Redis and keep the entry alive; routers follow.

Per service there is a hash for each worker, which Redis forgets when its time limit passes, a set
that names them, and a channel on which each change is published. All carry the service in a hash
tag, so that they stand together in a Redis cluster.

If Redis goes away, a follower goes on with what it knows and is ``stale``; announcers come back by
themselves. After a reconnection a follower gives workers one time limit to be seen again, because
a Redis that was restarted is empty until they write.
"""

from twofold_cluster.membership.announcing import (
    MIN_GAP_SECONDS,
    TTL_SECONDS,
    Announcer,
    FencedError,
)
from twofold_cluster.membership.entries import connect, read_incarnations, read_workers, withdraw
from twofold_cluster.membership.following import SNAPSHOT_INTERVAL_SECONDS, Roster

__all__ = [
    "MIN_GAP_SECONDS",
    "SNAPSHOT_INTERVAL_SECONDS",
    "TTL_SECONDS",
    "Announcer",
    "FencedError",
    "Roster",
    "connect",
    "read_incarnations",
    "read_workers",
    "withdraw",
]
