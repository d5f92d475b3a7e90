"""Settings: which source counts, every bound, and everything wrong told at once."""

from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from rockets.settings import (
    FIELDS,
    Durability,
    LogLevel,
    Role,
    Settings,
    SettingsInvalid,
    read_settings,
)

# name -> the least and the most that is allowed; a least of None is "more than nothing".
BOUNDS: dict[str, tuple[float | None, float]] = {
    "port": (0, 65_535),
    "journal_wait_s": (0, 86_400),
    "ask_timeout_s": (None, 3_600),
    "message_max": (1, 2**30),
    "batch_max": (1, 2**30),
    "batch_messages_max": (1, 1_000_000),
    "bodies_total_max": (1, 2**40),
    "answers_total_max": (1, 2**40),
    "head_max": (256, 2**19),
    "headers_max": (1, 10_000),
    "body_pause_s": (None, 3_600),
    "body_total_s": (None, 3_600),
    "send_timeout_s": (None, 3_600),
    "header_timeout_s": (None, 3_600),
    "idle_timeout_s": (None, 86_400),
    "crowded_idle_timeout_s": (None, 86_400),
    "connections_max": (64, 1_000_000),
    "readers_max": (1, 1_000_000),
    "backlog": (1, 65_535),
    "requests_waiting_max": (1, 1_000_000),
    "waiting_bytes_max": (1, 2**40),
    "mailbox_max": (1, 100_000),
    "actors_max": (1, 1_000_000),
    "actor_idle_s": (None, 86_400),
    "rocket_gaps_max": (1, 10_000_000),
    "total_gaps_max": (1, 100_000_000),
    "commit_queue_max": (1, 1_000_000),
    "commit_parts_max": (1, 100_000),
    "commit_bytes_max": (1, 2**30),
    "rejections_waiting_max": (1, 100_000),
    "notes_max": (1, 2**40),
    "notes_bytes_max": (1, 2**50),
    "reserve_bytes": (0, 2**50),
    "checkpoint_records": (1, 2**40),
    "checkpoint_s": (None, 86_400),
    "retain_messages": (0, 2**53 - 1),
    "retain_s": (0, 10**10),
    "workers": (1, 64),
    "read_wait_s": (None, 3_600),
    "shutdown_grace_s": (None, 3_600),
}
WORDS: dict[str, tuple[str, ...]] = {
    "durability": get_args(Durability),
    "log_level": get_args(LogLevel),
    "role": get_args(Role),
}
TRUTHS = {"fresh": False, "fast_lane": True}  # with their defaults
OTHERS = {"host", "database", "journal", "tls_certificate", "tls_key", *TRUTHS}


def problems(
    flags: dict[str, Any] | None = None,
    environment: dict[str, str] | None = None,
    config: str | None = None,
) -> list[str]:
    """Read settings that must be refused; gives the lines."""
    with pytest.raises(SettingsInvalid) as invalid:
        read_settings(flags or {}, environment or {}, config=config)
    assert str(invalid.value) == "\n".join(invalid.value.problems)
    assert not any("\n" in line for line in invalid.value.problems)
    return invalid.value.problems


def toml(directory: Path, text: str) -> str:
    path = directory / "rockets.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_the_tables_here_have_every_setting() -> None:
    assert set(BOUNDS) | set(WORDS) | OTHERS == set(FIELDS)


def test_without_any_source_the_defaults_count_and_are_within_their_bounds() -> None:
    settings = read_settings({}, {"PATH": "/bin", "HOST": "ignored"})

    assert settings == Settings()
    for name, field in FIELDS.items():
        assert msgspec.convert(field.default, field.type) == field.default, name


def test_a_flag_goes_before_the_environment_before_the_file_before_the_default(
    tmp_path: Path,
) -> None:
    config = toml(tmp_path, "port = 1\nbacklog = 1\nmailbox_max = 1\n")
    environment = {"ROCKETS_PORT": "2", "ROCKETS_BACKLOG": "2"}

    settings = read_settings({"port": "3", "backlog": None}, environment, config=config)

    assert (settings.port, settings.backlog, settings.mailbox_max) == (3, 2, 1)
    assert settings.actors_max == Settings().actors_max


def test_the_environment_may_name_the_file_and_a_flag_another_one(tmp_path: Path) -> None:
    environment = {"ROCKETS_CONFIG": toml(tmp_path, "port = 1")}
    (tmp_path / "other").mkdir()
    other = toml(tmp_path / "other", "port = 2")

    assert read_settings({}, environment).port == 1
    assert read_settings({}, environment, config=other).port == 2


def test_a_port_given_by_the_platform_counts_unless_ours_is_given() -> None:
    ours_first = {"ROCKETS_PORT": "2", "PORT": "1"}
    ours_last = {"PORT": "1", "ROCKETS_PORT": "2"}

    assert read_settings({}, {"PORT": "1"}).port == 1
    assert read_settings({}, ours_first).port == 2
    assert read_settings({}, ours_last).port == 2
    assert read_settings({"port": "3"}, ours_last).port == 3
    assert problems(environment={"PORT": "http"})[0].startswith("PORT: port = 'http' is wrong: ")


