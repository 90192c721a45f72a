"""The step that takes in an update or a part of a rebuild."""

from twofold_kvtransfer.directory.layout import COMMON, MAX_NARROW_HOLDERS, MAX_SLOTS

# What becomes of the update, by the incarnation, the position and the rebuild that are known.
_JUDGE = """
local u = cjson.decode(ARGV[1])
local at = tonumber(u.at)
bury_the_late(u.fence_ms)
local life = lives .. u.worker
local known = call('HMGET', life, 'incarnation', 'number', 'at', 'token', 'until', 'degraded')
local incarnation, number, token = known[1], tonumber(known[2] or nil), known[4]
local is_locked = token and tonumber(known[5]) > now
local degraded = known[6] == '1'

local function describe(tier, slot)
  call('HSET', slots, slot, cjson.encode({u.worker, u.incarnation, tier, degraded}))
end

local function set_degraded(value)
  if value == degraded then return end
  degraded = value
  call('HSET', life, 'degraded', value and 1 or 0)
  call('HINCRBY', meta, 'version', 1)
  each_tier(life, describe)
end

local function renew()
  call('ZADD', leases, now + u.ttl_ms, u.worker)
  call('PEXPIRE', life, KEEP)
  keep_all()
end

local function answer(verdict, refused)
  return {verdict, degraded and 1 or 0, refused or 0}
end

if incarnation and incarnation > u.incarnation then return answer('fenced') end
local is_alive = number ~= nil and incarnation == u.incarnation

local function is_news(or_same)
  local known_at = tonumber(known[3])
  if at ~= known_at then return at > known_at end
  return u.number > number or (or_same and u.number == number)
end

if u.token == '' then
  if not is_alive then return answer('unknown') end
  if is_locked then return answer('busy') end
  -- A rebuild that was given up; or low numbers at a later time, which another life of the engine
  -- counts.
  if token or (at > tonumber(known[3]) and u.number <= number) then return answer('unknown') end
  if not is_news(false) then
    renew()
    return answer('known')
  end
  if u.clears or u.first > number + 1 then
    clear(life)
    set_degraded(u.degrades or not u.clears)
    call('HSET', life, 'number', math.max(number, u.first - 1))
  elseif u.degrades then
    set_degraded(true)
  end
elseif u.is_first then
  if is_alive then
    if is_locked and token ~= u.token then return answer('busy') end
    if not is_news(true) then
      renew()
      return answer('known')
    end
  end
  call('ZREMRANGEBYSCORE', rebuilds, '-inf', now)
  if not u.is_last and call('ZCARD', rebuilds) >= u.max_rebuilds then return answer('busy') end
  clear(life)
  call('HDEL', life, 'refused')
  call('HSET', life, 'incarnation', u.incarnation, 'number', u.number, 'at', u.at,
    'token', u.token, 'until', 0, 'degraded', 1)
  degraded = true
elseif not is_alive or token ~= u.token then
  return answer('superseded')
end
"""

_SLOTS = f"""
local function slot_of(tier, may_make)
  local slot = call('HGET', life, 'tier:' .. tier)
  if slot then return tonumber(slot) end
  if not may_make then return nil end
  slot = call('ZPOPMIN', free)[1]
  if not slot then
    slot = tonumber(call('HGET', meta, 'slots') or 0)
    if slot >= {MAX_SLOTS} then return nil end
    call('HINCRBY', meta, 'slots', 1)
  end
  call('HSET', life, 'tier:' .. tier, slot)
  call('HINCRBY', meta, 'version', 1)
  describe(tier, slot)
  return tonumber(slot)
end
"""

# Both return by how much the worker has more or fewer blocks now.
_BLOCKS = f"""
local function remove(name, slot, pair)
  local shard, field = shard_of(name), string.sub(name, 1, -3)
  local held = call('HGET', blocks .. shard, field)
  if not held then return 0 end
  if is_wide(held) then
    local bits = call('HGET', wide .. shard, field) or ''
    if not has_bit(bits, slot) then return 0 end
    put_wide(shard, field, flip_bit(bits, slot), wide_count(held) - 1)
    return 1
  end
  local i = index_of(held, pair)
  if not i then return 0 end
  local rest = string.sub(held, 1, i - 1) .. string.sub(held, i + 2)
  if rest == '' then
    call('HDEL', blocks .. shard, field)
  else
    call('HSET', blocks .. shard, field, rest)
  end
  return 1
end

local function put_new(key, field, value)
  if call('HSET', key, field, value) == 1 and call('HLEN', key) == 1 then
    call('PEXPIRE', key, KEEP)
  end
end

-- Returns as well how many blocks there was no room for.
local function add(name, slot, pair, has_room)
  local shard, field = shard_of(name), string.sub(name, 1, -3)
  local held = call('HGET', blocks .. shard, field) or ''
  if is_wide(held) then
    local bits = call('HGET', wide .. shard, field) or ''
    if has_bit(bits, slot) then return 0, 0 end
    if not has_room then return 0, 1 end
    put_wide(shard, field, flip_bit(bits, slot), wide_count(held) + 1)
    return 1, 0
  end
  if index_of(held, pair) then return 0, 0 end
  if not has_room then return 0, 1 end
  if #held < {2 * MAX_NARROW_HOLDERS} then
    put_new(blocks .. shard, field, held .. pair)
    return 1, 0
  end
  local bits = flip_bit('', slot)
  for i = 1, #held, 2 do
    bits = flip_bit(bits, string.byte(held, i) * 256 + string.byte(held, i + 1))
  end
  put_new(wide .. shard, field, bits)
  call('HSET', blocks .. shard, field, wide_mark(#held / 2 + 1))
  return 1, 0
end
"""

_TAKE_IN = """
local total = tonumber(call('HGET', meta, 'holdings') or 0)
local before, refused, next_name = total, 0, 2
for _, tier in ipairs(u.tiers) do
  local name, removed_count, stored_count = tier[1], tier[2], tier[3]
  local slot = slot_of(name, stored_count > 0)
  local pair, total_before = slot and pair_of(slot), total
  for i = next_name, next_name + removed_count - 1 do
    if slot then total = total - remove(ARGV[i], slot, pair) end
  end
  next_name = next_name + removed_count
  for i = next_name, next_name + stored_count - 1 do
    local added, unfit = 0, 1
    if slot then added, unfit = add(ARGV[i], slot, pair, total < u.max_holdings) end
    total, refused = total + added, refused + unfit
  end
  next_name = next_name + stored_count
  if total ~= total_before then call('HINCRBY', counts, slot, total - total_before) end
end
if total ~= before then call('HSET', meta, 'holdings', total) end

renew()
if u.token == '' then
  if refused > 0 then set_degraded(true) end
  if u.is_last then call('HSET', life, 'number', u.number, 'at', u.at) end
  return answer('applied', refused)
end
if refused > 0 then call('HSET', life, 'refused', 1) end
if u.is_last then
  set_degraded(u.degrades or call('HEXISTS', life, 'refused') == 1)
  call('HDEL', life, 'token', 'until', 'refused')
  call('ZREM', rebuilds, u.worker)
else
  call('HSET', life, 'until', now + u.lock_ms)
  call('ZADD', rebuilds, now + u.lock_ms, u.worker)
end
return answer('applied', refused)
"""

APPLY = COMMON + _JUDGE + _SLOTS + _BLOCKS + _TAKE_IN
"""ARGV: the update without its blocks, as JSON, then the names of the blocks: by tier, in each the
removed first. Answers the verdict, whether the worker is degraded, and the number refused."""
