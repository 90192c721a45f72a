"""The steps that end a worker, and that clean up after those that have ended."""

from twofold_kvtransfer.directory.layout import COMMON, SHARD_COUNT

FENCE_MARK = "~"

FORGET = (
    COMMON
    + f"""
local worker, incarnation, fence_ms = unpack(ARGV)
local known = call('HGET', lives .. worker, 'incarnation')
if known and known > incarnation then return 0 end
bury(worker, fence_ms)
-- Greater than the incarnation that it fences, and smaller than the next.
call('HSET', lives .. worker, 'incarnation', incarnation .. '{FENCE_MARK}')
call('PEXPIRE', lives .. worker, fence_ms)
return 1
"""
)
"""ARGV: worker, incarnation, fence in ms. Answers 0 if a newer incarnation is known."""

SWEEP = (
    COMMON
    + f"""
local owner, step_count, patience_ms, fence_ms = unpack(ARGV)
local m = call('HMGET', meta, 'cursor', 'swept_at', 'sweeper', 'stepped_at')
local cursor, swept_at = tonumber(m[1] or nil), tonumber(m[2] or nil)
if cursor and m[3] ~= owner and now - tonumber(m[4]) < tonumber(patience_ms) then
  return 'busy'
end
bury_the_late(fence_ms)
if not cursor then
  if not swept_at then
    swept_at = now
    call('HSET', meta, 'swept_at', now)
    call('PEXPIRE', meta, KEEP)
  end
  local has_dead = call('EXISTS', dead) == 1
  if not has_dead and now - swept_at < KEEP / 4 then return 'idle' end
  if has_dead then call('RENAME', dead, sweeping) end
  cursor = 0
end

local gone, masks = {{}}, {{}}
for _, text in ipairs(call('SMEMBERS', sweeping)) do
  local slot = tonumber(text)
  local i = math.floor(slot / 8) + 1
  gone[pair_of(slot)] = true
  masks[i] = (masks[i] or 0) + 2 ^ (slot % 8)
end

local function without_gone(held)
  local list = {{}}
  for i = 1, #held, 2 do
    local pair = string.sub(held, i, i + 1)
    if not gone[pair] then list[#list + 1] = pair end
  end
  return table.concat(list), #held / 2 - #list
end

local function bits_without_gone(bits)
  local count = 0
  for i, mask in pairs(masks) do
    local byte = string.byte(bits, i) or 0
    local hit = bit.band(byte, mask)
    if hit ~= 0 then
      bits = string.sub(bits, 1, i - 1) .. string.char(byte - hit) .. string.sub(bits, i + 1)
      for j = 0, 7 do
        if bit.band(hit, 2 ^ j) ~= 0 then count = count + 1 end
      end
    end
  end
  return bits, count
end

local function sweep(shard)
  local key, count = blocks .. shard, 0
  local entries = call('HGETALL', key)
  for i = 1, #entries, 2 do
    local field, held = entries[i], entries[i + 1]
    local less
    if is_wide(held) then
      local bits = call('HGET', wide .. shard, field) or ''
      bits, less = bits_without_gone(bits)
      if less > 0 then put_wide(shard, field, bits, wide_count(held) - less) end
    else
      held, less = without_gone(held)
      if held == '' then
        call('HDEL', key, field)
      elseif less > 0 then
        call('HSET', key, field, held)
      end
    end
    count = count + less
  end
  return count
end

local is_cleaning, swept = next(gone) ~= nil, 0
local past = math.min(cursor + tonumber(step_count), {SHARD_COUNT})
for shard = cursor, past - 1 do
  if call('PEXPIRE', blocks .. shard, KEEP) == 1 then
    call('PEXPIRE', wide .. shard, KEEP)
    if is_cleaning then swept = swept + sweep(shard) end
  end
end
if swept > 0 then call('HINCRBY', meta, 'holdings', -swept) end
if past < {SHARD_COUNT} then
  call('HSET', meta, 'cursor', past, 'sweeper', owner, 'stepped_at', now)
  return 'more'
end
for _, slot in ipairs(call('SMEMBERS', sweeping)) do
  call('HDEL', counts, slot)
  call('ZADD', free, slot, slot)
end
call('DEL', sweeping)
call('HDEL', meta, 'cursor', 'sweeper', 'stepped_at')
call('HSET', meta, 'swept_at', now)
return 'more'
"""
)
"""ARGV: the sweeper's token, the number of shards to sweep, the ms after which another sweeper is
given up, fence in ms. Answers ``more``, ``idle`` when there is nothing to do, or ``busy`` while
another sweeps. A pass is made for the dead, and four times in the life of a shard to prolong it."""
