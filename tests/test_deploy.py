"""What `deploy/` ships fits the service: names, limits, and what the tools themselves check."""

import json
import re
import shutil
import subprocess
import tomllib
from collections.abc import Mapping
from configparser import ConfigParser
from importlib import import_module
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from packaging.specifiers import SpecifierSet

from rockets.settings import FIELDS, PREFIX, Settings, read_settings
from rockets.stopping import EXIT_ABSENT, EXIT_BEHIND, EXIT_REFUSED
from rockets.web.problems import PROBLEM_TYPE, PROBLEMS, RETRY_AFTER_S
from rockets.web.routes import ROUTES

ROOT = Path(__file__).parent.parent
SYSTEMD = ROOT / "deploy" / "systemd"
CONTAINERFILE = ROOT / "deploy" / "container" / "Containerfile"
COMPOSE = ROOT / "deploy" / "compose" / "compose.yaml"
HAPROXY = COMPOSE.with_name("haproxy.cfg")
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


def instructions() -> list[tuple[str, str]]:
    """The instructions of the container file, each with its words on one line."""
    text = re.sub(r"(?m)^#.*\n", "", CONTAINERFILE.read_text()).replace("\\\n", " ")
    lines = [" ".join(line.split()) for line in text.splitlines() if line.strip()]
    return [(name, words) for name, _, words in (line.partition(" ") for line in lines)]


def of(name: str) -> list[str]:
    """The words of every instruction of a name, in all stages."""
    return [words for each, words in instructions() if each == name]


def copied() -> list[PurePosixPath]:
    """What the image is built from, by its path in the repository."""
    sources = [words.split()[:-1] for words in of("COPY") if not words.startswith("--from=")]
    return [PurePosixPath(path) for paths in sources for path in paths]


def settings_of(environment: Mapping[str, str]) -> Settings:
    """Read a container's variables as the service does; SettingsInvalid where one is wrong."""
    return read_settings({}, environment)


def image_environment() -> dict[str, str]:
    """The variables that the image sets."""
    [words] = of("ENV")
    return dict(word.split("=", 1) for word in words.split())


def test_what_the_image_is_built_from_exists_and_reaches_the_build() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    rules = [line for line in lines if not line.startswith("#")]
    let_in = {line.removeprefix("!") for line in rules if line.startswith("!")}

    assert rules[0] == "*"
    assert {str(path) for path in copied()} == let_in
    assert [path for path in copied() if not (ROOT / path).exists()] == []


def test_the_image_gets_what_the_package_is_made_of_and_every_extra_that_serves() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    made_of = {"pyproject.toml", "src", project["readme"], *project["license-files"]}
    extras = set(project["optional-dependencies"]) - {"dev"}
    run = " ".join(of("RUN"))
    [installed] = re.findall(r"\"rockets\[([\w,]+)\]\"", run)
    locks = set(re.findall(r"--requirement (\S+)", run))

    assert made_of <= {str(path) for path in copied()}
    assert set(installed.split(",")) == extras
    assert locks == {f"requirements/{extra}.txt" for extra in extras}
    assert all((ROOT / lock).exists() for lock in locks)
    [download] = [words for words in of("RUN") if "pip download" in words]
    assert {"--require-hashes", "--only-binary"} <= set(download.split())
    for install in re.findall(r"pip (?:--python \S+ )?(?:install|wheel) [^&]+", run):
        assert "--no-index" in install.split(), "it could bring what no lock has"


def test_the_image_is_of_a_python_that_the_package_takes() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    bases = [words.split()[0] for words in of("FROM")]
    [version] = {re.fullmatch(r"python:([\d.]+)-slim", base)[1] for base in bases}  # type: ignore[index]  # what is no such image fails as it should

    assert f"{version}.0" in SpecifierSet(project["requires-python"])


def test_the_service_in_the_image_is_no_root_and_gets_its_signals() -> None:
    [user], [start], [command] = of("USER"), of("ENTRYPOINT"), of("CMD")
    [stop] = of("STOPSIGNAL")

    assert min(int(number) for number in user.split(":")) >= 1_000
    # With a shell in between the signal would end there.
    assert [*json.loads(start), *json.loads(command)] == ["rockets", "serve"]
    assert stop == "SIGTERM"


def test_the_image_sets_what_there_is_to_be_set() -> None:
    [port], [volume], [healthcheck] = of("EXPOSE"), of("VOLUME"), of("HEALTHCHECK")
    environment = image_environment()
    settings = settings_of(environment)

    assert settings.host == "0.0.0.0", "of no use from outside otherwise"
    assert PurePosixPath(volume) in PurePosixPath(settings.database).parents
    assert int(port) == settings.port
    [asked] = re.findall(r"http://127\.0\.0\.1:(\d+)(/\w+)'", healthcheck)
    assert asked == (port, "/livez")
    assert json.loads(healthcheck.partition("CMD ")[2])[0] == "python"


