"""The messages of a large fleet: valid, each once, and the next one is always known."""

import shutil
from collections import Counter, defaultdict
from itertools import islice, pairwise

import pytest

from rockets.bench.scale_march import (
    March,
    channel,
    in_batches,
    in_reverse,
    rocket_by_rocket,
    sent,
    speed,
)
from rockets.bench.wrk import scattered
from rockets.domain.messages import Message, RocketLaunched, decode_message, normalize_channel
from rockets.domain.rocket import fold
from tests.bench.test_wrk import run_command
from tests.cli.tiny_server import NO_CONTENT

WRK = shutil.which("wrk")
needs_wrk = pytest.mark.skipif(WRK is None, reason="wrk is not installed: make bench-tools")

SIZES = [1, 2, 20, 97, 1_000]


def by_rocket(messages: list[Message]) -> dict[str, list[int]]:
    """Collect the numbers of each rocket in the order in which they came."""
    numbers: dict[str, list[int]] = defaultdict(list)
    for message in messages:
        numbers[message.channel].append(message.number)
    return numbers


@pytest.mark.parametrize("rockets", SIZES)
@pytest.mark.parametrize("each", [0, 10])
def test_every_rocket_gets_its_next_number_before_any_gets_another(rockets: int, each: int) -> None:
    bodies = [message.body for message in March(rockets, each).messages(3 * rockets)]

    numbers = by_rocket([decode_message(body) for body in bodies])
    assert set(numbers) == {channel(rocket) for rocket in range(rockets)}
    assert all(found == [each + 1, each + 2, each + 3] for found in numbers.values())
    for turn in range(3):
        part = bodies[turn * rockets : (turn + 1) * rockets]
        assert len(by_rocket([decode_message(body) for body in part])) == rockets


def test_neighbours_in_the_march_are_far_apart_in_the_order_of_names() -> None:
    names = [message.channel for message in March(1_000, 1).messages(1_000)]
    ranks = {name: rank for rank, name in enumerate(sorted(names))}

    near = sum(abs(ranks[one] - ranks[other]) < 10 for one, other in pairwise(names))

    assert near < 50


@pytest.mark.parametrize("rockets", SIZES)
def test_the_last_number_of_a_rocket_is_that_of_its_last_message(rockets: int) -> None:
    for count in (0, 1, rockets, rockets + rockets // 2):
        march = March(rockets, 5)
        last = {channel(rocket): 5 for rocket in range(rockets)}
        last |= {message.channel: message.number for message in march.messages(count)}

        after = march.after(count)
        assert {channel(rocket): after.last_number(rocket) for rocket in range(rockets)} == last


def test_it_goes_on_where_it_was_and_back_no_further_than_to_the_beginning() -> None:
    march = March(20, 1)
    whole = list(march.messages(50))

    assert list(march.after(30).messages(20)) == whole[30:]
    assert march.after(30).after(-10) == march.after(20)
    assert march.after(30).after(-31) == march
    assert [march.place(index) for index in range(50)] == [
        march.after(index).place(index) for index in range(50)
    ]


def test_a_fleet_is_loaded_with_every_message_once() -> None:
    messages = [decode_message(body) for body in rocket_by_rocket(30, 4)]

    assert by_rocket(messages) == {channel(rocket): [1, 2, 3, 4] for rocket in range(30)}
    launched = [m.number for m in messages if isinstance(m.payload, RocketLaunched)]
    assert launched == [1] * 30
    assert all(195 <= len(message.body) <= 245 for message in messages)


def test_what_the_march_sends_goes_on_where_a_load_ended() -> None:
    loaded = [decode_message(body) for body in rocket_by_rocket(30, 4)]
    marched = [decode_message(message.body) for message in March(30, 4).messages(60)]

    numbers = by_rocket(loaded + marched)
    assert all(found == [1, 2, 3, 4, 5, 6] for found in numbers.values())


@pytest.mark.parametrize(("rocket", "last"), [(0, 1), (0, 40), (7, 1), (7, 300)])
def test_the_speed_is_what_the_rules_make_of_the_messages(rocket: int, last: int) -> None:
    messages = [decode_message(sent(rocket, number).body) for number in range(1, last + 1)]

    state = fold(messages[0].channel, messages)

    assert state.speed == speed(rocket, last)
    assert state.anomalies == 0


def test_in_reverse_are_the_same_messages_from_the_last_to_the_first() -> None:
    bodies = list(in_reverse(3, 50))

    assert bodies[::-1] == [sent(3, number).body for number in range(1, 51)]


def test_names_differ_and_are_written_as_the_service_writes_them() -> None:
    names = [channel(rocket) for rocket in range(10_000)]

    assert len(set(names)) == 10_000
    assert all(normalize_channel(name) == name for name in names)
    # The part that orders them does not repeat either, up to far more than a million.
    assert len({channel(rocket)[:8] for rocket in range(0, 2_000_000, 97)}) == 20_619


def test_batches_hold_all_bodies_in_their_order_and_say_how_many() -> None:
    bodies = list(rocket_by_rocket(5, 5))

    batches = list(in_batches(iter(bodies), 10))

    assert [batch.count for batch in batches] == [10, 10, 5]
    assert [line for batch in batches for line in batch.body.split(b"\n")] == bodies
    assert list(in_batches([])) == []


@needs_wrk
@pytest.mark.parametrize(
    "march", [March(20, 0), March(7, 1, 10), March(1_000_000, 1, 3_141_592), March(3, 250_000, 5)]
)
async def test_wrk_sends_the_same_march(march: March) -> None:
    assert WRK is not None

    server, _ = await run_command(
        lambda url: scattered(WRK, march, url, seconds=5, connections=1), lambda: NO_CONTENT
    )

    wanted = [message.body for message in islice(march.messages(10**6), len(server.bodies))]
    assert server.bodies == wanted
    assert Counter(server.bodies).most_common(1)[0][1] == 1
