"""Runs `rockets serve` as one of several instances on one SQLite file, which somebody else holds.

`ROCKETS_DATABASE` is not asked: the file is the one of `--database`, as for any instance.
"""

import os
from typing import Any

from rockets import storage
from rockets.cli import main
from rockets.journal import SharedSqliteJournal


def _join(path: str | os.PathLike[str], **options: Any) -> SharedSqliteJournal:
    return SharedSqliteJournal(path, **options)


if __name__ == "__main__":
    vars(storage)["open_journal"] = _join
    main()
