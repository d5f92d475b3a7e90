"""A hundredth of each case at scale, for what is right and not for how fast.

Ten thousand rockets, a hundred thousand messages: every state is what its messages make of it,
before and after a stop or a SIGKILL, and memory stays within its bounds.
`make bench-scale` has the same cases in full size and measures them.
"""

from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from threading import Thread
from time import monotonic, sleep

import msgspec
import pytest

from rockets.bench.outcome import MeasurementFailed
from rockets.bench.processes import find_cores
from rockets.bench.scale_bounds import LIST, check_fates, check_list
from rockets.bench.scale_march import (
    March,
    channel,
    in_batches,
    in_reverse,
    rocket_by_rocket,
    sent,
    speed,
)
from rockets.bench.scale_sender import Fates, send_batches, send_singles
from rockets.bench.scale_shelf import Fleet, Shelf, Stored, check_state, check_states, weigh_warm
from rockets.bench.scale_stand import Grounds, Reader, Server

pytestmark = pytest.mark.slow

MIB = 1024 * 1024
PER_ROCKET = 1024
# What comes and goes with buffers, lists and SQLite's pages; a million rockets have room for it.
NOISE = 6 * MIB
CONNECTIONS = 16
SECONDS = 2.0
MANY = 10**9
# The longest list; above it lists may be a little old.
EXACT_MAX = 10_000


@pytest.fixture(scope="module")
def grounds(tmp_path_factory: pytest.TempPathFactory) -> Grounds:
    """Where all tests here have their databases, a hundredth of the full size."""
    return make_grounds(tmp_path_factory.mktemp("scale"))


def make_grounds(directory: Path, *flags: str) -> Grounds:
    """Make grounds in a directory, with these flags for every server."""
    return Grounds(
        directory,
        cores=find_cores(),
        scale=100,
        seconds=int(SECONDS),
        rounds=1,
        wrk=None,
        say=lambda line: None,
        flags=("--actor-idle-s", "1", *flags),
    )


@pytest.fixture(scope="module")
def shelf(grounds: Grounds) -> Shelf:
    """The loaded fleets, which the tests share."""
    return Shelf(grounds)


class _Sequence(msgspec.Struct, frozen=True, rename="camel"):
    settled_through: int
    received: int


class _Rocket(msgspec.Struct, frozen=True):
    channel: str
    status: str
    speed: int
    anomalies: int
    sequence: _Sequence


class _Page(msgspec.Struct, frozen=True):
    rockets: list[_Rocket]
    total: int
    next: str | None


def all_rockets(server: Server) -> dict[str, _Rocket]:
    """Read every rocket, page by page."""
    rockets: dict[str, _Rocket] = {}
    cursor = ""
    with closing(Reader(server.url)) as reader:
        while True:
            page = msgspec.json.decode(reader.get(f"/rockets?limit=5000{cursor}").body, type=_Page)
            rockets |= {rocket.channel: rocket for rocket in page.rockets}
            if page.next is None:
                assert len(rockets) == page.total
                return rockets
            cursor = f"&cursor={page.next}"


def expected(rocket: int, number: int) -> _Rocket:
    """Say what a rocket is after its first messages."""
    sequence = _Sequence(number, number)
    return _Rocket(channel(rocket), "launched", speed(rocket, number), 0, sequence)


def check_every_state(server: Server, march: March) -> None:
    """Hold every single rocket against what it must be; a list may take a moment to be so."""
    wanted = {
        channel(rocket): expected(rocket, march.last_number(rocket))
        for rocket in range(march.rockets)
    }
    assert eventually(lambda: all_rockets(server) == wanted), difference(
        all_rockets(server), wanted
    )
    check_states(server, march)


def difference(found: dict[str, _Rocket], wanted: dict[str, _Rocket]) -> list[object]:
    """Give a few of the rockets that are not as they must be."""
    names = [name for name in wanted if found.get(name) != wanted[name]]
    return [len(found), len(names), *((found.get(name), wanted[name]) for name in names[:3])]


def eventually(is_so: Callable[[], bool], limit_s: float = 10.0) -> bool:
    """Wait until something is so; says whether it came to that."""
    deadline = monotonic() + limit_s
    while not is_so():
        if monotonic() > deadline:
            return False
        sleep(0.1)
    return True


