"""Every case at scale runs from end to end, with a fleet of a hundred, and sees what is wrong."""

import shutil
from pathlib import Path

import msgspec
import pytest

from rockets.bench.outcome import Failed, MeasurementFailed
from rockets.bench.processes import find_cores
from rockets.bench.scale_bounds import check_fates, check_list
from rockets.bench.scale_cases import CASES, run
from rockets.bench.scale_found import Found
from rockets.bench.scale_march import March
from rockets.bench.scale_sender import Fates, send_batches
from rockets.bench.scale_shelf import Fleet, Shelf, check_states
from rockets.bench.scale_stand import Grounds

WRK = shutil.which("wrk")
needs_wrk = pytest.mark.skipif(WRK is None, reason="wrk is not installed: make bench-tools")

WITHOUT_WRK = ("memory", "batch-million", "start-clean", "start-killed", "reverse")
WITH_WRK = ("single-million", "list", "history", "hot-rocket")


def make_grounds(directory: Path, wrk: str | None = WRK) -> Grounds:
    """Make grounds for a fleet of a hundred, whose rockets are idle soon."""
    return Grounds(
        directory,
        cores=find_cores(),
        scale=10_000,
        seconds=1,
        rounds=1,
        wrk=wrk,
        say=lambda line: None,
        flags=("--actor-idle-s", "0.2"),
    )


@pytest.fixture(scope="module")
def grounds(tmp_path_factory: pytest.TempPathFactory) -> Grounds:
    """The same grounds for all cases, so that each fleet is loaded once."""
    return make_grounds(tmp_path_factory.mktemp("scale"))


def measure(name: str, grounds: Grounds) -> dict[str, Found]:
    """Run one case; gives what it found for each of its rows."""
    found: dict[str, Found] = {}
    for row, result in run([name], grounds).items():
        assert isinstance(result, Found), result
        found[row] = result
    assert list(found) == [row.name for row in CASES[name].rows]
    return found


def test_every_case_is_run_here() -> None:
    assert {*WITHOUT_WRK, *WITH_WRK} == set(CASES)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [*WITHOUT_WRK, *(pytest.param(n, marks=needs_wrk) for n in WITH_WRK)]
)
def test_a_case_measures_and_leaves_a_fleet_that_the_next_one_can_use(
    name: str, grounds: Grounds
) -> None:
    found = measure(name, grounds)

    for row in CASES[name].rows:
        assert found[row.name].ours > 0
        assert (found[row.name].reference is not None) == (row.bound != "at most")
    notes = list(grounds.directory.glob("*/loaded.json"))
    assert {path.parent.name for path in notes} <= {"rockets", "fleet", "history"}
    assert not (grounds.directory / "fresh").exists()


@needs_wrk
@pytest.mark.slow
def test_what_wrk_has_sent_is_stored_and_known(grounds: Grounds) -> None:
    shelf = Shelf(grounds)
    with shelf.using(shelf.many) as stored, grounds.server(stored.database) as server:
        before = stored.march
        outcome = grounds.wrk(server, before)
        stored.settle(server, outcome)

        assert stored.march.sent - before.sent == outcome.details["posts"] > 0
        check_states(server, stored.march)
        with pytest.raises(MeasurementFailed, match="instead of"):
            check_states(server, stored.march.after(stored.march.rockets))
        with pytest.raises(MeasurementFailed, match="100 rockets are there instead of 101"):
            check_states(server, March(101, 1))


@pytest.mark.slow
def test_a_message_that_was_acknowledged_and_is_not_there_is_seen(grounds: Grounds) -> None:
    march = March(20, 0)
    messages = list(march.messages(40))
    with Shelf(grounds).fresh() as database, grounds.server(database) as server:
        send_batches(server.port, march.batches(39), total=39)

        check_fates(server, Fates(messages[:39], []))
        with pytest.raises(MeasurementFailed, match="of 40 messages 39 were duplicate"):
            check_fates(server, Fates(messages, []))
        check_fates(server, Fates(messages, messages))


@pytest.mark.slow
def test_a_fleet_is_loaded_once_unless_its_user_was_interrupted(tmp_path: Path) -> None:
    said: list[str] = []
    grounds = make_grounds(tmp_path)
    grounds.say = said.append
    fleet = Fleet("few", 20, 2)

    for _ in range(2):
        with Shelf(grounds).using(fleet) as stored:
            stored.sent(10)
    assert (stored.march.sent, len(said)) == (20, 2)

    with pytest.raises(KeyboardInterrupt), Shelf(grounds).using(fleet):
        raise KeyboardInterrupt
    with Shelf(grounds).using(fleet) as stored:
        assert stored.march == March(20, 2)
    with Shelf(grounds).using(msgspec.structs.replace(fleet, each=3)) as stored:
        assert stored.march == March(20, 3)
    assert len(said) == 6


@pytest.mark.slow
def test_without_wrk_a_case_says_so_and_the_others_go_on(tmp_path: Path) -> None:
    found = run(["single-million", "list"], make_grounds(tmp_path, wrk=None))

    assert set(found) == {"single-million", "list-p99", "list-cpu"}
    for result in found.values():
        assert isinstance(result, Failed)
        assert result.failure == "wrk is not installed; `make bench-tools` installs it"


def listed(*speeds: int) -> bytes:
    """Write a list of rockets with these speeds."""
    rockets = [{"speed": speed} for speed in speeds]
    return msgspec.json.encode({"count": len(speeds), "rockets": rockets})


def test_a_list_must_be_whole_and_sorted() -> None:
    check_list(listed(3, 2, 2, 1), 4)
    with pytest.raises(MeasurementFailed, match="has 3 rockets, not 4"):
        check_list(listed(3, 2, 1), 4)
    with pytest.raises(MeasurementFailed, match="not sorted"):
        check_list(listed(3, 1, 2), 3)
