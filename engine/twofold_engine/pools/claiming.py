"""Which of two pool managers of the same workers is the one: the last that said so in Redis.

Workers refuse a manager that they were taken from. This is for the manager that has no worker which
could tell it so, and would go on starting others beside its successor's.
"""

from redis.asyncio import Redis

from twofold_cluster.membership.entries import REDIS_IS_AWAY, awaited
from twofold_engine.errors import SupersededError

CLAIM_SECONDS = 3600
"""How long a claim stays of a manager that has gone; it is made again when it has passed."""


class Claim:
    """One manager's claim to the workers of a service that have one prefix. Redis being away is no
    error: the claim is made, or looked at, when it is back."""

    def __init__(self, redis: "Redis", service: str, worker_prefix: str, manager_id: str) -> None:
        self._redis = redis
        self._key = f"twofold:{{{service}}}:manager:{worker_prefix}"
        self._manager_id = manager_id
        self._is_made = False

    async def make(self) -> None:
        """Claim them, whoever did before."""
        try:
            await awaited(self._redis.set(self._key, self._manager_id, ex=CLAIM_SECONDS))
            self._is_made = True
        except REDIS_IS_AWAY:
            pass

    async def check(self) -> None:
        """See that nobody has claimed them since.

        Raises:
            SupersededError: somebody has.
        """
        if not self._is_made:
            await self.make()
            return
        try:
            found: bytes | None = await awaited(self._redis.get(self._key))
            if found is None:  # it has passed, or Redis has lost it
                await awaited(
                    self._redis.set(self._key, self._manager_id, ex=CLAIM_SECONDS, nx=True)
                )
        except REDIS_IS_AWAY:
            return
        if found is not None and found.decode() != self._manager_id:
            raise SupersededError(f"pool manager {found.decode()} has taken over")
