"""Workers announce themselves in Redis and keep the entry alive; routers follow.

Per service there is a hash for each worker, which Redis forgets when its time limit passes, a set
that names them, and a channel on which each change is published. All carry the service in a hash
tag, so that they stand together in a Redis cluster.

If Redis goes away, a follower goes on with what it knows and is ``stale``; announcers come back by
themselves. After a reconnection a follower gives workers one time limit to be seen again, because
a Redis that was restarted is empty until they write.
"""

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from typing import Any, cast

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

from twofold_cluster.errors import TwofoldError
from twofold_cluster.identity import Incarnation, WorkerId
from twofold_cluster.worker import Gone, Worker

TTL_SECONDS = 3.0
"""A worker that stops announcing itself is gone after this long."""

ANNOUNCEMENTS_PER_TTL = 3
"""Three tries within the time limit: one lost write does not make a worker vanish."""

MIN_GAP_SECONDS = 0.05
"""Load goes out as it changes, at most this often (DESIGN, "Membership and load")."""

SNAPSHOT_INTERVAL_SECONDS = 0.5
"""How often a follower reads everything again: a published message may be lost, a read is not."""

RETRY_SECONDS = 0.5
REDIS_TIMEOUT_SECONDS = 2.0

# KEYS: entry, names, channel. ARGV: worker id, incarnation, encoded worker, time limit in ms.
_ANNOUNCE = """
local known = redis.call('HGET', KEYS[1], 'incarnation')
if known and known > ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], 'incarnation', ARGV[2], 'entry', ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
redis.call('SADD', KEYS[2], ARGV[1])
redis.call('PUBLISH', KEYS[3], ARGV[3])
return 1
"""

# KEYS: entry, names, channel. ARGV: worker id, incarnation, encoded farewell.
_WITHDRAW = """
local known = redis.call('HGET', KEYS[1], 'incarnation')
if known and known > ARGV[2] then return 0 end
redis.call('DEL', KEYS[1])
redis.call('SREM', KEYS[2], ARGV[1])
redis.call('PUBLISH', KEYS[3], ARGV[3])
return 1
"""

_REDIS_IS_AWAY = (RedisError, OSError, TimeoutError)

_log = logging.getLogger(__name__)
_encode = msgspec.json.Encoder().encode
_decoder: msgspec.json.Decoder[Worker | Gone] = msgspec.json.Decoder(Worker | Gone)


class FencedError(TwofoldError):
    """A newer incarnation of this worker has announced itself: this one must end."""


def connect(url: str) -> "Redis":
    """Open a client for *url*. What awaits it bounds the wait itself.

    With a ``socket_timeout`` the client sends by ``asyncio.wait_for``, which in Python 3.11 loses
    a cancellation that arrives as the bytes leave: a task that is cancelled then lives on.
    """
    return Redis.from_url(
        url,
        socket_timeout=None,
        socket_connect_timeout=REDIS_TIMEOUT_SECONDS,
        health_check_interval=5,
    )


