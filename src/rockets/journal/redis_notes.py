"""The notes of the Redis journal: kept once and counted, bounded by kind, paged, removed.

A note is a value of the hash `notes` by its id, and one of `notes:seen`, which holds what changes
and what the scripts need to know to drop it. `notes:keys` finds an id by a digest of its key.
`notes:order` and `notes:streams` are sorted sets of names that end with the id, by kind and by kind
and stream. `notes:kinds` says how many there are.
The invariant: the six change in one script.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from hashlib import blake2b

import msgspec

from .base import JournalFailed, Note, NoteId, NoteTotals, StoredNote
from .checksum import checksum
from .redis_link import Link, Script
from .redis_store import NUMBERED, SAME_STORE, Store

NAMES = "notes", "notes:seen", "notes:keys", "notes:kinds", "notes:order", "notes:streams"
PAGE = 1_000
"""Notes in one answer, or names: a script keeps everybody waiting."""

# KEYS from `n` on: those of `NAMES`. A name has no NUL, so one in between ends it.
FORGET = """
local function named(id) return string.format('\\0%016x', id) end
local function forget(n, id)
  local seen = redis.call('HGET', KEYS[n + 1], id)
  if not seen then return false end
  local _, _, size, digest, kind, stream = cmsgpack.unpack(seen)
  redis.call('HDEL', KEYS[n], id)
  redis.call('HDEL', KEYS[n + 1], id)
  redis.call('HDEL', KEYS[n + 2], digest)
  redis.call('HINCRBY', KEYS[n + 3], kind .. '\\0kept', -1)
  redis.call('HINCRBY', KEYS[n + 3], kind .. '\\0bytes', 0 - size)  -- not -0
  redis.call('ZREM', KEYS[n + 4], kind .. named(id))
  redis.call('ZREM', KEYS[n + 5], kind .. '\\0' .. stream .. named(id))
  return true
end
"""

KEEP = (
    FORGET
    + """
local function later(one, other)
  if #one ~= #other then return #one > #other and one or other end
  return one > other and one or other
end
local function keep(n, kind, stream, digest, noted_at, size, content)
  local id = redis.call('HGET', KEYS[n + 2], digest)
  if id then
    local count, last, own_size = cmsgpack.unpack(redis.call('HGET', KEYS[n + 1], id))
    last = later(last, noted_at)
    local seen = cmsgpack.pack(count + 1, last, own_size, digest, kind, stream)
    redis.call('HSET', KEYS[n + 1], id, seen)
    return '0'
  end
  id = redis.call('HINCRBY', KEYS[1], 'note', 1)
  redis.call('HSET', KEYS[n], id, content)
  redis.call('HSET', KEYS[n + 1], id, cmsgpack.pack(1, noted_at, size, digest, kind, stream))
  redis.call('HSET', KEYS[n + 2], digest, id)
  redis.call('HINCRBY', KEYS[n + 3], kind .. '\\0kept', 1)
  redis.call('HINCRBY', KEYS[n + 3], kind .. '\\0bytes', size)
  redis.call('ZADD', KEYS[n + 4], 0, kind .. named(id))
  redis.call('ZADD', KEYS[n + 5], 0, kind .. '\\0' .. stream .. named(id))
  return '1'
end
local function bound(n, kind, count_max, bytes_max)
  local dropped = 0
  while true do
    local figures = redis.call('HMGET', KEYS[n + 3], kind .. '\\0kept', kind .. '\\0bytes')
    if tonumber(figures[1]) <= count_max and tonumber(figures[2]) <= bytes_max then break end
    local oldest = redis.call('ZRANGEBYLEX', KEYS[n + 4],
      '[' .. kind .. '\\0', '(' .. kind .. '\\1', 'LIMIT', 0, 1)[1]
    forget(n, tonumber(string.sub(oldest, -16), 16))
    dropped = dropped + 1
  end
  if dropped > 0 then redis.call('HINCRBY', KEYS[n + 3], kind .. '\\0dropped', dropped) end
end
"""
)

REMOVE = Script(
    SAME_STORE,
    NUMBERED,
    FORGET,
    """
if again then return {head, mark, again} end
return done(forget(5, tonumber(ARGV[7])) and 1 or 0)
""",
)

# Each answer holds the id, the content, and what is in `notes:seen`.
READ = Script(
    SAME_STORE,
    """