def compose() -> dict[str, Any]:
    """The compose file; its merges and anchors are resolved."""
    yaml: Any = import_module("yaml")  # it has no types
    read: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())
    return read


def composed_instances() -> dict[str, dict[str, Any]]:
    """The services that run our image, by name."""
    found = {
        name: service
        for name, service in compose()["services"].items()
        if service["image"] == "rockets"
    }
    assert len(found) == 2
    return found


def seconds(text: str) -> float:
    """Read a duration such as 15s."""
    assert re.fullmatch(r"\d+s", text)
    return float(text[:-1])


def test_the_composed_instances_are_set_up_as_the_service_wants_it() -> None:
    for service in composed_instances().values():
        settings = settings_of({**image_environment(), **_ours(service["environment"])})

        assert settings.journal_kind == "postgresql"
        assert "@postgres/" in settings.journal, "the name of the service with the database"
        assert seconds(service["stop_grace_period"]) > settings.shutdown_grace_s
        assert service["ulimits"]["nofile"] > settings.connections_max
        # After EXIT_BEHIND nobody but a person may start it again.
        assert service["restart"] == "no"
        assert service["depends_on"]["postgres"]["condition"] == "service_healthy"


def _ours(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.startswith(PREFIX)}


def test_the_composed_services_use_files_and_volumes_that_there_are() -> None:
    read = compose()
    builds = [service["build"] for service in read["services"].values() if "build" in service]
    mounts = [
        mount.split(":")[0]
        for service in read["services"].values()
        for mount in service.get("volumes", ())
    ]

    assert [(COMPOSE.parent / each["context"]).resolve() for each in builds] == [ROOT]
    assert [ROOT / each["dockerfile"] for each in builds] == [CONTAINERFILE]
    for mount in mounts:
        assert (COMPOSE.parent / mount).exists() or mount in read["volumes"], mount


def test_no_password_stands_in_the_compose_file() -> None:
    environments = [each.get("environment", {}) for each in compose()["services"].values()]
    passwords = [
        value
        for environment in environments
        for name, value in environment.items()
        if "PASSWORD" in name
    ]

    assert len(passwords) == 3, "of the database, and of each instance for it"
    assert {re.fullmatch(r"\$\{POSTGRES_PASSWORD:\?.+\}", each) is None for each in passwords} == {
        False
    }
    assert not re.search(r"://[^/\s]*:[^/\s]*@", COMPOSE.read_text())


def test_every_image_of_others_has_a_version() -> None:
    images = {service["image"] for service in compose()["services"].values()} - {"rockets"}

    assert images
    assert [image for image in images if not re.search(r":\d", image)] == []


def directive(name: str) -> str:
    """What follows the words of a directive that stands once in HAProxy's file."""
    [found] = re.findall(rf"(?m)^    {name} (.+)$", HAPROXY.read_text())
    return str(found)


def test_the_load_balancer_knows_the_instances_and_asks_what_they_answer() -> None:
    servers = re.findall(r"(?m)^    server (\S+) (\S+):(\d+)$", HAPROXY.read_text())
    port = Settings().port
    paths = {(route.method, route.path) for route in ROUTES}

    assert servers == [(name, name, str(port)) for name in composed_instances()]
    assert directive("bind") == f":{port}"
    assert compose()["services"]["haproxy"]["ports"] == [f"{port}:{port}"]
    method, path = re.findall(r"meth (\S+) uri (\S+)", directive("http-check send"))[0]
    assert (method, path) in paths
    assert path == "/readyz"


def test_the_load_balancer_waits_longer_than_the_instances_do() -> None:
    settings = Settings()
    [most] = re.findall(r" maxconn (\d+)", directive("default-server"))

    assert int(most) < settings.connections_max
    assert seconds(directive("timeout server")) > settings.ask_timeout_s
    assert seconds(directive("timeout server")) > settings.body_total_s
    assert seconds(directive("timeout client")) > settings.body_total_s


def test_where_no_instance_is_the_load_balancer_answers_as_one_would() -> None:
    words = directive("http-error")
    [problem] = re.findall(r"string '(.+)'$", words)
    status, title = PROBLEMS["unavailable"]

    assert words.startswith(f"status {status} content-type {PROBLEM_TYPE} ")
    assert f" hdr Retry-After {RETRY_AFTER_S} " in words
    assert json.loads(problem) == {
        "type": "/problems/unavailable",
        "title": title,
        "status": status,
    }


@pytest.mark.skipif(shutil.which("haproxy") is None, reason="HAProxy is not installed")
def test_haproxy_accepts_its_file(tmp_path: Path) -> None:
    # The names are those of a network that is not here.
    file = tmp_path / "haproxy.cfg"
    file.write_text(re.sub(r"(?m)(server \S+) \S+:", r"\1 127.0.0.1:", HAPROXY.read_text()))

    done = subprocess.run(
        ["haproxy", "-c", "-q", "-f", str(file)], capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stderr) == (0, "")
