"""What all threads of a journal know of its store in Redis, and how they run scripts on it.

Every script first makes sure that this is the store it takes it for: the random identity made with
it, and the record that was the last one when this instance looked last. Otherwise a failover, a
restored file or an emptied server would go unnoticed, as soon as somebody else had written past
that position. A pruned record says nothing, and then the identity and the head have to do.

Scripts that write are numbered by each writer, and the store keeps every writer's last number with
what came of it. One that is run again after a lost answer is told that, and one that comes late,
out of some proxy, does nothing. So the answer of a second attempt is that of the first.

The invariant: what was told about is no further back than anything that was told before.
"""

from collections.abc import Callable, Sequence
from threading import Lock
from typing import Any, NamedTuple

from .base import (
    JournalBehind,
    JournalBusy,
    JournalFailed,
    JournalRefused,
    JournalUnreachable,
    Position,
)
from .redis_link import Link, Script

SCHEMA = b"1"
WRITERS_MAX = 1_000
"""Every start of an instance is another writer; of more than these the last numbers are dropped.
One that lives would at worst call something a duplicate after a lost answer."""

CLAIM_S = 60
"""A claim ends so long after its last use, since Redis does not tell when a connection ends.
Longer than from one slice of ledgers to the next; what comes later all the same is refused."""

OPEN = Script("""
local schema = redis.call('HGET', KEYS[1], 'schema')
if not schema then
  if redis.call('EXISTS', KEYS[2]) == 1 then return {false} end
  schema = ARGV[1]
  redis.call('HSET', KEYS[1], 'schema', schema, 'id', ARGV[2], 'head', 0, 'mark', '')
end
if redis.call('HLEN', KEYS[3]) > tonumber(ARGV[3]) then redis.call('DEL', KEYS[3]) end
local meta = redis.call('HMGET', KEYS[1], 'id', 'head', 'mark')
return {schema, meta[1], tonumber(meta[2]), meta[3]}
""")

# KEYS: meta, log. ARGV: the store's id, the last head seen and its record's checksum.
SAME_STORE = """
local meta = redis.call('HMGET', KEYS[1], 'id', 'head', 'mark')
if meta[1] ~= ARGV[1] then return {'BEHIND', 'it is not the store that was opened'} end
local head, seen = tonumber(meta[2]), tonumber(ARGV[2])
local mark = meta[3]
if head < seen then return {'BEHIND', 'its head is ' .. meta[2] .. ' and was ' .. ARGV[2]} end
local at_seen = mark
if head > seen then
  local entry = redis.call('XRANGE', KEYS[2], ARGV[2], ARGV[2])[1]
  at_seen = entry and string.sub(entry[2][2], 1, 16) or ARGV[3]
end
if at_seen ~= ARGV[3] then return {'BEHIND', 'its record ' .. ARGV[2] .. ' is another one'} end
"""

# KEYS: writers, claim. ARGV: the writer, the number of this write, its claim or nothing.
NUMBERED = """
local again = redis.call('HGET', KEYS[3], ARGV[4])
if again then
  local last, answer = cmsgpack.unpack(again)
  if last > tonumber(ARGV[5]) then return {'LATE'} end
  again = last == tonumber(ARGV[5]) and answer
end
local function done(answer)
  redis.call('HSET', KEYS[3], ARGV[4], cmsgpack.pack(tonumber(ARGV[5]), answer))
  return {head, mark, answer}
end
"""

# Without a claim of its own a writer may go on while nobody has one.
CLAIMED = f"""
if again then return {{head, mark, again}} end
local holder = redis.call('GET', KEYS[4]) or ''
if holder ~= ARGV[6] then return {{ARGV[6] == '' and 'TAKEN' or 'LOST'}} end
if holder ~= '' then redis.call('PEXPIRE', KEYS[4], {CLAIM_S * 1_000}) end
"""

HEAD = Script(SAME_STORE, "return {head, mark, false}")


class Seen(NamedTuple):
    """The last record that was seen: its position and its checksum."""

    head: int
    mark: bytes


