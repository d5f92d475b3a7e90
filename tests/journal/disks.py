"""What happens to a journal's file from outside: other programs' connections, and failing disks."""

from contextlib import AbstractContextManager, closing
from pathlib import Path

import apsw


def foreign(path: Path) -> AbstractContextManager[apsw.Connection]:
    """Another program's connection, in this process but by the same copy of SQLite."""
    connection = apsw.Connection(str(path))
    connection.set_busy_timeout(0)
    return closing(connection)


def edit(path: Path, sql: str) -> None:
    with foreign(path) as connection:
        connection.execute(sql)


class FaultyVfs(apsw.VFS):
    """The real files, with errors on demand: at syncs and writes of files with a suffix."""

    instances = 0

    def __init__(self) -> None:
        FaultyVfs.instances += 1
        self.name = f"faulty-{FaultyVfs.instances}"
        self.sync_fails = self.write_is_full = ""
        self.syncs: list[str] = []
        self.stuck = ""
        super().__init__(self.name, "")

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:
        return FaultyFile(self, name, flags)


class FaultyFile(apsw.VFSFile):
    """One of its files; an error is raised after the real work, which is the worse case."""

    def __init__(
        self, vfs: FaultyVfs, name: str | apsw.URIFilename | None, flags: list[int]
    ) -> None:
        super().__init__("", name, flags)
        self._vfs = vfs
        filename = name.filename() if isinstance(name, apsw.URIFilename) else str(name)
        self._suffix = ".db-wal" if filename.endswith("-wal") else ".db"

    def xSync(self, flags: int) -> None:
        super().xSync(flags)
        self._vfs.syncs.append(self._suffix)
        if self._vfs.sync_fails == self._suffix:
            raise apsw.IOError("planted EIO")

    def xWrite(self, data: bytes, offset: int) -> None:
        if self._vfs.write_is_full == self._suffix:
            raise apsw.FullError("planted ENOSPC")
        super().xWrite(data, offset)

    def xFileControl(self, op: int, ptr: int) -> bool:
        if op == apsw.SQLITE_FCNTL_PRAGMA:
            pragma = apsw.VFSFcntlPragma(ptr)
            if pragma.name == self._vfs.stuck:
                pragma.result = "9"
                return True
        return super().xFileControl(op, ptr)
