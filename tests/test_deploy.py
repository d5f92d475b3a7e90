"""What `deploy/` ships fits the service: names, limits, and what the tools themselves check."""

import shutil
import subprocess
from configparser import ConfigParser
from pathlib import Path

import pytest

from rockets.settings import FIELDS, PREFIX, Settings
from rockets.stopping import EXIT_ABSENT, EXIT_BEHIND, EXIT_REFUSED

SYSTEMD = Path(__file__).parent.parent / "deploy" / "systemd"
PROGRAM = "/opt/rockets/bin/rockets"


def unit(name: str) -> ConfigParser:
    """Read a unit; of keys that may be repeated none is."""
    parser = ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # keys have capitals
    parser.read_string((SYSTEMD / name).read_text())
    return parser


def test_the_units_name_settings_that_exist_and_fit_their_defaults() -> None:
    service, sock = unit("rockets.service")["Service"], unit("rockets.socket")["Socket"]
    defaults = Settings()

    variable = service["Environment"].partition("=")[0]
    assert variable.removeprefix(PREFIX).lower() in FIELDS
    assert float(service["TimeoutStopSec"]) > defaults.shutdown_grace_s
    assert service["RestartPreventExitStatus"] == f"{EXIT_REFUSED} {EXIT_BEHIND}"
    # A server that comes late is waited for, however often that takes a new start.
    assert str(EXIT_ABSENT) not in service["RestartPreventExitStatus"].split()
    assert unit("rockets.service")["Unit"]["StartLimitIntervalSec"] == "0"
    assert int(service["LimitNOFILE"]) > defaults.connections_max
    assert int(sock["Backlog"]) >= defaults.requests_waiting_max
    assert sock["ListenStream"] == f"{defaults.host}:{defaults.port}"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    for path in SYSTEMD.iterdir():
        # The program need not be installed here.
        (tmp_path / path.name).write_text(path.read_text().replace(PROGRAM, "/bin/true"))
    units = sorted(map(str, tmp_path.iterdir()))

    done = subprocess.run(
        ["systemd-analyze", "verify", *units], capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stderr) == (0, "")
