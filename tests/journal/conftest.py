"""What the tests of the journals work on."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from rockets.journal import SqliteJournal
from tests.journal.disks import FaultyVfs


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


@pytest.fixture
def journal(path: Path) -> Iterator[SqliteJournal]:
    with closing(SqliteJournal(path)) as opened:
        yield opened


@pytest.fixture
def vfs() -> FaultyVfs:
    return FaultyVfs()


@pytest.fixture
def faulty(path: Path, vfs: FaultyVfs) -> Iterator[SqliteJournal]:
    """A journal whose disk fails when told; it works again for the close."""
    opened = SqliteJournal(path, vfs=vfs.name)
    yield opened
    vfs.sync_fails = vfs.write_is_full = ""
    opened.close()