def send_some(server: Server, stored: Stored, *, seconds: float = SECONDS) -> int:
    """Send the next single messages for a while, all of them acknowledged; gives how many."""
    fates = send_singles(
        server.port, stored.march.messages(MANY), connections=CONNECTIONS, seconds=seconds
    )
    assert fates.unknown == []
    stored.sent(len(fates.acknowledged))
    return len(fates.acknowledged)


def test_idle_rockets_take_little_memory(grounds: Grounds, shelf: Shelf) -> None:
    first, more = 5_000, 10_000
    bodies = rocket_by_rocket(first + more, 1)
    with shelf.fresh() as database:
        with grounds.server(database) as server:
            empty = weigh_warm(server)
            # More than there may be actors, so that all there is to allocate for them is there.
            send_batches(server.port, in_batches(islice(bodies, first)), total=first)
            assert server.wait_until_idle(20.0), "actors of idle rockets stay"
            before = server.resident
            send_batches(server.port, in_batches(bodies), total=more)
            assert server.wait_until_idle(20.0), "actors of idle rockets stay"
            grown = server.resident - before
        with grounds.server(database) as server:
            restarted = weigh_warm(server) - empty
            check_every_state(server, March(first + more, 1))

    assert grown <= more * PER_ROCKET + NOISE
    assert restarted <= (first + more) * PER_ROCKET + NOISE


def test_live_actors_are_bounded_and_go_when_nothing_happens(
    grounds: Grounds, shelf: Shelf
) -> None:
    with shelf.using(shelf.many) as stored, grounds.server(stored.database) as server:
        count = stored.march.rockets
        send_batches(server.port, stored.march.batches(count), total=count)
        stored.sent(count)

        assert server.counts()["liveActors"] <= 4_096
        assert server.wait_until_idle(20.0)
        check_every_state(server, stored.march)


def test_single_messages_to_rockets_that_have_long_been_idle(
    grounds: Grounds, shelf: Shelf
) -> None:
    with shelf.using(shelf.many) as stored, grounds.server(stored.database) as server:
        assert send_some(server, stored) > CONNECTIONS
        check_every_state(server, stored.march)


def test_batches_of_which_every_message_is_of_another_rocket(
    grounds: Grounds, shelf: Shelf
) -> None:
    with shelf.using(shelf.fleet) as stored:
        with grounds.server(stored.database) as server:
            count = stored.march.rockets * 3 // 2
            send_batches(server.port, stored.march.batches(count), total=count)
            stored.sent(count)
            check_every_state(server, stored.march)
        with grounds.server(stored.database) as server:
            check_every_state(server, stored.march)


def test_single_messages_on_top_of_a_long_history(grounds: Grounds, shelf: Shelf) -> None:
    with shelf.using(shelf.history) as stored, grounds.server(stored.database) as server:
        assert send_some(server, stored) > CONNECTIONS
        check_every_state(server, stored.march)


def whole_list(server: Server) -> list[bytes]:
    """Read the list of all rockets, as the bytes it is sent in."""
    with closing(Reader(server.url)) as reader:
        return [
            reader.get(f"/rockets?limit={EXACT_MAX}{view}").body for view in ("", "&view=settled")
        ]


def test_a_clean_stop_and_a_start_change_no_letter_of_the_list(
    grounds: Grounds, shelf: Shelf
) -> None:
    with shelf.using(shelf.fleet) as stored:
        with grounds.server(stored.database) as server:
            send_some(server, stored, seconds=0.5)
            check_every_state(server, stored.march)
            before = whole_list(server)
        for _ in range(2):
            with grounds.server(stored.database) as server:
                assert whole_list(server) == before
                assert server.counts()["rockets"] == stored.march.rockets


# With a tail that no checkpoint has, and in the middle of one.
@pytest.mark.parametrize("flags", [(), ("--checkpoint-records", "2000")])
def test_after_a_sigkill_under_load_everything_acknowledged_is_there(
    grounds: Grounds, flags: tuple[str, ...]
) -> None:
    grounds = make_grounds(grounds.directory, *flags)
    with Shelf(grounds).using(Shelf(grounds).fleet) as stored:
        with grounds.server(stored.database) as server:
            count = 5_000
            send_batches(server.port, stored.march.batches(count), total=count)
            stored.sent(count)
            fates = send_singles(
                server.port,
                stored.march.messages(MANY),
                connections=CONNECTIONS,
                seconds=SECONDS / 2,
                kill=server.kill,
            )
        assert fates.acknowledged
        with grounds.server(stored.database) as server:
            check_fates(server, fates)
            stored.sent(len(fates.acknowledged) + len(fates.unknown))
            check_every_state(server, stored.march)


