"""What stands in Redis of the limits that several replicas share: one account per key."""

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

from redis.asyncio import Redis

from twofold_router.access.buckets import EPSILON_SECONDS, WINDOW_SECONDS, Backlog

# KEYS: accounts. ARGV: for each the cost of a request in both buckets, and the tokens owed before.
# The arithmetic is that of buckets.py. The time is Redis' own, so that replicas need not agree on
# theirs. An account whose buckets are full says nothing, and ends by itself.
_TAKE = f"""
local clock = redis.call('TIME')
local now = clock[1] + clock[2] / 1e6
local answer = {{}}
local function can_give(backlog, cost)
  return cost == 0 or backlog + cost <= {WINDOW_SECONDS} + {EPSILON_SECONDS}
end
for i, account in ipairs(KEYS) do
  local cost_requests = tonumber(ARGV[3 * i - 2])
  local cost_tokens = tonumber(ARGV[3 * i - 1])
  local known = redis.call('HMGET', account, 'requests', 'tokens', 'at')
  local passed = math.max(0, now - (tonumber(known[3]) or now))
  local requests = math.max(0, (tonumber(known[1]) or 0) - passed)
  local tokens = math.max(0, (tonumber(known[2]) or 0) - passed)
  tokens = math.max(0, tokens + tonumber(ARGV[3 * i]))
  local granted = can_give(requests, cost_requests) and can_give(tokens, cost_tokens)
  if granted then
    requests = requests + cost_requests
    tokens = tokens + cost_tokens
  end
  local texts = {{string.format('%.9f', requests), string.format('%.9f', tokens)}}
  redis.call('HSET', account, 'requests', texts[1], 'tokens', texts[2],
    'at', string.format('%.6f', now))
  redis.call('PEXPIRE', account, math.ceil(math.max(requests, tokens) * 1000) + 1)
  answer[i] = {{granted and 1 or 0, texts[1], texts[2]}}
end
return answer
"""


class Ask(NamedTuple):
    """What one key is to be charged."""

    name: str
    cost: Backlog
    """Taken if both buckets can give it."""
    owed_tokens_seconds: float
    """Taken or given back before, in any case."""


class Decision(NamedTuple):
    """Whether the cost was taken, and the backlog afterwards."""

    granted: bool
    backlog: Backlog


class Accounts:
    """The accounts of one service in Redis."""

    def __init__(self, redis: "Redis", service: str) -> None:
        self._take: Any = redis.register_script(_TAKE)
        self._service = service

    async def take(self, asks: Sequence[Ask]) -> list[Decision]:
        """Charge *asks*, in order, in one step.

        Raises:
            RedisError, OSError: Redis cannot be reached, or does not do it.
        """
        keys = [f"twofold:{{{self._service}}}:limit:{ask.name}" for ask in asks]
        arguments = [value for ask in asks for value in (*ask.cost, ask.owed_tokens_seconds)]
        answer = cast(list[tuple[int, bytes, bytes]], await self._take(keys, arguments))
        return [
            Decision(bool(granted), Backlog(float(requests), float(tokens)))
            for granted, requests, tokens in answer
        ]
