"""The step that reads who holds the blocks of a chain."""

from twofold_kvtransfer.directory.layout import COMMON

FIND = (
    COMMON
    + """
local version = call('HGET', meta, 'version') or '0'
local table_of_slots = {}
if version ~= ARGV[1] then table_of_slots = call('HGETALL', slots) end
local late = call('ZRANGE', leases, '-inf', now, 'BYSCORE')
local holders = {}
for i = 2, #ARGV do
  local shard, field = shard_of(ARGV[i]), string.sub(ARGV[i], 1, -3)
  local held = call('HGET', blocks .. shard, field)
  if not held then break end
  if is_wide(held) then held = '\\1' .. (call('HGET', wide .. shard, field) or '') else
    held = '\\0' .. held
  end
  holders[i - 1] = held
end
return {version, table_of_slots, late, holders}
"""
)
"""ARGV: the version of the slots that the asker knows, then the names of blocks in the order of the
chain. Answers the version; all slots if that is another; the workers whose time is over; and the
holders up to the first block that nobody has, each after a zero as pairs or after a one as bits."""
