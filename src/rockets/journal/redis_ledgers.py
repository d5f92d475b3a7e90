"""The ledgers and rounds of the Redis journal, and the claim to make them.

A ledger is a value of the hash `ledgers` by its stream; the sorted set `ledgers:names` has the
streams in order. `rounds` is one string. `claim` is a key that goes by itself.
The invariants: what is damaged is told as damaged, never as a ledger and never as a failure of the
journal, because all of this can be made again from the records; and a writer that has lost its
claim keeps nothing and ends nothing, so that no ledger goes back behind a round that has ended.
"""

from collections.abc import Sequence
from operator import lt
from typing import Any

import msgspec

from .base import LedgerRecord, LedgersDamaged, Position, Round, StoredLedger
from .checksum import checksum, light_checksum
from .redis_link import Link, Script
from .redis_store import CLAIM_S, CLAIMED, NUMBERED, SAME_STORE, Store

SLICE = 1_000
"""Ledgers in one answer: a script keeps everybody waiting."""

KEEP = Script(
    SAME_STORE,
    NUMBERED,
    CLAIMED,
    """
for i = 7, #ARGV, 2 do
  redis.call('HSET', KEYS[5], ARGV[i], ARGV[i + 1])
  redis.call('ZADD', KEYS[6], 0, ARGV[i])
end
return done(1)
""",
)

# KEYS: a hash and the sorted set of its fields.
READ = Script(
    SAME_STORE,
    """
local names = redis.call('ZRANGEBYLEX', KEYS[4], ARGV[4], '+', 'LIMIT', 0, ARGV[5])
local values = #names > 0 and redis.call('HMGET', KEYS[3], unpack(names)) or {}
return {head, mark, {names, values}}
""",
)

END_ROUND = Script(
    SAME_STORE,
    NUMBERED,
    CLAIMED,
    """
redis.call('SET', KEYS[5], ARGV[7])
redis.call('DEL', KEYS[4])
return done(1)
""",
)

ROUNDS = Script(SAME_STORE, "return {head, mark, redis.call('GET', KEYS[3])}")

# Freed by a thread of the server: a million take it a second.
DROP = Script(
    SAME_STORE,
    NUMBERED,
    CLAIMED,
    """
redis.call('UNLINK', KEYS[5], KEYS[6], KEYS[7])
return done(1)
""",
)

CLAIM = Script(
    SAME_STORE,
    NUMBERED,
    f"""
if again then return {{head, mark, again}} end
local holder = redis.call('GET', KEYS[4])
if holder and holder ~= ARGV[6] then return done(0) end
redis.call('SET', KEYS[4], ARGV[7], 'PX', {CLAIM_S * 1_000})
return done(1)
""",
)

RELEASE = Script(
    SAME_STORE,
    NUMBERED,
    """
if not again and redis.call('GET', KEYS[4]) == ARGV[6] then redis.call('DEL', KEYS[4]) end
return done(1)
""",
)


def keep(store: Store, link: Link, ledgers: Sequence[LedgerRecord]) -> None:
    """Set every ledger."""
    values = [value for each in ledgers for value in (each.stream, _marked(each))]
    store.write(link, KEEP, _keys(store), values)


def read(store: Store, link: Link, after: str, limit: int) -> list[StoredLedger]:
    """Return a slice of the ledgers, in the order of streams."""
    found: list[StoredLedger] = []
    while len(found) < limit:
        count = min(SLICE, limit - len(found))
        page = _read_slice(store, link, after, count)
        found += page
        if len(page) < count:
            break
        after = page[-1].stream
    return found


def read_named(
    store: Store, link: Link, name: str, after: str, limit: int
) -> list[tuple[bytes, bytes | None]]:
    """Return the fields of a hash from a name on, in the order of names, with their values."""
    keys = store.key(name), store.key(f"{name}:names")
    names, values = store.read(link, READ, keys, (after, limit))
    return list(zip(names, values, strict=True))


def end_round(store: Store, link: Link, ended: Round) -> None:
    """Make this the newest round, and the newest whole one of before the other."""
    kept = [ended, *rounds(store, link)[:1]]
    rows = [(each.began, each.rules, each.ledgers, _mark(each)) for each in kept]
    store.write(link, END_ROUND, [store.key("rounds")], [msgspec.msgpack.encode(rows)])
    store.claim = b""


def rounds(store: Store, link: Link) -> list[Round]:
    """Return the rounds that are not damaged, newest first."""
    packed = store.read(link, ROUNDS, [store.key("rounds")])
    if packed is None:
        return []
    try:
        rows = msgspec.msgpack.decode(packed, type=list[tuple[int, str, int, bytes]])
    except msgspec.MsgspecError:
        return []
    found = [(Round(Position(began), rules, ledgers), mark) for began, rules, ledgers, mark in rows]
    return [each for each, mark in found if _mark(each) == mark]


def drop(store: Store, link: Link) -> None:
    """Remove all of them."""
    store.write(link, DROP, [*_keys(store), store.key("rounds")])


def claim(store: Store, link: Link) -> bool:
    """Take the claim, or take it anew, unless another writer has it."""
    wanted = store.new_claim()
    is_taken = bool(store.write(link, CLAIM, arguments=[wanted]))
    store.claim = wanted if is_taken else b""
    return is_taken


def release(store: Store, link: Link) -> None:
    """Give the claim up."""
    if store.claim:
        store.write(link, RELEASE)
        store.claim = b""


def _read_slice(store: Store, link: Link, after: str, limit: int) -> list[StoredLedger]:
    start = f"[{after}" if after else "-"
    rows: list[Any] = read_named(store, link, "ledgers", start, limit + bool(after))
    # A damaged name can be anywhere; so a slice begins with the end of the one before, and rises.
    if after and (not rows or rows.pop(0)[0] != after.encode()):
        raise LedgersDamaged(f"the ledger of {after!r} cannot be found again")
    try:
        streams = [name.decode() for name, _ in rows]
    except UnicodeDecodeError as error:
        raise LedgersDamaged(f"the ledgers behind {after!r} cannot be read: {error}") from error
    if not all(map(lt, [after, *streams], streams)):
        raise LedgersDamaged(f"the ledgers behind {after!r} are not in the order of streams")
    return [_unmarked(stream, row[1]) for stream, row in zip(streams, rows, strict=True)]


def _keys(store: Store) -> list[bytes]:
    return [store.key("ledgers"), store.key("ledgers:names")]


def _marked(ledger: LedgerRecord) -> bytes:
    return light_checksum(ledger.stream, ledger.data).to_bytes(4) + ledger.data


def _unmarked(stream: str, marked: bytes | None) -> StoredLedger:
    mark, data = (marked or b"")[:4], (marked or b"")[4:]
    is_whole = light_checksum(stream, data).to_bytes(4) == mark
    return StoredLedger(stream, data if is_whole else None)


def _mark(ended: Round) -> bytes:
    return checksum(f"{ended.ledgers} ledgers", ended.began, ended.rules.encode())
