"""Pruning in the Redis journal: records go, and how far, and what stands for them, is remembered.

`pruned` is a hash by stream of "through:", a checksum of 8 bytes and the base; `pruned:names` is a
sorted set of its fields.
The invariants: records and the memory of them change in one script, and the last record stays, so
that the head has a record by which the store is known again.

Redis frees a node of a stream, of a few kilobytes, when all its records are gone. So pruning by age
frees memory, and pruning every second record hardly any until the file is loaded anew.
"""

from collections.abc import Sequence

from .base import JournalFailed, Pruned
from .checksum import checksum
from .redis_ledgers import SLICE, read_named
from .redis_link import Link, Script
from .redis_store import NUMBERED, SAME_STORE, Store

MARK_BYTES = 8

# KEYS: the hash and its names, then the index of each pruning's stream.
# ARGV: the limit, then stream, through and value of each pruning. All is looked at before any goes.
PRUNE = Script(
    SAME_STORE,
    NUMBERED,
    """
if again then return {head, mark, again} end
local limit = tonumber(ARGV[7])
local gone, is_gone, kept = {}, {}, {}
for nth = 1, (#ARGV - 7) / 3 do
  local index, at = KEYS[6 + nth], 5 + nth * 3
  local any = false
  for _, position in ipairs(
      redis.call('ZRANGEBYSCORE', index, '-inf', ARGV[at + 1], 'LIMIT', 0, limit)) do
    if #gone == limit or tonumber(position) == head then break end
    local entry = redis.call('XRANGE', KEYS[2], position, position)[1]
    local number, stream
    if entry then number, stream = string.match(entry[2][2], '^%x+ %-?%d+ (%d+) (.*)$') end
    if stream ~= ARGV[at] or number ~= redis.call('ZSCORE', index, position) then
      return {head, mark, -nth}
    end
    if not is_gone[position] then
      is_gone[position], any = true, true
      gone[#gone + 1] = {index, position}
    end
  end
  if any then kept[#kept + 1] = at end
end
for _, each in ipairs(gone) do
  redis.call('XDEL', KEYS[2], each[2])
  redis.call('ZREM', each[1], each[2])
end
for _, at in ipairs(kept) do
  local known = redis.call('HGET', KEYS[5], ARGV[at])
  known = known and string.match(known, '^%d+') or '0'
  if tonumber(known) < tonumber(ARGV[at + 1]) then
    redis.call('HSET', KEYS[5], ARGV[at], ARGV[at + 2])
    redis.call('ZADD', KEYS[6], 0, ARGV[at])
  end
end
return done(#gone)
""",
)


ONE = Script(SAME_STORE, "return {head, mark, redis.call('HGET', KEYS[3], ARGV[4])}")


def prune(store: Store, link: Link, prunings: Sequence[Pruned], limit: int) -> int:
    """Remove the lowest numbers of each stream, in their order, short of the last record."""
    indexes = [store.key(f"numbers:{each.stream}") for each in prunings]
    keys = store.key("pruned"), store.key("pruned:names"), *indexes
    values = [value for each in prunings for value in (each.stream, each.through, _packed(each))]
    removed: int = store.write(link, PRUNE, keys, (limit, *values))
    if removed < 0:
        stream = prunings[-removed - 1].stream
        raise store.fail(JournalFailed(f"the index of {stream} points at records of others"))
    return removed


def one(store: Store, link: Link, stream: str) -> Pruned | None:
    """Return what was pruned of one stream."""
    value = store.read(link, ONE, [store.key("pruned")], [stream])
    return None if value is None else _verified(store, stream.encode(), value)


def read(store: Store, link: Link, after: str, limit: int) -> list[Pruned]:
    """Return a slice of what was pruned, in the order of streams."""
    found: list[Pruned] = []
    while len(found) < limit:
        count = min(SLICE, limit - len(found))
        page = read_named(store, link, "pruned", f"({after}" if after else "-", count)
        found += [_verified(store, *row) for row in page]
        if len(page) < count:
            break
        after = found[-1].stream
    return found


def _verified(store: Store, stream: bytes, value: bytes | None) -> Pruned:
    through, _, marked = (value or b"").partition(b":")
    try:
        pruned = Pruned(stream.decode(), int(through), marked[MARK_BYTES:])
        is_whole = _packed(pruned) == value
    except ValueError:
        is_whole = False
    if not is_whole:
        name = stream.decode(errors="replace")
        raise store.fail(JournalFailed(f"what was pruned of {name} does not match its checksum"))
    return pruned


def _packed(pruned: Pruned) -> bytes:
    mark = checksum(pruned.stream, pruned.through, pruned.base)
    return b"%d:%b%b" % (pruned.through, mark, pruned.base)
