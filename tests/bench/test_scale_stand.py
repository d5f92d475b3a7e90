"""Memory and processor time are what Linux says, and a server that fails gives no figure."""

import time
from pathlib import Path

import pytest

from rockets.bench.outcome import MeasurementFailed
from rockets.bench.processes import find_cores
from rockets.bench.scale_march import March
from rockets.bench.scale_stand import Grounds, cpu_seconds, status_bytes

STATUS = (
    "Name:\tpython\nVmPeak:\t  9000 kB\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\nThreads:\t3\n"
)
STAT = "42 (a ) b (c) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20 0"


def test_memory_is_read_from_the_line_of_its_name() -> None:
    assert status_bytes(STATUS, "VmRSS") == 1024 * 1024
    assert status_bytes(STATUS, "VmHWM") == 2048 * 1024
    with pytest.raises(MeasurementFailed, match="no VmSwap"):
        status_bytes(STATUS, "VmSwap")


def test_memory_of_this_process_grows_with_what_it_holds() -> None:
    before = status_bytes(Path("/proc/self/status").read_text(), "VmRSS")
    held = b"x" * 32_000_000

    grown = status_bytes(Path("/proc/self/status").read_text(), "VmRSS") - before

    assert len(held) * 0.9 < grown < len(held) * 1.5


def test_processor_time_is_that_of_user_and_system_whatever_the_name() -> None:
    assert cpu_seconds(STAT) == pytest.approx(3.0)
    for broken in ("", "42 (python) S 1 2", STAT.replace("250", "x")):
        with pytest.raises(MeasurementFailed, match="processor time"):
            cpu_seconds(broken)


def test_processor_time_of_this_process_is_what_python_says() -> None:
    before, known = cpu_seconds(Path("/proc/self/stat").read_text()), time.process_time()
    while time.process_time() - known < 0.1:
        sum(range(1_000))

    assert cpu_seconds(Path("/proc/self/stat").read_text()) - before == pytest.approx(0.1, abs=0.05)


@pytest.fixture
def grounds(tmp_path: Path) -> Grounds:
    """Grounds for small things, without wrk."""
    return Grounds(
        tmp_path,
        cores=find_cores(),
        scale=10_000,
        seconds=1,
        rounds=1,
        wrk=None,
        say=lambda line: None,
    )


def test_rockets_and_messages_are_divided_but_not_to_nothing(grounds: Grounds) -> None:
    assert grounds.scaled(1_000_000, 20) == 100
    assert grounds.scaled(10_000, 20) == 20


@pytest.mark.slow
def test_a_database_stays_and_a_killed_server_is_no_failure(
    grounds: Grounds, tmp_path: Path
) -> None:
    database = tmp_path / "rockets.db"
    with grounds.server(database) as server:
        assert 10_000_000 < server.resident <= server.resident_peak
        assert server.cpu_s > 0
        assert 0 < server.start_s < 60
        assert server.wait_until_idle(1.0)
        with pytest.raises(MeasurementFailed, match="wrk is not installed"):
            grounds.wrk(server, March(20, 0))
        server.kill()
        with pytest.raises(MeasurementFailed, match="cannot be looked at"):
            server.cpu_s  # noqa: B018  # asking is what fails

    with grounds.server(database) as server:
        assert server.counts()["rockets"] == 0


@pytest.mark.slow
def test_a_server_that_does_not_end_as_it_should_is_a_failure(
    grounds: Grounds, tmp_path: Path
) -> None:
    with (
        pytest.raises(MeasurementFailed, match="ended with code -9"),
        grounds.server(tmp_path / "rockets.db") as server,
    ):
        server._process.kill()
        server._process.wait()
