"""What a journal on a server does in a hurry, whichever server it is."""

from queue import SimpleQueue
from threading import Thread
from time import monotonic

import pytest

from rockets.journal import JournalUnreachable, LedgerRecord, Record, SharedJournal
from tests.journal.store_proxy import Proxy


def record(stream: str, number: int) -> Record:
    return Record(stream, number, b"{}", 7)


def check_gone(
    far: SharedJournal, proxy: Proxy, *, under_way: bool, call_s: float, answer_s: float
) -> None:
    """A server that is gone is not looked for, whether or not somebody waits for it already."""
    assert far.head() == 0  # connects
    proxy.cut()
    if not under_way:
        far.hurry()
    ended: SimpleQueue[float] = SimpleQueue()

    def append() -> None:
        with pytest.raises(JournalUnreachable):
            far.append([record("a", 1)])
        ended.put(monotonic())

    began = monotonic()
    appending = Thread(target=append)
    appending.start()
    if under_way:
        far.hurry()
    appending.join()
    assert ended.get() - began < call_s / 4
    began = monotonic()
    with pytest.raises(JournalUnreachable, match="was gone when this instance stopped"):
        far.append([record("a", 2)])
    assert monotonic() - began < answer_s
    proxy.heal()


def check_used(far: SharedJournal, near: SharedJournal) -> None:
    """A server that answers is used as ever."""
    assert far.head() == 0
    far.hurry()

    assert far.append([record("a", 1)]).new == (True,)
    assert far.claim_round()
    far.keep_ledgers([LedgerRecord("a", b"1")])
    far.release_round()
    assert [each.data for each in near.ledgers("", limit=9)] == [b"1"]
