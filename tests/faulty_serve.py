"""Runs `rockets serve` on a file system whose syncs can be made to fail, as a process of its own.

The environment variable `FAIL_SYNC` holds `-wal` (the commits) or `.db` (the checkpoints); the
failure begins when the file that `FAIL_FROM` names exists.
"""

import os
from pathlib import Path

import apsw

from rockets.cli import main

ENDING = os.environ["FAIL_SYNC"]
TRIGGER = Path(os.environ["FAIL_FROM"])


class _File(apsw.VFSFile):
    def __init__(self, name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        super().__init__("unix", name, flags)
        self._name = name.filename() if isinstance(name, apsw.URIFilename) else str(name)

    def xSync(self, flags: int) -> None:
        # The pages are written, the sync is not: after it nobody knows what is on the disk.
        if self._name.endswith(ENDING) and TRIGGER.exists():
            raise apsw.IOError("planted EIO")
        super().xSync(flags)


class _Vfs(apsw.VFS):
    def __init__(self) -> None:
        super().__init__("faulty", "unix", makedefault=True)

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:
        return _File(name, flags)


if __name__ == "__main__":
    vfs = _Vfs()
    main()