def test_a_list_of_so_many_rockets_is_exact(grounds: Grounds, shelf: Shelf) -> None:
    with shelf.using(shelf.fleet) as stored, grounds.server(stored.database) as server:
        assert stored.march.rockets == EXACT_MAX
        with closing(Reader(server.url)) as reader:
            for _ in range(20):
                rocket, number = stored.march.place(stored.march.sent)
                send_batches(server.port, stored.march.batches(1), total=1)
                stored.sent(1)
                reply = reader.get(f"/rockets?sort=speed&minSpeed={speed(rocket, number)}")
                shown = msgspec.json.decode(reply.body, type=_Page).rockets
                assert expected(rocket, number) in shown
                assert reply.headers.get("age-ms", "0") == "0"


def test_longer_lists_under_load_are_sorted_and_soon_exact(grounds: Grounds, shelf: Shelf) -> None:
    ages: list[str | None] = []
    fleet = Fleet("longer", EXACT_MAX + 500, 1)
    with shelf.using(fleet) as stored, grounds.server(stored.database) as server:
        done = False

        def ask() -> None:
            with closing(Reader(server.url)) as reader:
                while not done:
                    reply = reader.get(LIST)
                    check_list(reply.body, 100)
                    ages.append(reply.headers.get("age-ms"))
                    sleep(0.1)

        with Beside(ask):
            try:
                assert send_some(server, stored) > CONNECTIONS
            finally:
                done = True
        check_every_state(server, stored.march)

    assert ages
    assert all(age is not None and int(age) >= 0 for age in ages), "a list does not say its age"


class Beside:
    """Run a function beside a block; what it raises is raised at the end of the block."""

    def __init__(self, function: Callable[[], None]) -> None:
        self._function = function
        self._errors: list[BaseException] = []
        self._thread = Thread(target=self._run)

    def _run(self) -> None:
        try:
            self._function()
        except (AssertionError, MeasurementFailed) as error:
            self._errors.append(error)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._thread.join()
        if self._errors:
            raise self._errors[0]


def test_messages_in_reverse_make_the_right_rocket_and_hardly_any_memory(
    grounds: Grounds, shelf: Shelf
) -> None:
    total = grounds.scaled(1_000_000, 1)
    with shelf.fresh() as database:
        with grounds.server(database) as server:
            before = weigh_warm(server)
            batches = in_batches(in_reverse(0, total))
            send_batches(server.port, batches, total=total, connections=1)
            grown = server.resident_peak - before
            with closing(Reader(server.url)) as reader:
                check_state(reader, 0, total)
        with grounds.server(database) as server, closing(Reader(server.url)) as reader:
            check_state(reader, 0, total)

    assert grown <= 64 * MIB


def hot_and_others(total: int, others: March) -> Iterator[bytes]:
    """Yield messages of which nine in ten are of one rocket, all of them launched before."""
    rest = others.messages(total)
    number = 1
    for index in range(total):
        if index % 10 == 0:
            yield next(rest).body
        else:
            number += 1
            yield sent(others.rockets, number).body


def test_beside_a_hot_rocket_nothing_of_the_others_is_lost(grounds: Grounds, shelf: Shelf) -> None:
    total, others = 20_000, March(500, 1)
    with shelf.fresh() as database, grounds.server(database) as server:
        launches = in_batches(rocket_by_rocket(others.rockets + 1, 1))
        send_batches(server.port, launches, total=others.rockets + 1)
        send_batches(server.port, in_batches(hot_and_others(total, others)), total=total)

        rockets = all_rockets(server)
        after = others.after(total // 10)
        for rocket in range(others.rockets):
            assert rockets[channel(rocket)] == expected(rocket, after.last_number(rocket))
        hot = others.rockets
        assert rockets[channel(hot)] == expected(hot, 1 + total - total // 10)


def test_a_rocket_that_is_wrong_is_seen(grounds: Grounds, tmp_path: Path) -> None:
    march = March(20, 1)
    with grounds.server(tmp_path / "rockets.db") as server:
        send_batches(server.port, in_batches(rocket_by_rocket(20, 1)), total=20)

        check_every_state(server, march)
        with pytest.raises(AssertionError):
            assert all_rockets(server)[channel(3)] == expected(3, 2)
        with pytest.raises(MeasurementFailed, match="0 were duplicate"):
            check_fates(server, Fates([sent(3, 2)], []))
