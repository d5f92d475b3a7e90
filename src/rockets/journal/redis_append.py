"""The append to the journal in Redis: the script, and what it gets."""

from collections.abc import Sequence

from . import redis_notes
from .base import Note, NoteLimits, Record
from .checksum import checksum
from .redis_link import Script
from .redis_store import NUMBERED, SAME_STORE, Store

# KEYS: those of a write (4), of the notes (6), and then one index for each stream.
# ARGV: those of a write (6), how many records, notes and streams there are, the limits of notes,
# the streams, four values for each record and six for each note.
# A record is new where it is the first of its key here and was stored by this write: by this run,
# or, told by the positions, by the one before it whose answer was lost.
APPEND = Script(
    SAME_STORE,
    NUMBERED,
    redis_notes.KEEP,
    """
local records, notes, streams = tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9])
local before, after, told = head, head, ''
if again then before, after, told = again[1], again[2], again[3] end
local function entry_at(position)
  return redis.call('XRANGE', KEYS[2], position, position)[1] or {position}
end
local highest, added = {}, {}
local function find(stream, number)
  local index = KEYS[10 + stream]
  if not highest[stream] then
    highest[stream] = tonumber(redis.call('ZREVRANGE', index, 0, 0, 'WITHSCORES')[2] or 0)
    added[stream] = {}
  end
  -- Most numbers rise, and then nothing has to be looked up.
  if tonumber(number) > highest[stream] then return nil end
  return redis.call('ZRANGEBYSCORE', index, number, number)[1]
end
local at = 12 + streams
local here, instead = {}, {}
for i = 1, records do
  local stream, number = tonumber(ARGV[at]), ARGV[at + 1]
  local key = ARGV[at] .. ':' .. number
  local position = here[key]
  local is_first = not position
  if is_first then
    position = find(stream, number)
    if not position and not again then
      after = after + 1
      position = string.format('%.0f', after)
      redis.call('XADD', KEYS[2], position .. '-0', 'h', ARGV[at + 2], 'b', ARGV[at + 3])
      mark = string.sub(ARGV[at + 2], 1, 16)
      local pairs_of = added[stream]
      pairs_of[#pairs_of + 1] = number
      pairs_of[#pairs_of + 1] = position
    end
    here[key] = position
  end
  local stored = tonumber(position)
  if stored and not (is_first and stored > before and stored <= after) then
    instead[#instead + 1] = {i - 1, entry_at(position)}
  end
  at = at + 4
end
if again then return {head, mark, {before, after, told, instead}} end
for stream, pairs_of in pairs(added) do
  for from = 1, #pairs_of, 1000 do
    redis.call('ZADD', KEYS[10 + stream], unpack(pairs_of, from, math.min(from + 999, #pairs_of)))
  end
end
if after > before then
  head = after
  redis.call('HSET', KEYS[1], 'head', string.format('%.0f', head), 'mark', mark)
end
local flags, kinds = {}, {}
for i = 1, notes do
  flags[i] = keep(5, unpack(ARGV, at, at + 5))
  kinds[ARGV[at]] = true
  at = at + 6
end
for kind in pairs(kinds) do bound(5, kind, tonumber(ARGV[10]), tonumber(ARGV[11])) end
told = table.concat(flags)
-- What changes nothing comes out alike a second time, and needs no memory.
if after > before or notes > 0 then done({before, after, told}) end
return {head, mark, {before, after, told, instead}}
""",
)


def append_arguments(
    store: Store, limits: NoteLimits, records: Sequence[Record], notes: Sequence[Note]
) -> tuple[list[bytes], list[object]]:
    """Return what `APPEND` gets: its keys and its arguments, without those of every write."""
    streams: dict[str, int] = {}
    values: list[object] = []
    for each in records:
        place = streams.setdefault(each.stream, len(streams) + 1)
        values += place, each.number, header(each), each.body
    sizes = len(records), len(notes), len(streams), limits.count_max, limits.bytes_max
    keys = [*redis_notes.keys(store), *(index_of(store, stream) for stream in streams)]
    return keys, [*sizes, *streams, *values, *redis_notes.arguments(notes)]


def index_of(store: Store, stream: str) -> bytes:
    """Name the sorted set with a stream's positions by number."""
    return store.key(f"numbers:{stream}")


def header(record: Record) -> bytes:
    """Write what stands before a body: as text, so that other programs can read the stream too."""
    mark = checksum(record.stream, record.number, record.body).hex()
    return f"{mark} {record.received_at} {record.number} {record.stream}".encode()
