"""The facts about the machine, from files as Linux writes them."""

import platform
from pathlib import Path

import pytest

from rockets.bench.machine import _cpu_model, _file_system, look
from rockets.bench.processes import Cores


def test_the_facts_have_the_versions_and_name_no_folder(tmp_path: Path) -> None:
    machine = look(tmp_path, cores=Cores(1, 0), wrk="/bin/true")

    assert machine.python == platform.python_version()
    assert {"trio", "hypercorn", "sqlite", "wrk"} <= set(machine.versions)
    assert not machine.shares_core
    assert str(tmp_path) not in str(machine)


def test_the_cpu_is_named_once_however_many_cores_it_has(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor\t: 0\nmodel name\t: A CPU\n\nprocessor\t: 1\nmodel name\t: B\n")

    assert _cpu_model(cpuinfo) == "A CPU"
    assert _cpu_model(tmp_path / "nowhere") == platform.machine()


@pytest.mark.parametrize(
    ("path", "kind"),
    [("/", "ext4"), ("/data", "xfs"), ("/data/x", "tmpfs"), ("/data/x/y", "tmpfs")],
)
def test_the_file_system_is_that_of_the_nearest_mount(tmp_path: Path, path: str, kind: str) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text("a / ext4 rw 0 0\nb /data xfs rw 0 0\nc /data/x tmpfs rw 0 0\n")

    assert _file_system(Path(path), mounts) == kind
    assert _file_system(Path(path), tmp_path / "nowhere") == "unknown"
