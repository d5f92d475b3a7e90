"""What a figure was measured on: the machine and the versions, nothing that names a person's."""

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

import apsw
import msgspec

from rockets.bench.processes import Cores

PACKAGES = (
    "rockets",
    "trio",
    "hypercorn",
    "quart",
    "quart-trio",
    "msgspec",
    "apsw",
    "httptools",
)


class Machine(msgspec.Struct, frozen=True, rename="camel"):
    """The facts that a reader needs to compare two runs."""

    cpu: str
    cores: int
    shares_core: bool
    kernel: str
    python: str
    file_system: str
    versions: dict[str, str]

    def sentences(self) -> list[str]:
        """Say what it was measured on."""
        versions = (f"{name} {number}" for name, number in self.versions.items())
        return [
            f"Machine: {self.cpu}, {self.cores} cores, {self.kernel}, databases on "
            f"{self.file_system}.",
            f"Versions: {', '.join(versions)}, Python {self.python}.",
        ]

    def doubts(self) -> list[str]:
        """Say what makes figures of this machine worth less."""
        said = []
        if self.shares_core:
            said.append("There was one core only: server and load took it from each other.")
        if self.file_system == "tmpfs":
            said.append("The databases were in memory: `full` cost no more than `normal`.")
        return said


def look(directory: Path, *, cores: Cores, wrk: str | None) -> Machine:
    """Collect the facts; databases are in the directory."""
    versions = {package: version(package) for package in PACKAGES}
    versions["sqlite"] = apsw.sqlite_lib_version()
    if wrk is not None:
        versions["wrk"] = _wrk_version(wrk)
    return Machine(
        cpu=_cpu_model(Path("/proc/cpuinfo")),
        cores=len(os.sched_getaffinity(0)),
        shares_core=cores.shared,
        # Without what who built it has added.
        kernel=f"{platform.system()} {platform.release().partition('-')[0]}",
        python=platform.python_version(),
        file_system=_file_system(directory, Path("/proc/self/mounts")),
        versions=versions,
    )


def _wrk_version(wrk: str) -> str:
    shown = subprocess.run([wrk, "--version"], capture_output=True, text=True, check=False)
    words = (shown.stdout + shown.stderr).split()  # such as: wrk debian/4.1.0-3+b2 [epoll] ...
    return words[1] if len(words) > 1 else "unknown"


def _cpu_model(cpuinfo: Path) -> str:
    if not cpuinfo.exists():
        return platform.machine()
    fields = (line.partition(":") for line in cpuinfo.read_text().splitlines())
    models = (value.strip() for name, _, value in fields if name.strip() == "model name")
    return next(models, platform.machine())


def _file_system(directory: Path, mounts: Path) -> str:
    """Name the kind of file system: a sync costs nothing where that is memory (tmpfs)."""
    if not mounts.exists():
        return "unknown"
    entries = (line.split(" ") for line in mounts.read_text().splitlines())
    path = directory.resolve()
    within = [entry for entry in entries if path.is_relative_to(entry[1])]
    # Of two on one place the later one hides the earlier.
    return max(within, key=lambda entry: len(entry[1]), default=["", "", "unknown"])[2]
