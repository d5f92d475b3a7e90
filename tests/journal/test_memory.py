"""What only the journal in memory does: it ends up full."""

import pytest

from rockets.journal import JournalFull, MemoryJournal, Note, Position, Record


def record(number: int) -> Record:
    return Record("a", number, b"{}", 7)


def note(number: int) -> Note:
    return Note("conflict", "a", number, b"key", b"body", 11)


def test_a_full_journal_stores_nothing_of_an_append_that_does_not_fit() -> None:
    journal = MemoryJournal(history_max=3)
    journal.append([record(1), record(2)])

    with pytest.raises(JournalFull, match="at most 3 records"):
        journal.append([record(3), record(4)], [note(1)])

    assert journal.head() == 2
    assert journal.count_notes("conflict") == {}
    assert journal.append([record(3)]).head == 3


def test_a_full_journal_still_knows_its_records_and_notes() -> None:
    journal = MemoryJournal(history_max=1)
    journal.append([record(1)], [note(1)])

    appended = journal.append([record(1)], [note(1)])

    assert (appended.new, appended.notes_new) == ((False,), (False,))
    assert appended.stored == {0: journal.follow(Position(0), limit=1)[0]}


def test_a_full_journal_still_keeps_notes() -> None:
    journal = MemoryJournal(history_max=1)
    journal.append([record(1)])

    assert journal.append([], [note(1), note(2)]).notes_new == (True, True)
    assert journal.count_notes("conflict") == {"a": 2}
