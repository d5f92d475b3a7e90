"""The catalogue of log events is what the code logs, and every line has the same form."""

import ast
import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

import rockets
from rockets.telemetry import EVENTS, set_up_logs

SOURCE = Path(rockets.__file__).parent
METHODS = {"debug", "info", "warning", "error", "critical", "exception"}


def logged(tree: ast.AST) -> Iterator[str]:
    """Every event in `log.info("event", ...)`; one that is not a plain text counts as its code."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(
                func=ast.Attribute(value=ast.Name(id="log"), attr=method), args=[event, *_]
            ) if method in METHODS:
                yield str(event.value) if isinstance(event, ast.Constant) else ast.unparse(event)


def test_the_catalogue_has_exactly_the_events_that_are_logged() -> None:
    events = {
        event for path in SOURCE.rglob("*.py") for event in logged(ast.parse(path.read_text()))
    }

    assert events == set(EVENTS)


def test_the_catalogue_is_sorted_and_every_event_is_explained() -> None:
    assert list(EVENTS) == sorted(EVENTS)
    assert all(text.endswith(".") for text in EVENTS.values())


def test_an_event_that_is_worked_out_is_found() -> None:
    assert list(logged(ast.parse("log.info(name); log.error('known')"))) == ["name", "known"]


@pytest.fixture(autouse=True)
def _logs_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers.clear()  # pytest's own, which a set-up would close
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


def test_a_line_off_a_terminal_is_one_json_object(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logs("info")

    structlog.get_logger().info("started", url="http://a\nb")
    logging.getLogger("hypercorn").warning("careful: %s", "x\ny")

    ours, theirs = map(json.loads, capsys.readouterr().err.splitlines())
    assert (ours["event"], ours["level"], ours["url"]) == ("started", "info", "http://a\nb")
    assert ours["timestamp"].endswith("Z")
    assert (theirs["event"], theirs["level"]) == ("careful: x\ny", "warning")


def test_a_traceback_is_inside_the_line(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logs("info")

    try:
        raise ValueError("a bug")
    except ValueError:
        structlog.get_logger().exception("request_failed")

    [line] = capsys.readouterr().err.splitlines()
    assert json.loads(line)["exception"][0]["exc_value"] == "a bug"


@pytest.mark.parametrize(
    ("level", "shown"), [("debug", 3), ("info", 3), ("warning", 2), ("error", 1)]
)
def test_less_severe_lines_are_left_out(
    level: str, shown: int, capsys: pytest.CaptureFixture[str]
) -> None:
    set_up_logs(level)  # type: ignore[arg-type]  # one of the four

    log = structlog.get_logger()
    log.info("a")
    log.warning("b")
    log.error("c")

    assert len(capsys.readouterr().err.splitlines()) == shown
