"""A journal that cannot be opened because its server is not there, which may pass."""

from .base import JournalError, JournalRefused, JournalUnreachable


class JournalAbsent(JournalRefused):
    """Raised when a journal cannot be opened since its server cannot be reached yet; try again."""


def as_refusal(error: JournalError) -> JournalRefused:
    """Return what keeps a journal from being opened as the refusal that it is."""
    absent = isinstance(error, JournalAbsent | JournalUnreachable)
    return (JournalAbsent if absent else JournalRefused)(str(error))
