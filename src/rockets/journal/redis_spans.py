"""Records of many spans of numbers, by few scripts."""

from collections.abc import Iterator, Sequence
from typing import Any

from .redis_link import Link, Script
from .redis_store import SAME_STORE, Store
from .spans import Span

# KEYS: those of a read (2), then the index of each span. ARGV: those of a read (3), then the first
# and the last number of each span.
READ_EACH = Script(
    SAME_STORE,
    """
local entries = {}
for i = 3, #KEYS do
  local at = 2 * i - 2
  for _, position in ipairs(redis.call('ZRANGEBYSCORE', KEYS[i], ARGV[at], ARGV[at + 1])) do
    local entry = redis.call('XRANGE', KEYS[2], position, position)[1] or {position}
    entries[#entries + 1] = {i - 3, entry}
  end
end
return {head, mark, entries}
""",
)


def read(
    store: Store, link: Link, spans: Sequence[Span], *, page: int
) -> Iterator[tuple[Any, Span]]:
    """Give what the stream holds for the spans, in the order of these, each with its span.

    A script looks up `page` records at most, or one span, since everybody else waits for it.
    """
    for some in _pages(spans, page):
        keys = [store.key(f"numbers:{stream}") for stream, _, _ in some]
        bounds = [number for _, *numbers in some for number in numbers]
        for place, entry in store.read(link, READ_EACH, keys, bounds):
            yield entry, some[place]


def _pages(spans: Sequence[Span], page: int) -> Iterator[list[Span]]:
    some: list[Span] = []
    size = 0
    for span in spans:
        count = span[2] - span[1] + 1
        if some and size + count > page:
            yield some
            some, size = [], 0
        some.append(span)
        size += count
    if some:
        yield some
