"""Records of many spans of numbers, by one query."""

from collections.abc import Sequence

from .base import StoredRecord
from .postgresql_append import COLUMNS
from .postgresql_link import Connection
from .spans import Span
from .sql_rows import verified_record

# The lookup is a subquery that the planner cannot turn into a join, as in an append.
SPANS = f"""
SELECT {COLUMNS} FROM unnest(%b::text[], %b::bigint[], %b::bigint[]) WITH ORDINALITY
    AS span (stream, first, last, nth)
CROSS JOIN LATERAL (
    SELECT position, number, body, received_at, checksum FROM records AS known
    WHERE known.stream = span.stream AND known.number BETWEEN span.first AND span.last OFFSET 0
) AS known
ORDER BY nth, number
"""


def read(connection: Connection, spans: Sequence[Span]) -> list[StoredRecord]:
    """Return the records of the spans, in the order of these."""
    if not spans:
        return []
    columns = [list(column) for column in zip(*spans, strict=True)]
    rows = connection.execute(SPANS, columns, binary=True).fetchall()
    return [verified_record(*row) for row in rows]
