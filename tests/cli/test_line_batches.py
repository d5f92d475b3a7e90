"""NDJSON cut into batches: line numbers, limits, and no byte lost."""

from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rockets.cli.line_batches import BATCH_BYTES_MAX, LINE_BYTES_MAX, Batch, LineBatches

LONGEST = b"x" * LINE_BYTES_MAX


def batches(content: bytes, *, lines_max: int = 3) -> list[Batch]:
    """Cut a whole content."""
    cut = LineBatches(BytesIO(content), lines_max=lines_max)
    return list(iter(cut.take, None))


@pytest.mark.parametrize(
    ("content", "lines", "numbers", "too_long", "through"),
    [
        (b"a", (b"a",), (1,), (), 1),
        (b"a\n", (b"a",), (1,), (), 1),
        (b"a\r\nb\r\n", (b"a", b"b"), (1, 2), (), 2),
        (b"\n \t\r\n a \n\nb\n\n", (b" a ", b"b"), (3, 5), (), 5),
        (b"a\rb\n", (b"a\rb",), (1,), (), 1),
        (LONGEST, (LONGEST,), (1,), (), 1),
        (LONGEST + b"\r\na", (LONGEST, b"a"), (1, 2), (), 2),
        (LONGEST + b"x", (), (), (1,), 1),
        (LONGEST + b"x\na", (a := (b"a",)), (2,), (1,), 2),
        (LONGEST + b"x\r\na", a, (2,), (1,), 2),
        (LONGEST + b"xx\na", a, (2,), (1,), 2),
        (LONGEST * 50 + b"\na", a, (2,), (1,), 2),
        (b"a\n" + LONGEST * 50, a, (1,), (2,), 2),
    ],
)
def test_a_line_keeps_its_number_and_one_that_is_too_long_is_named(
    content: bytes,
    lines: tuple[bytes, ...],
    numbers: tuple[int, ...],
    too_long: tuple[int, ...],
    through: int,
) -> None:
    assert batches(content) == [Batch(lines, numbers, too_long, through)]


@pytest.mark.parametrize("content", [b"", b"\n", b" \r\n\t\n"])
def test_nothing_gives_no_batch(content: bytes) -> None:
    assert batches(content) == []


def test_a_batch_has_a_bounded_number_of_lines_and_no_more_is_read() -> None:
    file = BytesIO(b"a\n" * 7)
    cut = LineBatches(file, lines_max=3)

    taken = [(cut.take(), file.tell()) for _ in range(4)]

    assert [batch and len(batch.lines) for batch, _ in taken] == [3, 3, 1, None]
    assert [place for _, place in taken] == [6, 12, 14, 14]


@pytest.mark.parametrize("extra", [-1, 0, 1])
def test_a_batch_has_as_many_bytes_as_the_service_takes(extra: int) -> None:
    whole = BATCH_BYTES_MAX // (LINE_BYTES_MAX + 1)
    last = b"y" * (BATCH_BYTES_MAX - whole * (LINE_BYTES_MAX + 1) + extra)
    content = (LONGEST + b"\n") * whole + last + b"\nz"

    first, *others = batches(content, lines_max=10_000)

    if extra == 1:
        assert len(first.body()) == BATCH_BYTES_MAX + extra - len(last) - 1
        assert others == [Batch((last, b"z"), (whole + 1, whole + 2), (), whole + 2)]
    else:
        assert len(first.body()) == BATCH_BYTES_MAX + extra
        assert others == [Batch((b"z",), (whole + 2,), (), whole + 2)]


@given(
    st.lists(st.sampled_from([b"a", b"b" * 20, b"", b" ", b"\r", LONGEST, LONGEST + b"x"])),
    st.integers(1, 4),
)
def test_every_line_that_is_not_blank_is_in_one_batch(lines: list[bytes], lines_max: int) -> None:
    cut = batches(b"\n".join(lines), lines_max=lines_max)

    numbered = {number: line for number, line in enumerate(lines, 1) if line.strip()}
    over = [number for number, line in numbered.items() if line.startswith(LONGEST + b"x")]
    assert [number for batch in cut for number in batch.too_long] == over
    assert {
        number: line
        for batch in cut
        for number, line in zip(batch.numbers, batch.lines, strict=True)
    } == {number: line for number, line in numbered.items() if number not in over}
    assert all(len(batch.lines) + len(batch.too_long) == lines_max for batch in cut[:-1])


def test_the_halves_of_a_batch_hold_its_lines_in_order() -> None:
    batch = Batch((b"a", b"b", b"c"), (1, 3, 4), (2,), 4)

    assert batch.halves() == (Batch((b"a",), (1,), (), 4), Batch((b"b", b"c"), (3, 4), (), 4))
