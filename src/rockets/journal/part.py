"""What one task appends through the writer, and the answer it waits for.

The invariant: a part is answered once, with its own share of a batch or with an error.
"""

from collections.abc import Sequence

import trio

from .base import Appended, JournalError, Note, Record


class Part:
    """What one caller appends, and the place where its answer appears."""

    __slots__ = ("_answer", "answered", "notes", "records", "size")

    def __init__(self, records: Sequence[Record], notes: Sequence[Note]) -> None:
        """Wait for an answer."""
        # Copies, because the shares are cut by their lengths after the commit.
        self.records = tuple(records)
        self.notes = tuple(notes)
        size = 0
        for record in records:
            size += len(record.body)
        for note in notes:
            size += len(note.body)
        self.size = size
        self.answered = trio.Event()
        self._answer: Appended | JournalError | None = None

    def answer(self, answer: Appended | JournalError) -> None:
        """Let the task that waits go on."""
        assert self._answer is None, "a part is answered once"
        self._answer = answer
        self.answered.set()

    def result(self) -> Appended:
        """Return or raise the answer.

        Every waiter raises an exception of its own: one raised by many tasks would collect
        the tracebacks of all.
        """
        assert self._answer is not None, "a result is read after the answer"
        if isinstance(self._answer, JournalError):
            raise type(self._answer)(*self._answer.args) from self._answer
        return self._answer


def share(whole: Appended, records: slice, notes: slice) -> Appended:
    """Cut one part's share out of a batch; what is stored is indexed by the part's records.

    `before` and `head` stay those of the batch, in which the others' records are as well.
    """
    stored = whole.stored
    if stored:  # hardly ever
        stored = {
            index - records.start: stored[index]
            for index in range(records.start, records.stop)
            if index in stored
        }
    return Appended(whole.new[records], stored, whole.notes_new[notes], whole.head, whole.before)