local notes = {}
for _, name in ipairs(redis.call('ZREVRANGEBYLEX', KEYS[3], ARGV[4], ARGV[5], 'LIMIT', 0, ARGV[6]))
do
  local id = tostring(tonumber(string.sub(name, -16), 16))
  local count, last = cmsgpack.unpack(redis.call('HGET', KEYS[5], id))
  notes[#notes + 1] = {id, redis.call('HGET', KEYS[4], id), count, last}
end
return {head, mark, notes}
""",
)

ONE = Script(
    SAME_STORE,
    """
local content = redis.call('HGET', KEYS[3], ARGV[4])
if not content then return {head, mark, {}} end
local count, last = cmsgpack.unpack(redis.call('HGET', KEYS[4], ARGV[4]))
return {head, mark, {{ARGV[4], content, count, last}}}
""",
)

NAMED = Script(
    SAME_STORE,
    """
return {head, mark, redis.call('ZRANGEBYLEX', KEYS[3], ARGV[4], ARGV[5], 'LIMIT', 0, ARGV[6])}
""",
)

TOTALS = Script(
    SAME_STORE,
    "return {head, mark, redis.call('HMGET', KEYS[3], ARGV[4], ARGV[5])}",
)


def keys(store: Store) -> list[bytes]:
    """Return the keys that `KEEP` and `FORGET` want, in their order."""
    return [store.key(name) for name in NAMES]


def arguments(notes: Sequence[Note]) -> list[object]:
    """Return what `KEEP` wants of each note, six values."""
    return [value for note in notes for value in _row(note)]


def read(
    store: Store, link: Link, kind: str, stream: str | None, before: NoteId | None, limit: int
) -> list[StoredNote]:
    """Return a page of notes, highest id first."""
    name = kind if stream is None else f"{kind}\0{stream}"
    order = store.key("notes:order" if stream is None else "notes:streams")
    found: list[StoredNote] = []
    while len(found) < limit:
        count = min(PAGE, limit - len(found))
        last = f"({name}\1" if before is None else f"({name}\0{before:016x}"
        wanted = last, f"[{name}\0", count
        page = store.read(link, READ, [order, *keys(store)[:2]], wanted)
        found += [_verified(store, *each) for each in page]
        if len(page) < count:
            break
        before = found[-1].id
    return found


def one(store: Store, link: Link, note_id: NoteId) -> StoredNote | None:
    """Return one note."""
    found = store.read(link, ONE, keys(store)[:2], [note_id])
    return _verified(store, *found[0]) if found else None


def count_by_stream(store: Store, link: Link, kind: str) -> dict[str, int]:
    """Return how many notes of one kind each stream has; 100,000 take a hundred calls."""
    return dict(Counter(name.split(b"\0")[1].decode() for name in _names(store, link, kind)))


def totals(store: Store, link: Link, kind: str) -> NoteTotals:
    """Return how many notes of one kind there are, and how many were dropped."""
    fields = f"{kind}\0kept", f"{kind}\0dropped"
    figures = store.read(link, TOTALS, [store.key("notes:kinds")], fields)
    return NoteTotals(*[int(figure or 0) for figure in figures])


def remove(store: Store, link: Link, note_id: NoteId) -> bool:
    """Remove one note; says whether it was there."""
    return bool(store.write(link, REMOVE, keys(store), [note_id]))


def _names(store: Store, link: Link, kind: str) -> Iterator[bytes]:
    after = f"[{kind}\0".encode()
    while True:
        wanted = after, f"({kind}\1", PAGE
        names = store.read(link, NAMED, [store.key("notes:streams")], wanted)
        yield from names
        if len(names) < PAGE:
            return
        after = b"(" + names[-1]


def _row(note: Note) -> tuple[object, ...]:
    digest = blake2b(digest_size=16)
    for part in (note.kind.encode(), note.stream.encode(), b"%d" % note.number):
        digest.update(part + b"\0")
    digest.update(note.key)
    content = msgspec.msgpack.encode((note, _mark(note)))
    return note.kind, note.stream, digest.digest(), note.noted_at, len(note.body), content


def _verified(store: Store, note_id: bytes, content: bytes, count: int, last: bytes) -> StoredNote:
    try:
        note, mark = msgspec.msgpack.decode(content, type=tuple[Note, bytes])
    except msgspec.MsgspecError as error:
        raise store.fail(JournalFailed(f"note {note_id.decode()} cannot be read")) from error
    if _mark(note) != mark:
        raise store.fail(JournalFailed(f"note {note_id.decode()} does not match its checksum"))
    said = note.kind, note.stream, note.number, note.key, note.body, note.noted_at
    return StoredNote(NoteId(int(note_id)), *said, count, int(last))


def _mark(note: Note) -> bytes:
    """Cover what was said, not how often: that changes, and nobody acts on it."""
    body = b"%d:%b:%b:%d" % (len(note.key), note.key, note.body, note.noted_at)
    return checksum(f"{note.kind}:{note.stream}", note.number, body)
