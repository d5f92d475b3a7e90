"""The shelf: loaded databases, which the cases of a run share and a directory can keep.

Loading ten million messages takes minutes, so a fleet is loaded once.
Beside each database stands what is known about it, above all how far its fleet has marched.
The invariant: while somebody works on a database this is not there, so that one whose user was
interrupted is loaded again.
"""

import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import msgspec

from rockets.bench.outcome import MeasurementFailed, Outcome
from rockets.bench.scale_march import (
    March,
    channel,
    in_batches,
    rocket_by_rocket,
    speed,
)
from rockets.bench.scale_sender import send_batches
from rockets.bench.scale_stand import Grounds, Reader, Server
from rockets.bench.stand import ask

ROCKETS_FEW = 20
ROCKETS_MANY = 1_000_000
MESSAGES_EACH = 10
HISTORY_EACH = 500_000
# So many rockets are held against what they should be, spread over the fleet.
SAMPLES = 50
# Of what wrk sent one message on each connection was not waited for, and it is among the last ones.
SENT_AGAIN = 4_096


class Fleet(msgspec.Struct, frozen=True):
    """What a database is loaded with; of a weighed one it is noted what its rockets take."""

    name: str
    rockets: int
    each: int
    weighed: bool = False

    @property
    def total(self) -> int:
        """How many messages there are."""
        return self.rockets * self.each


class Weights(msgspec.Struct, frozen=True):
    """Resident bytes: of an empty server, right after loading, and when all actors had gone."""

    empty: int
    loaded: int
    idle: int
    is_idle: bool


class Note(msgspec.Struct):
    """What stands beside a database."""

    fleet: Fleet
    march: March
    load_s: float
    weights: Weights | None = None


class Stored:
    """A loaded database that somebody works on; `march` goes on with what they send."""

    def __init__(self, database: Path, note: Note) -> None:
        self.database = database
        self.note = note

    @property
    def march(self) -> March:
        """What comes next."""
        return self.note.march

    def sent(self, count: int) -> None:
        """Note that so many messages of the march were sent and stored."""
        self.note.march = self.note.march.after(count)

    def settle(self, server: Server, outcome: Outcome) -> None:
        """Go on behind what wrk sent, all of it stored: what it did not wait for comes again."""
        self.sent(int(outcome.details["posts"]))
        again = self.march.after(-SENT_AGAIN)
        count = self.march.sent - again.sent
        outcomes = ("applied", "held", "duplicate")
        send_batches(server.port, again.batches(count), total=count, outcomes=outcomes)


class Shelf:
    """Has the databases of one run, loads what is missing, and takes them away when asked."""

    def __init__(self, grounds: Grounds) -> None:
        self._grounds = grounds
        grounds.directory.mkdir(parents=True, exist_ok=True)

    @property
    def many(self) -> Fleet:
        """A million rockets, each launched."""
        return Fleet("rockets", self._grounds.scaled(ROCKETS_MANY, ROCKETS_FEW), 1, weighed=True)

    @property
    def fleet(self) -> Fleet:
        """A million rockets with ten messages each."""
        return msgspec.structs.replace(self.many, name="fleet", each=MESSAGES_EACH, weighed=False)

    @property
    def history(self) -> Fleet:
        """Ten million messages of twenty rockets."""
        return Fleet("history", ROCKETS_FEW, self._grounds.scaled(HISTORY_EACH, MESSAGES_EACH))

    @contextmanager
    def using(self, fleet: Fleet) -> Iterator[Stored]:
        """Give a database with this fleet for a block, loaded where it is not there yet."""
        folder = self._grounds.directory / fleet.name
        path = folder / "loaded.json"
        note = self._look(path, fleet)
        if note is None:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            note = self._load(folder / "rockets.db", fleet)
        path.unlink(missing_ok=True)
        stored = Stored(folder / "rockets.db", note)
        yield stored
        path.write_bytes(msgspec.json.encode(stored.note))

    def _look(self, path: Path, fleet: Fleet) -> Note | None:
        try:
            note = msgspec.json.decode(path.read_bytes(), type=Note)
        except (OSError, msgspec.DecodeError):
            return None
        return note if note.fleet == fleet else None

    def _load(self, database: Path, fleet: Fleet) -> Note:
        say = self._grounds.say
        say(f"loading {fleet.total:,} messages of {fleet.rockets:,} rockets")
        weights = None
        with self._grounds.server(database) as server:
            empty = weigh_warm(server)
            load_s = send_batches(
                server.port,
                in_batches(rocket_by_rocket(fleet.rockets, fleet.each)),
                total=fleet.total,
                say=say,
            )
            if fleet.weighed:
                loaded = server.resident
                is_idle = server.wait_until_idle()
                weights = Weights(empty, loaded, server.resident, is_idle)
        say(f"loaded in {load_s:,.1f} s, {fleet.total / load_s:,.0f}/s")
        return Note(fleet, March(fleet.rockets, fleet.each), load_s, weights)

    @contextmanager
    def fresh(self) -> Iterator[Path]:
        """Name a database that does not exist, and remove it after the block."""
        folder = self._grounds.directory / "fresh"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        try:
            yield folder / "rockets.db"
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def weigh_warm(server: Server) -> int:
    """Return what a server takes that has answered once what it will be asked for."""
    server.counts()
    ask(server.url, "GET", "/rockets?sort=-speed&limit=100")
    return server.resident


def check_states(server: Server, march: March) -> None:
    """Hold rockets spread over the fleet against what they should be.

    MeasurementFailed when there are too few or one has another state.
    """
    found = server.counts()["rockets"]
    if found != march.rockets:
        raise MeasurementFailed(f"{found:,} rockets are there instead of {march.rockets:,}")
    with closing(Reader(server.url)) as reader:
        for rocket in range(0, march.rockets, max(1, march.rockets // SAMPLES)):
            check_state(reader, rocket, march.last_number(rocket))


class _Sequence(msgspec.Struct, frozen=True, rename="camel"):
    """Which numbers are stored; equal where there are no gaps."""

    settled_through: int
    received: int


class _Rocket(msgspec.Struct, frozen=True):
    """What each message changes."""

    speed: int | None
    sequence: _Sequence


def check_state(reader: Reader, rocket: int, number: int) -> None:
    """Hold one rocket against what it should be after its first `number` messages."""
    name = channel(rocket)
    got = msgspec.json.decode(reader.get(f"/rockets/{name}").body, type=_Rocket)
    wanted = _Rocket(speed(rocket, number), _Sequence(number, number))
    if got != wanted:
        raise MeasurementFailed(f"{name} is {got} instead of {wanted}")
