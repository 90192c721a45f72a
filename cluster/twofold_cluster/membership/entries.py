"""What stands in Redis, and the steps that change or read it."""

import asyncio
import logging
from collections.abc import Awaitable, Iterable
from typing import Any, cast

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

from twofold_cluster.identity import Incarnation, WorkerId
from twofold_cluster.worker import Gone, Worker

REDIS_TIMEOUT_SECONDS = 2.0

FENCE_SECONDS = 600
"""How long an incarnation that was withdrawn cannot come back."""

_FENCE_MARK = "~"

REDIS_IS_AWAY = (RedisError, OSError, TimeoutError)
"""What any step here raises when Redis cannot be reached, or not in time."""

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

# KEYS: entry, names, channel. ARGV: worker id, incarnation, encoded farewell, time limit in ms.
# What stays for a while is greater than the incarnation that it fences, and smaller than the next:
# a worker that was only thought dead must not announce itself again.
_WITHDRAW = f"""
local known = redis.call('HGET', KEYS[1], 'incarnation')
if known and known > ARGV[2] then return 0 end
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'incarnation', ARGV[2] .. '{_FENCE_MARK}')
redis.call('PEXPIRE', KEYS[1], ARGV[4])
redis.call('SREM', KEYS[2], ARGV[1])
redis.call('PUBLISH', KEYS[3], ARGV[3])
return 1
"""

_log = logging.getLogger(__name__)
_encode = msgspec.json.Encoder().encode
_decoder: msgspec.json.Decoder[Worker | Gone] = msgspec.json.Decoder(Worker | Gone)


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


async def announce(redis: "Redis", worker: Worker, ttl_seconds: float) -> bool:
    """Write *worker*'s entry for *ttl_seconds*, and publish it. Returns False if a newer
    incarnation stands there.

    Raises:
        RedisError, OSError: Redis cannot be reached.
    """
    ttl_milliseconds = str(int(ttl_seconds * 1000))
    return await _run_script(
        redis, _ANNOUNCE, worker.service, worker, _encode(worker), ttl_milliseconds
    )


async def withdraw(redis: "Redis", service: str, gone: Gone) -> None:
    """Remove a worker unless a newer incarnation stands there. Redis being away is no error:
    the entry then ends by its time limit."""
    try:
        fence_milliseconds = str(FENCE_SECONDS * 1000)
        await _run_script(redis, _WITHDRAW, service, gone, _encode(gone), fence_milliseconds)
    except REDIS_IS_AWAY as error:
        _log.warning("cannot withdraw", extra={"error": repr(error)})


async def read_workers(redis: "Redis", service: str) -> list[Worker]:
    """Return all workers of *service* whose entries are alive.

    Raises:
        RedisError, OSError: Redis cannot be reached.
    """
    members: Iterable[bytes] = await awaited(redis.smembers(_names_key(service)))
    names = sorted(member.decode() for member in members)
    if not names:
        return []
    pipeline = redis.pipeline(transaction=False)
    for name in names:
        pipeline.hget(_entry_key(service, WorkerId(name)), "entry")
    entries: list[bytes | None] = await awaited(pipeline.execute())
    forgotten = [name for name, entry in zip(names, entries, strict=True) if entry is None]
    if forgotten:
        # One that announces itself meanwhile is back in the set within a second.
        await awaited(redis.srem(_names_key(service), *forgotten))
    messages = [decode_message(entry) for entry in entries if entry is not None]
    return [message for message in messages if isinstance(message, Worker)]


async def read_incarnations(
    redis: "Redis", service: str, worker_ids: Iterable[WorkerId]
) -> list[Incarnation]:
    """Return the newest incarnation of each of these workers that Redis knows, or fences.

    Raises:
        RedisError, OSError: Redis cannot be reached.
    """
    pipeline = redis.pipeline(transaction=False)
    for worker_id in worker_ids:
        pipeline.hget(_entry_key(service, worker_id), "incarnation")
    found: list[bytes | None] = await awaited(pipeline.execute())
    return [
        Incarnation(known.decode().removesuffix(_FENCE_MARK))
        for known in found
        if known is not None
    ]


def channel(service: str) -> str:
    """Return the channel on which the changes of *service* are published."""
    return f"twofold:{{{service}}}:changes"


def decode_message(message: bytes) -> Worker | Gone | None:
    """Return None for what this version cannot read: one such worker must not blind a follower."""
    try:
        return _decoder.decode(message)
    except msgspec.DecodeError as error:
        _log.warning("cannot read a worker's announcement", extra={"error": repr(error)})
        return None


async def awaited(reply: object) -> Any:
    """Await a command of redis-py, for a bounded time."""
    # redis-py types its commands for the synchronous and the asynchronous client at once.
    async with asyncio.timeout(REDIS_TIMEOUT_SECONDS):
        return await cast(Awaitable[Any], reply)


def _entry_key(service: str, worker_id: WorkerId) -> str:
    return f"twofold:{{{service}}}:worker:{worker_id}"


def _names_key(service: str) -> str:
    return f"twofold:{{{service}}}:workers"


async def _run_script(
    redis: "Redis", script: str, service: str, about: Worker | Gone, *arguments: bytes | str
) -> bool:
    keys = [_entry_key(service, about.worker_id), _names_key(service), channel(service)]
    reply = await awaited(
        redis.eval(script, 3, *keys, about.worker_id, about.incarnation, *arguments)
    )
    return bool(reply)