class Announcer:
    """Keeps one worker's entry alive, and sends it out anew soon after it changes."""

    def __init__(self, redis: "Redis", worker: Worker, *, ttl_seconds: float = TTL_SECONDS) -> None:
        self._redis = redis
        self._worker = worker
        self._ttl_seconds = ttl_seconds
        self._changed = asyncio.Event()
        self._reachable = True

    @property
    def worker(self) -> Worker:
        return self._worker

    def update(self, worker: Worker) -> None:
        """Announce *worker* from now on; it is the same worker and incarnation."""
        assert worker.incarnation == self._worker.incarnation, (worker, self._worker)
        if worker != self._worker:
            self._worker = worker
            self._changed.set()

    async def run(self) -> None:
        """Announce until cancelled, then withdraw.

        Raises:
            FencedError: a newer incarnation has taken the worker id.
        """
        try:
            while True:
                self._changed.clear()
                interval_seconds = self._ttl_seconds / ANNOUNCEMENTS_PER_TTL
                delay = interval_seconds if await self._announce() else RETRY_SECONDS
                await asyncio.sleep(MIN_GAP_SECONDS)
                try:
                    async with asyncio.timeout(delay - MIN_GAP_SECONDS):
                        await self._changed.wait()
                except TimeoutError:
                    pass
        finally:
            gone = Gone(worker_id=self._worker.worker_id, incarnation=self._worker.incarnation)
            await asyncio.shield(withdraw(self._redis, self._worker.service, gone))

    async def _announce(self) -> bool:
        worker = self._worker
        try:
            accepted = await _run_script(
                self._redis,
                _ANNOUNCE,
                worker.service,
                worker,
                _encode(worker),
                str(int(self._ttl_seconds * 1000)),
            )
        except _REDIS_IS_AWAY as error:
            if self._reachable:
                _log.warning("cannot announce", extra={"error": repr(error)})
            self._reachable = False
            return False
        if not self._reachable:
            _log.info("announcing again")
        self._reachable = True
        if not accepted:
            raise FencedError(f"{worker.worker_id}: {worker.incarnation} is not the newest")
        return True


async def withdraw(redis: "Redis", service: str, gone: Gone) -> None:
    """Remove a worker unless a newer incarnation stands there. Redis being away is no error:
    the entry then ends by its time limit."""
    try:
        await _run_script(redis, _WITHDRAW, service, gone, _encode(gone))
    except _REDIS_IS_AWAY as error:
        _log.warning("cannot withdraw", extra={"error": repr(error)})


async def read_workers(redis: "Redis", service: str) -> list[Worker]:
    """Return all workers of *service* whose entries are alive.

    Raises:
        RedisError, OSError: Redis cannot be reached.
    """
    members: Iterable[bytes] = await _awaited(redis.smembers(_names_key(service)))
    names = sorted(member.decode() for member in members)
    if not names:
        return []
    pipeline = redis.pipeline(transaction=False)
    for name in names:
        pipeline.hget(_entry_key(service, WorkerId(name)), "entry")
    entries: list[bytes | None] = await _awaited(pipeline.execute())
    forgotten = [name for name, entry in zip(names, entries, strict=True) if entry is None]
    if forgotten:
        # One that announces itself meanwhile is back in the set within a second.
        await _awaited(redis.srem(_names_key(service), *forgotten))
    messages = [_decode_message(entry) for entry in entries if entry is not None]
    return [message for message in messages if isinstance(message, Worker)]


