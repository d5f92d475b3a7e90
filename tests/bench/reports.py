"""Builds the report of a run that never was."""

from datetime import UTC, datetime

from rockets.bench.machine import Machine
from rockets.bench.outcome import Failed, Outcome
from rockets.bench.report import Report, make_report
from rockets.bench.rounds import Rounds

MACHINE = Machine("A CPU", 2, False, "Linux 6.1", "3.11.9", "ext4", {"trio": "0.35.0"})


def report(machine: Machine = MACHINE, **measured: list[Outcome | Failed]) -> Report:
    """Make the report of one case in two rounds."""
    rounds: Rounds = {
        "floor-64": [Outcome(1000, 1.0, 2.0), Outcome(3000, 3.0, 4.0)],
        "get-one-64": [Outcome(1400), Outcome(1800)],
    }
    return make_report(
        ["get-one-64"],
        rounds | {name.replace("_", "-"): results for name, results in measured.items()},
        command="rockets bench --rounds 2",
        started=datetime(2026, 3, 1, tzinfo=UTC),
        rounds=2,
        seconds=3,
        machine=machine,
    )
