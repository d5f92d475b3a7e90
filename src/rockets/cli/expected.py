"""The expected-state file: the final state every rocket must have after a run.

Builds, reads, writes and compares it; it never speaks to a service.
The states come from the naive fold over the messages, so they owe nothing to the server that is
judged by them.
"""

from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path

import msgspec

from rockets.domain.messages import Channel, Message, decode_message
from rockets.domain.rocket import fold
from rockets.simulator import SimulatedMessage

# Any legal time will do: no field of the file depends on it.
_TIME = "2022-02-02T19:39:05.86337+01:00"
COMPARED_FIELDS = (
    "type",
    "mission",
    "speed",
    "status",
    "explosionReason",
    "lastMessageNumber",
    "messageCount",
    "contentHash",
)


class ExpectedUnreadable(Exception):
    """The file is missing or is not of the form described here; the message says which."""


class ExpectedRocket(msgspec.Struct, frozen=True, rename="camel"):
    """The final state of one rocket, as the file holds it."""

    channel: str
    type: str | None
    mission: str | None
    speed: int | None
    status: str
    explosion_reason: str | None
    last_message_number: int
    message_count: int
    content_hash: str


class Expected(msgspec.Struct, frozen=True, rename="camel"):
    """One file: where its messages came from, how many there were, and every rocket."""

    source: str
    message_count: int
    rockets: tuple[ExpectedRocket, ...]


class Difference(msgspec.Struct, frozen=True):
    """One value that is not as expected; `absent` stands for a rocket one side does not have."""

    channel: str
    field: str
    expected: str
    got: str

    def __str__(self) -> str:
        return f"{self.channel} {self.field}: expected {self.expected}, got {self.got}"


def expect(source: str, messages: Iterable[SimulatedMessage]) -> Expected:
    """Work out the final states by folding the messages of each rocket; copies count once."""
    flights: dict[str, dict[int, SimulatedMessage]] = {}
    for message in messages:
        flights.setdefault(message.channel, {}).setdefault(message.number, message)
    rockets = tuple(_expect_rocket(channel, flights[channel]) for channel in sorted(flights))
    return Expected(source, sum(rocket.message_count for rocket in rockets), rockets)


def _expect_rocket(channel: str, flight: Mapping[int, SimulatedMessage]) -> ExpectedRocket:
    rocket = fold(Channel(channel), (_decode(message) for message in flight.values()))
    return ExpectedRocket(
        channel=rocket.channel,
        type=rocket.type,
        mission=rocket.mission,
        speed=rocket.speed,
        status=rocket.status,
        explosion_reason=rocket.explosion_reason,
        last_message_number=rocket.last_message_number,
        message_count=rocket.sequence.received,
        content_hash=content_hash(flight.values()),
    )


def _decode(message: SimulatedMessage) -> Message:
    return decode_message(message.encode(_TIME))


class ContentHash:
    """The hash of what a rocket sent: a line `number|messageType|compact message` for each message.

    Add the messages with their numbers ascending.
    """

    def __init__(self) -> None:
        self._digest = sha256()

    def add(self, number: int, message_type: str, content: bytes) -> None:
        """Add the next message; its content may be written with white space."""
        compact = msgspec.json.format(content, indent=-1)
        self._digest.update(f"{number}|{message_type}|".encode() + compact + b"\n")

    def hexdigest(self) -> str:
        """Return the hash of what was added."""
        return self._digest.hexdigest()


def content_hash(messages: Iterable[SimulatedMessage]) -> str:
    """Hash the messages of one rocket, given in any order."""
    digest = ContentHash()
    for message in sorted(messages, key=lambda message: message.number):
        digest.add(message.number, message.message_type, msgspec.json.encode(message.payload))
    return digest.hexdigest()


def read_expected(path: Path) -> Expected:
    """Read a file; ExpectedUnreadable says in one line why that is not possible."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Expected)
    except OSError as error:
        raise ExpectedUnreadable(f"{path}: {(error.strerror or str(error)).lower()}") from error
    except msgspec.DecodeError as error:
        raise ExpectedUnreadable(f"{path} is not an expected-state file: {error}") from error


def write_expected(path: Path, expected: Expected) -> None:
    """Write a file that `read_expected` takes, indented for people."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(expected), indent=2) + b"\n")


def differences(expected: Expected, served: Mapping[str, Mapping[str, object]]) -> list[Difference]:
    """Compare rocket by rocket and field by field; a rocket nobody expected is a difference.

    A field that nothing was served of is not compared: `contentHash` takes reading every history.
    """
    found: list[Difference] = []
    for rocket in expected.rockets:
        got = served.get(rocket.channel)
        if got is None:
            found.append(Difference(rocket.channel, "rocket", "present", "absent"))
        else:
            found.extend(_compare(rocket, got))
    strangers = sorted(served.keys() - {rocket.channel for rocket in expected.rockets})
    found.extend(Difference(channel, "rocket", "absent", "present") for channel in strangers)
    return found


def _compare(rocket: ExpectedRocket, got: Mapping[str, object]) -> list[Difference]:
    wanted = msgspec.to_builtins(rocket)
    return [
        Difference(rocket.channel, field, _shown(wanted[field]), _shown(got[field]))
        for field in COMPARED_FIELDS
        if field in got and wanted[field] != got[field]
    ]


def _shown(value: object) -> str:
    return msgspec.json.encode(value).decode()