class Roster:
    """The workers of one service, as a follower knows them.

    Invariant: at most one incarnation of a worker is in it, the newest that was ever seen.
    """

    def __init__(
        self,
        redis: "Redis",
        service: str,
        *,
        on_change: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
        ttl_seconds: float = TTL_SECONDS,
    ) -> None:
        self._redis = redis
        self._service = service
        self._on_change = on_change
        self._clock = clock
        self._ttl_seconds = ttl_seconds
        self._workers: dict[WorkerId, Worker] = {}
        self._newest: dict[WorkerId, Incarnation] = {}
        self._heard_at: dict[WorkerId, float] = {}
        self._grace_until = 0.0
        self._stale = True

    @property
    def workers(self) -> Mapping[WorkerId, Worker]:
        return self._workers

    @property
    def stale(self) -> bool:
        """True while Redis cannot be read: what is known may be old."""
        return self._stale

    async def run(self) -> None:
        """Follow until cancelled, through any number of reconnections."""
        while True:
            error = await self._follow()
            if not self._stale:
                _log.warning("membership is stale", extra={"error": repr(error)})
            self._stale = True
            self._grace_until = self._clock() + RETRY_SECONDS + self._ttl_seconds
            await asyncio.sleep(RETRY_SECONDS)

    async def _follow(self) -> Exception:
        """Follow over one connection, and return what broke it.

        The tasks do not raise what breaks them: in Python 3.11 a TaskGroup that is cancelled as a
        task of it fails raises the failure alone, and the cancellation is lost.
        """
        broken: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()
        try:
            async with self._redis.pubsub(ignore_subscribe_messages=True) as pubsub:
                await _awaited(pubsub.subscribe(_channel(self._service)))
                async with asyncio.TaskGroup() as group:
                    tasks = [
                        group.create_task(_until_broken(self._read_regularly(), broken)),
                        group.create_task(_until_broken(self._listen(pubsub), broken)),
                    ]
                    error = await broken
                    for task in tasks:
                        task.cancel()
        except _REDIS_IS_AWAY as failure:
            return failure
        return error

    async def _read_regularly(self) -> None:
        while True:
            began_at = self._clock()
            workers = await read_workers(self._redis, self._service)
            if self._stale:
                _log.info("membership is fresh", extra={"workers": len(workers)})
            self._stale = False
            self._replace(workers, began_at)
            await asyncio.sleep(SNAPSHOT_INTERVAL_SECONDS)

    async def _listen(self, pubsub: Any) -> None:
        while True:
            # The timeout only bounds one wait; a quiet channel is normal.
            message = await pubsub.get_message(timeout=1.0)
            known = None if message is None else _decode_message(message["data"])
            if known is not None:
                self._hear(known)

    def _hear(self, message: Worker | Gone) -> None:
        known = self._newest.get(message.worker_id)
        if known is not None and known > message.incarnation:
            return
        self._newest[message.worker_id] = message.incarnation
        self._heard_at[message.worker_id] = self._clock()
        if isinstance(message, Worker):
            changed = self._workers.get(message.worker_id) != message
            self._workers[message.worker_id] = message
        else:
            changed = self._workers.pop(message.worker_id, None) is not None
        if changed:
            self._on_change()

    def _replace(self, workers: list[Worker], began_at: float) -> None:
        for worker in workers:
            # What was heard while the entries were read is newer than they are.
            if self._heard_at.get(worker.worker_id, -math.inf) < began_at:
                self._hear(worker)
        if self._clock() < self._grace_until:
            return
        gone = [
            worker_id
            for worker_id in self._workers.keys() - {worker.worker_id for worker in workers}
            if self._heard_at[worker_id] < began_at  # else it joined while the others were read
        ]
        for worker_id in gone:
            del self._workers[worker_id]
        if gone:
            self._on_change()


async def _until_broken(
    following: Coroutine[Any, Any, None], broken: asyncio.Future[Exception]
) -> None:
    try:
        await following
    except _REDIS_IS_AWAY as error:
        if not broken.done():
            broken.set_result(error)


def _entry_key(service: str, worker_id: WorkerId) -> str:
    return f"twofold:{{{service}}}:worker:{worker_id}"


def _names_key(service: str) -> str:
    return f"twofold:{{{service}}}:workers"


def _channel(service: str) -> str:
    return f"twofold:{{{service}}}:changes"


def _decode_message(message: bytes) -> Worker | Gone | None:
    """Return None for what this version cannot read: one such worker must not blind a follower."""
    try:
        return _decoder.decode(message)
    except msgspec.DecodeError as error:
        _log.warning("cannot read a worker's announcement", extra={"error": repr(error)})
        return None


async def _run_script(
    redis: "Redis", script: str, service: str, about: Worker | Gone, *arguments: bytes | str
) -> bool:
    keys = [_entry_key(service, about.worker_id), _names_key(service), _channel(service)]
    reply = await _awaited(
        redis.eval(script, 3, *keys, about.worker_id, about.incarnation, *arguments)
    )
    return bool(reply)


async def _awaited(reply: object) -> Any:
    # redis-py types its commands for the synchronous and the asynchronous client at once.
    async with asyncio.timeout(REDIS_TIMEOUT_SECONDS):
        return await cast(Awaitable[Any], reply)
