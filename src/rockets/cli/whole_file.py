"""A file that has its name only when it is whole: until then it is `<name>.<pid>.part`."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

from rockets.journal.sqlite_file import sync_directory


class WholeFile(NamedTuple):
    """The file while it is written, and the name that it has meanwhile."""

    file: BinaryIO
    part: Path


@contextmanager
def whole_file(path: Path, *, keep_after: type[Exception]) -> Iterator[WholeFile]:
    """Open a file that only its owner may read, and rename it when the block has ended well.

    It is synced before, and what had the name is replaced. After any exception the part is
    removed, but for `keep_after`: then what was written is wanted.
    """
    path = path.resolve()  # behind a link, so that the link stays one
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with open(descriptor, "wb") as file:
            yield WholeFile(file, part)
            file.flush()
            os.fsync(descriptor)
        part.replace(path)
    except keep_after:
        raise
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)
