"""Whatever happens in a block, its process is gone afterwards."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from rockets.bench.outcome import MeasurementFailed
from rockets.bench.processes import Cores, find_cores, finish, last_line, read_line, running

CORE = find_cores().load
STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    "print('ready', flush=True); time.sleep(60)"
)


def python(code: str) -> list[str]:
    """Write the command that runs this code."""
    return [sys.executable, "-S", "-c", code]


def test_a_process_runs_on_its_core_and_is_ended_with_sigterm(tmp_path: Path) -> None:
    code = "import os, time; print(os.sched_getaffinity(0), flush=True); time.sleep(60)"
    log = tmp_path / "log"

    with running(python(code), core=CORE, log=log) as process:
        assert read_line(process, log) == f"{{{CORE}}}"

    assert process.returncode == -signal.SIGTERM


def test_without_a_core_it_runs_where_we_may(tmp_path: Path) -> None:
    code = "import os; print(os.sched_getaffinity(0), flush=True)"
    log = tmp_path / "log"

    with running(python(code), core=None, log=log) as process:
        assert read_line(process, log) == str(os.sched_getaffinity(0))


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, MeasurementFailed])
def test_it_is_ended_however_the_block_is_left(tmp_path: Path, error: type[BaseException]) -> None:
    processes: list[subprocess.Popen[bytes]] = []
    with (
        pytest.raises(error),
        running(python("import time; time.sleep(60)"), core=CORE, log=tmp_path / "log") as process,
    ):
        processes.append(process)
        raise error

    assert processes[0].returncode == -signal.SIGTERM


def test_one_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    log = tmp_path / "log"

    with running(python(STUBBORN), core=CORE, log=log, stop_s=0.05) as process:
        read_line(process, log)

    assert process.returncode == -signal.SIGKILL


def test_settings_of_the_environment_are_not_those_of_the_measurement(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROCKETS_SETTING", "lost")
    monkeypatch.setenv("OTHER_SETTING", "kept")
    code = "import os; print([os.getenv(f'{name}_SETTING') for name in ('ROCKETS', 'OTHER')])"

    output = finish(python(code), core=CORE, log=tmp_path / "log", limit_s=20)

    assert output == "[None, 'kept']\n"


def test_a_ctrl_c_at_the_terminal_is_not_for_the_process(tmp_path: Path) -> None:
    with running(python("input()"), core=CORE, log=tmp_path / "log") as process:
        assert os.getpgid(process.pid) == process.pid


def test_a_process_that_ends_gives_what_it_printed(tmp_path: Path) -> None:
    assert finish(python("print(7)"), core=CORE, log=tmp_path / "log", limit_s=20) == "7\n"


@pytest.mark.parametrize(
    ("code", "limit_s", "words"),
    [
        ("import sys; sys.exit('no such thing')", 20, "no such thing"),
        ("import os; os._exit(7)", 20, "ended with code 7"),
        ("import time; time.sleep(60)", 0.05, "did not end within 0.05 s"),
    ],
)
def test_a_process_that_fails_leaves_no_figure(
    tmp_path: Path, code: str, limit_s: float, words: str
) -> None:
    with pytest.raises(MeasurementFailed, match=words):
        finish(python(code), core=CORE, log=tmp_path / "log", limit_s=limit_s)


@pytest.mark.parametrize(
    ("code", "words"),
    [("import sys; sys.exit('port is taken')", "port is taken"), ("0", "it said nothing")],
)
def test_a_server_that_does_not_start_says_why(tmp_path: Path, code: str, words: str) -> None:
    log = tmp_path / "log"
    with (
        running(python(code), core=CORE, log=log) as process,
        pytest.raises(MeasurementFailed, match=f"it did not start: {words}"),
    ):
        read_line(process, log)


def test_a_silent_server_is_not_waited_for_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rockets.bench.processes.START_S", 0.05)
    log = tmp_path / "log"
    with (
        running(python("import time; time.sleep(60)"), core=CORE, log=log) as process,
        pytest.raises(MeasurementFailed, match="it did not start"),
    ):
        read_line(process, log)


@pytest.mark.parametrize(
    ("usable", "cores"), [({0, 1}, Cores(1, 0)), ({2, 3, 7}, Cores(7, 2)), ({5}, Cores(5, 5))]
)
def test_server_and_load_have_a_core_each_where_there_are_two(
    monkeypatch: pytest.MonkeyPatch, usable: set[int], cores: Cores
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: usable)

    assert find_cores() == cores
    assert cores.shared == (len(usable) == 1)


def test_the_last_words_of_a_log_are_its_last_line_with_any(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("first\nlast \n\n")

    assert last_line(log) == "last"