@pytest.mark.parametrize("name", BOUNDS)
def test_a_number_is_taken_up_to_its_bounds_and_not_over_them(name: str) -> None:
    least, most = BOUNDS[name]
    least_taken = 0.001 if least is None else least
    over_least, over_most = (0, most * 1.001) if least is None else (least - 1, most + 1)

    for taken in (least_taken, most):
        assert getattr(read_settings({name: str(taken)}, {}), name) == taken
    for refused in (over_least, over_most):
        [line] = problems({name: str(refused)})
        assert line.startswith(f"--{name.replace('_', '-')}: {name} = '{refused}' is wrong: ")


@pytest.mark.parametrize("name", BOUNDS)
@pytest.mark.parametrize("value", ["", "x", "nan", "inf", "-1", "1 2", "0x10", "true"])
def test_what_is_no_number_is_refused(name: str, value: str) -> None:
    assert len(problems({name: value})) == 1


@pytest.mark.parametrize(("name", "words"), WORDS.items())
def test_a_word_is_one_of_its_set(name: str, words: tuple[str, ...]) -> None:
    for word in words:
        assert getattr(read_settings({name: word}, {}), name) == word
    for wrong in ("", words[0].upper(), f" {words[0]}"):
        assert len(problems({name: wrong})) == 1


@pytest.mark.parametrize(("name", "default"), TRUTHS.items())
def test_a_truth_value_is_one_in_every_source(name: str, default: bool, tmp_path: Path) -> None:
    variable = f"ROCKETS_{name.upper()}"
    other = str(not default).lower()

    assert getattr(read_settings({}, {}), name) is default
    assert getattr(read_settings({name: not default}, {}), name) is not default
    assert getattr(read_settings({name: default}, {variable: other}), name) is default
    for written, meant in (("true", True), ("1", True), ("false", False), ("0", False)):
        assert getattr(read_settings({}, {variable: written}), name) is meant
    config = toml(tmp_path, f"{name} = {other}")
    assert getattr(read_settings({}, {}, config=config), name) is not default
    assert len(problems(environment={variable: "perhaps"})) == 1


@pytest.mark.parametrize(
    ("journal", "kind"),
    [
        ("sqlite", "sqlite"),
        ("postgresql://host/name", "postgresql"),
        ("postgres://host", "postgresql"),
        ("redis://host", "redis"),
        ("rediss://host", "redis"),
        ("unix:///run/redis.sock", "redis"),
    ],
)
def test_a_journal_is_named_by_its_scheme(journal: str, kind: str) -> None:
    assert read_settings({"journal": journal}, {}).journal_kind == kind
    assert read_settings({}, {}).journal_kind == "sqlite"
    assert read_settings({"durability": "memory"}, {}).journal_kind == "memory"


@pytest.mark.parametrize("wrong", ["", "SQLITE", "sqlite://x", "mysql://me:hidden@host", "hidden"])
def test_another_journal_is_refused_and_never_shown(wrong: str) -> None:
    [line] = problems({"journal": wrong})

    assert line == "--journal: journal is neither sqlite nor postgresql://... nor redis://..."


@pytest.mark.parametrize("journal", ["postgresql://me:hidden@host", "redis://me:hidden@host"])
def test_what_is_of_a_file_or_of_memory_is_refused_beside_a_server(journal: str) -> None:
    [memory] = problems({"journal": journal, "durability": "memory"})
    [fresh] = problems({"journal": journal, "fresh": True})

    assert memory == "durability memory is not for a journal on a server"
    assert fresh == "fresh is for a journal in a file, not for one on a server"
    assert read_settings({"fresh": True, "durability": "memory"}, {}).fresh


@pytest.mark.parametrize("name", ["host", "database"])
def test_a_name_must_not_be_empty(name: str) -> None:
    assert getattr(read_settings({name: "x"}, {}), name) == "x"
    assert len(problems({name: ""})) == 1


def test_the_file_has_types_and_text_is_no_number_in_it(tmp_path: Path) -> None:
    right = read_settings({}, {}, config=toml(tmp_path, "ask_timeout_s = 5\nport = 0"))
    wrong = toml(tmp_path, 'port = "80"\nhost = 5\nfresh = 1\nbacklog = [1]\nmessage_max = 1.5')

    assert right.ask_timeout_s == 5.0
    assert len(problems(config=wrong)) == 5


def test_everything_wrong_or_unknown_is_told_at_once_with_its_source(tmp_path: Path) -> None:
    config = toml(tmp_path, "porto = 1\nbacklog = 0\n[section]\nx = 1\n")
    environment = {"ROCKETS_PORTO": "1", "ROCKETS_MAILBOX_MAX": "0"}

    lines = problems({"port": "x", "message_max": "y\nz"}, environment, config)

    assert sorted(line.partition(": ")[0] for line in lines) == sorted(
        [config, config, config, "ROCKETS_PORTO", "ROCKETS_MAILBOX_MAX", "--port", "--message-max"]
    )
    assert f"{config}: unknown setting 'porto'" in lines
    assert "ROCKETS_PORTO: unknown setting" in lines


@pytest.mark.parametrize("content", [b"port = ", b"\xff", b"port = 1\nport = 2"])
def test_a_file_that_is_not_toml_is_one_line(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "rockets.toml"
    path.write_bytes(content)

    [line] = problems(config=str(path))

    assert line.startswith(f"{path}: cannot be read: ")


def test_a_file_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    [line] = problems(environment={"ROCKETS_CONFIG": str(tmp_path / "none.toml")})

    assert "cannot be read" in line


def test_a_long_wrong_value_is_cut_in_the_line() -> None:
    [line] = problems({"port": "9" * 10_000})

    assert len(line) < 300
