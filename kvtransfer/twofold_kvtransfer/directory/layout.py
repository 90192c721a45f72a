"""What stands in Redis, and what all scripts have in common. A script is one atomic step.

The layout, per service:

========================  =========================================================================
``kv:blocks:<shard>``     hash: block to its holders, 65,536 shards by the last two bytes of the
                          name, each small enough that Redis packs it (listpack)
``kv:wide:<shard>``       hash: the same for blocks with many holders, as a bit per slot
``kv:life:<worker>``      hash: incarnation, position, state, and the slot for each tier
``kv:slots``              hash: slot to the worker, incarnation and tier that it stands for
``kv:counts``             hash: slot to the number of its blocks
``kv:leases``             sorted set: workers by the time when they are gone, in ms
``kv:dead, kv:sweeping``  sets: slots that stand for nobody while blocks may still name them
``kv:free``               sorted set: slots that nothing names
``kv:rebuilds``           sorted set: workers that are rebuilt, by when that is given up
``kv:meta``               hash: version (of slots), slots (ever made), holdings, and the sweep
========================  =========================================================================

A slot is a number of two bytes. A worker that ends, is cleared or has to be rebuilt loses its slot,
and with it all of its blocks at once; they are taken out of the shards later, by sweeping, and only
then is the slot given to another. All keys of a service stand on one node of a Redis cluster, so
the shards' names may be made here.
"""

KEY_NAMES = (
    *("slots", "counts", "leases", "dead", "sweeping", "free", "rebuilds", "meta"),
    *("blocks:", "wide:", "life:"),
)
"""After ``twofold:{service}:kv:``; the last three are the beginnings of keys."""

SHARD_COUNT = 1 << 16
MAX_SLOTS = 1 << 16

MAX_NARROW_HOLDERS = 24
"""Two bytes each: Redis packs values of up to 64 bytes only (hash-max-listpack-value)."""

FEW_HOLDERS = 12
"""From here on down a wide block is narrow again."""

KEEP_SECONDS = 24 * 3600
"""What nobody sweeps any more for so long is of a service that is gone, and Redis forgets it."""

COMMON = f"""
local call = redis.call
local slots, counts, leases, dead, sweeping, free, rebuilds, meta, blocks, wide, lives
  = unpack(KEYS)
local clock = call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local KEEP = {KEEP_SECONDS * 1000}

local function shard_of(name)
  return string.byte(name, -2) * 256 + string.byte(name, -1)
end

local function pair_of(slot)
  return string.char(math.floor(slot / 256), slot % 256)
end

-- An odd length tells the mark of a wide block, which has the number of its holders, from pairs.
local function is_wide(held) return #held % 2 == 1 end
local function wide_mark(count) return '\\1' .. pair_of(count - 1) end
local function wide_count(held) return string.byte(held, 2) * 256 + string.byte(held, 3) + 1 end

local function byte_and_weight(bits, slot)
  return string.byte(bits, math.floor(slot / 8) + 1) or 0, 2 ^ (slot % 8)
end

local function has_bit(bits, slot)
  local byte, weight = byte_and_weight(bits, slot)
  return bit.band(byte, weight) ~= 0
end

local function flip_bit(bits, slot)
  local i = math.floor(slot / 8) + 1
  if #bits < i then bits = bits .. string.rep('\\0', i - #bits) end
  local byte, weight = byte_and_weight(bits, slot)
  return string.sub(bits, 1, i - 1) .. string.char(bit.bxor(byte, weight))
    .. string.sub(bits, i + 1)
end

local function pairs_of(bits)
  local list = {{}}
  for i = 1, #bits do
    local byte = string.byte(bits, i)
    for j = 0, 7 do
      if bit.band(byte, 2 ^ j) ~= 0 then list[#list + 1] = pair_of((i - 1) * 8 + j) end
    end
  end
  return table.concat(list)
end

-- Keeps a wide block that has *count* holders left, in the form that suits them.
local function put_wide(shard, field, bits, count)
  if count > {FEW_HOLDERS} then
    call('HSET', wide .. shard, field, bits)
    call('HSET', blocks .. shard, field, wide_mark(count))
    return
  end
  call('HDEL', wide .. shard, field)
  if count == 0 then
    call('HDEL', blocks .. shard, field)
  else
    call('HSET', blocks .. shard, field, pairs_of(bits))
  end
end

local function index_of(held, pair)
  for i = 1, #held, 2 do
    if string.sub(held, i, i + 1) == pair then return i end
  end
  return nil
end

local function keep_all()
  for _, key in ipairs({{slots, counts, leases, dead, sweeping, free, meta}}) do
    call('PEXPIRE', key, KEEP)
  end
end

local function retire(slot)
  call('HDEL', slots, slot)
  call('HINCRBY', meta, 'version', 1)
  if tonumber(call('HGET', counts, slot) or 0) == 0 then
    call('HDEL', counts, slot)
    call('ZADD', free, slot, slot)
  else
    call('SADD', dead, slot)
  end
end

local function each_tier(life, act)
  local fields = call('HGETALL', life)
  for i = 1, #fields, 2 do
    if string.sub(fields[i], 1, 5) == 'tier:' then
      act(string.sub(fields[i], 6), fields[i + 1])
    end
  end
end

local function clear(life)
  each_tier(life, function(tier, slot)
    retire(slot)
    call('HDEL', life, 'tier:' .. tier)
  end)
end

-- What stays for a while is the fence.
local function bury(worker, fence_ms)
  local life = lives .. worker
  clear(life)
  local incarnation = call('HGET', life, 'incarnation')
  call('DEL', life)
  call('ZREM', leases, worker)
  call('ZREM', rebuilds, worker)
  if incarnation then
    call('HSET', life, 'incarnation', incarnation)
    call('PEXPIRE', life, fence_ms)
  end
end

local function bury_the_late(fence_ms)
  for _, worker in ipairs(call('ZRANGE', leases, '-inf', now, 'BYSCORE', 'LIMIT', 0, 8)) do
    bury(worker, fence_ms)
  end
end
"""
