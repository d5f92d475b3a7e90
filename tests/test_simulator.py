"""The imagined fleet: what the measured program does, and what is done to its messages."""

import json
from collections import Counter, defaultdict
from itertools import pairwise
from uuid import UUID

import pytest

from rockets.domain.messages import RocketExploded, RocketLaunched, decode_message
from rockets.domain.rocket import Rocket, evolve
from rockets.simulator import (
    MISSIONS,
    REASONS,
    ROCKET_TYPES,
    SPEED_MAX,
    SPEED_MIN,
    SPEED_STEP,
    SimulatedMessage,
    flights,
    repeated,
    shuffled,
    with_gaps,
)

TIME = "2022-02-02T19:39:05.86337+01:00"
SHORT = list(flights(444, 3000))


def by_channel(messages: list[SimulatedMessage]) -> dict[str, list[SimulatedMessage]]:
    """Sort the messages by rocket, each rocket's in the order they were made."""
    found: dict[str, list[SimulatedMessage]] = defaultdict(list)
    for message in messages:
        found[message.channel].append(message)
    return found


def keys(messages: list[SimulatedMessage]) -> Counter[tuple[str, int]]:
    """Count the messages by channel and number."""
    return Counter((message.channel, message.number) for message in messages)


def test_a_seed_makes_the_same_messages_every_time() -> None:
    assert list(flights(444, 3000)) == SHORT


def test_another_seed_makes_other_rockets() -> None:
    assert not keys(SHORT) & keys(list(flights(445, 3000)))


def test_more_messages_begin_with_the_fewer_ones() -> None:
    assert list(flights(444, 100)) == SHORT[:100]


def test_a_body_has_the_exact_shape_of_a_message() -> None:
    message = SimulatedMessage("c", 1, "RocketLaunched", {"type": "Falcon-9"})

    assert message.encode(TIME) == (
        b'{"metadata":{"channel":"c","messageNumber":1,'
        b'"messageTime":"2022-02-02T19:39:05.86337+01:00","messageType":"RocketLaunched"},'
        b'"message":{"type":"Falcon-9"}}'
    )


def test_numbers_of_a_rocket_have_no_gap_and_begin_with_a_launch() -> None:
    for messages in by_channel(SHORT).values():
        assert [message.number for message in messages] == list(range(1, len(messages) + 1))
        launches = [message.number for message in messages if is_a("RocketLaunched", message)]
        assert launches == [1]


def test_twenty_rockets_have_version_5_names_and_a_type_each() -> None:
    launches = [message for message in SHORT if is_a("RocketLaunched", message)]

    assert {UUID(message.channel).version for message in launches} == {5}
    assert sorted(str(message.payload["type"]) for message in launches) == sorted(ROCKET_TYPES)


def test_rockets_take_turns() -> None:
    changes = sum(a.channel != b.channel for a, b in pairwise(SHORT))
    assert changes > 0.9 * len(SHORT)


@pytest.mark.slow
def test_a_long_run_is_like_the_measured_one() -> None:
    """Six explosions after hundreds to thousands of messages, speeds in their range."""
    messages = list(flights(444, 100_000))

    explosions = [message for message in messages if is_a("RocketExploded", message)]
    assert len(messages) == 100_000
    assert len(explosions) == 6
    for explosion in explosions:
        assert 300 < explosion.number == len(by_channel(messages)[explosion.channel])
        assert explosion.payload["reason"] in REASONS
    for rocket_messages in by_channel(messages).values():
        assert_plausible(rocket_messages)


def assert_plausible(messages: list[SimulatedMessage]) -> None:
    """Follow one rocket with the domain's own rules; no message may be wasted on it."""
    rocket = Rocket(decode_message(messages[0].encode(TIME)).channel)
    for simulated in messages:
        message = decode_message(simulated.encode(TIME))
        rocket = evolve(rocket, message)
        assert rocket.speed is not None
        assert SPEED_MIN <= rocket.speed <= SPEED_MAX
        assert rocket.speed % SPEED_STEP == 0
        assert rocket.mission in MISSIONS
        assert isinstance(message.payload, RocketLaunched) == (message.number == 1)
        assert isinstance(message.payload, RocketExploded) <= (message.number == len(messages))
    assert rocket.anomalies == 0


def is_a(message_type: str, message: SimulatedMessage) -> bool:
    """Say whether a message is of this type."""
    return message.message_type == message_type


@pytest.mark.slow
def test_the_last_rocket_in_flight_never_explodes() -> None:
    messages = list(flights(1, 100_000, rockets=2))

    explosions = [message for message in messages if is_a("RocketExploded", message)]
    assert (len(messages), len(explosions)) == (100_000, 1)


@pytest.mark.parametrize("rockets", [1, 21, 5000])
def test_a_fleet_may_have_any_size(rockets: int) -> None:
    assert len(by_channel(list(flights(1, 3000, rockets)))) <= rockets
    assert sum(1 for _ in flights(1, 3000, rockets)) == 3000


@pytest.mark.parametrize("window", [1, 2, 50, 10_000])
def test_a_shuffle_keeps_the_messages_and_moves_none_far_ahead(window: int) -> None:
    moved = list(shuffled(SHORT, window=window, seed=1))

    assert keys(moved) == keys(SHORT)
    assert (moved == SHORT) == (window == 1)
    places = {(message.channel, message.number): index for index, message in enumerate(SHORT)}
    assert all(
        places[message.channel, message.number] - index < window
        for index, message in enumerate(moved)
    )


@pytest.mark.parametrize("fraction", [0.0, 0.3, 1.0])
def test_repeating_adds_copies_and_nothing_else(fraction: float) -> None:
    sent = keys(list(repeated(SHORT, fraction=fraction, seed=1)))

    assert set(sent) == set(keys(SHORT))
    assert set(sent.values()) <= {1, 2}
    assert sent.total() == pytest.approx(len(SHORT) * (1 + fraction), rel=0.05)


def test_gaps_leave_some_out_and_keep_the_order_of_the_others() -> None:
    kept = list(with_gaps(SHORT, fraction=0.2, seed=1))

    assert len(kept) == pytest.approx(0.8 * len(SHORT), rel=0.05)
    remaining = iter(SHORT)
    assert all(message in remaining for message in kept)


def test_the_abuse_can_be_combined_and_follows_its_seeds() -> None:
    def abused() -> list[SimulatedMessage]:
        return list(shuffled(repeated(SHORT, fraction=0.1, seed=1), window=50, seed=2))

    assert abused() == abused()
    assert set(keys(abused())) == set(keys(SHORT))


def test_a_compact_body_decodes_to_what_was_meant() -> None:
    for message in SHORT[:100]:
        body = json.loads(message.encode(TIME))
        assert body["message"] == message.payload
        assert body["metadata"]["messageNumber"] == message.number