class Store:
    """One store: its keys, its identity, and what was seen of it; for all threads of a journal."""

    def __init__(self, name: str, prefix: str, entropy: Callable[[int], bytes]) -> None:
        """Know the names only; `open` makes or finds the store. `name` is the server's."""
        self._name = name
        # The braces keep all keys in one slot of a cluster.
        self._prefix = f"{{{prefix}}}:".encode()
        self._entropy = entropy
        self._lock = Lock()
        self._id = b""
        self._seen = Seen(0, b"")
        self._writer = entropy(8).hex()
        self._writes = 0
        self._claims = 0
        self.claim = b""
        self.failure: JournalFailed | None = None
        self._base = self.key("meta"), self.key("log")
        self._write_base = *self._base, self.key("writers"), self.key("claim")

    def key(self, name: str) -> bytes:
        """Return the name of a key of this store."""
        return self._prefix + name.encode()

    def open(self, link: Link) -> None:
        """Make the store or find it; raises `JournalRefused`."""
        arguments = SCHEMA, self._entropy(16).hex(), WRITERS_MAX
        schema, *rest = link.run(OPEN, self._write_base, arguments)
        if schema is None:
            words = "has records and nothing that says what they are"
            raise JournalRefused(f"{self._name} {words}")
        if schema != SCHEMA:
            words = f"has a store of schema {schema.decode()}, this program knows 1"
            raise JournalRefused(f"{self._name} {words}")
        self._id, head, mark = rest
        self._seen = Seen(head, mark)

    def read(
        self,
        link: Link,
        script: Script,
        keys: Sequence[bytes] = (),
        arguments: Sequence[object] = (),
    ) -> Any:
        """Run a script that begins with `SAME_STORE` and return what came of it."""
        return self._run(link, script, (*self._base, *keys), self._known(), arguments)

    def read_by(self, link: Link, command: Sequence[object]) -> Any:
        """Give a command that reads, right behind a look at the store, and return its answer.

        What a script returns is copied twice: that costs Redis 6 µs a record in place of 1.
        """
        look, answer = link.run_and(HEAD, self._base, self._known(), command)
        self._take(look)
        return answer

    def write(
        self,
        link: Link,
        script: Script,
        keys: Sequence[bytes] = (),
        arguments: Sequence[object] = (),
    ) -> Any:
        """Run a script that begins with `SAME_STORE` and `NUMBERED`, once however often it is sent.

        Only the writing thread does. Raises what `Link.run` raises, `JournalFailed` and, where the
        script begins with `CLAIMED` too, `JournalBusy` or `JournalUnreachable`.
        """
        self._writes += 1
        own = self._writer, self._writes, self.claim
        return self._run(
            link, script, (*self._write_base, *keys), (*self._known(), *own), arguments
        )

    def new_claim(self) -> bytes:
        """Return what no claim was ever made with."""
        self._claims += 1
        return f"{self._writer}:{self._claims}".encode()

    def head(self, link: Link) -> Position:
        """Ask where the last record is."""
        self.read(link, HEAD)
        return Position(self._seen.head)

    def fail(self, failure: JournalFailed) -> JournalFailed:
        """Take note that nothing can be relied on any more, and return the first that was noted."""
        if self.failure is None:
            self.failure = failure
        return self.failure

    def close(self) -> None:
        """Let nothing be run any more."""
        self.fail(JournalFailed("the journal is closed"))

    def _known(self) -> tuple[object, ...]:
        if self.failure is not None:
            raise type(self.failure)(str(self.failure)) from self.failure
        seen = self._seen
        return self._id, seen.head, seen.mark

    def _run(
        self,
        link: Link,
        script: Script,
        keys: Sequence[bytes],
        known: Sequence[object],
        arguments: Sequence[object],
    ) -> Any:
        try:
            answer = link.run(script, keys, (*known, *arguments))
        except JournalFailed as error:
            raise self.fail(error) from error.__cause__
        return self._take(answer)

    def _take(self, answer: Any) -> Any:
        match answer:
            case [b"BEHIND", words]:
                raise self.fail(JournalBehind(f"the store is behind: {words.decode()}"))
            case [b"LATE"]:
                raise self.fail(JournalFailed("the journal has failed: it was overtaken by itself"))
            case [b"TAKEN"]:
                raise JournalBusy("another instance keeps the ledgers")
            case [b"LOST"]:
                raise JournalUnreachable("the claim to the round was lost")
            case [head, mark, result]:
                with self._lock:
                    if head > self._seen.head:
                        self._seen = Seen(head, mark)
                return result
        raise self.fail(JournalFailed(f"the journal has failed: a script answered {answer!r}"))
