"""The others' messages are the same, at the same times, with the hot rocket and without it."""

from itertools import islice

import pytest

from rockets.bench.bodies import request
from rockets.bench.scale_hot import HOT, OTHERS, OTHERS_EVERY, WARM_UP, Mode, launches, requests
from rockets.bench.scale_march import channel
from rockets.domain.messages import Message, RocketLaunched, decode_message

COUNT = 2_000


def sent(mode: Mode) -> list[Message]:
    """Decode what a mode sends."""
    return [decode_message(whole.partition(b"\r\n\r\n")[2]) for whole in requests(mode, COUNT)]


def test_the_hot_rocket_has_nine_of_ten_messages_in_their_order() -> None:
    hot = [message for message in sent("hot") if message.channel == channel(HOT)]

    assert len(hot) == COUNT * 9 // 10
    assert [message.number for message in hot] == list(range(2, len(hot) + 2))


def test_the_others_are_the_same_with_it_and_without_it() -> None:
    with_it = sent("hot")

    assert with_it[::OTHERS_EVERY] == sent("alone")
    assert all(
        message.channel == channel(HOT)
        for index, message in enumerate(with_it)
        if index % OTHERS_EVERY
    )


@pytest.mark.parametrize("mode", ["hot", "alone", "even"])
def test_each_rocket_goes_on_where_launch_and_warm_up_ended(mode: Mode) -> None:
    last = {str(launch.channel): int(launch.number) for launch in map(decode_message, launches())}
    last |= {message.channel: message.number for message in OTHERS.messages(WARM_UP)}
    assert len(last) == OTHERS.rockets + 1

    for message in sent(mode):
        assert message.number == last[message.channel] + 1
        last[message.channel] = message.number
        assert not isinstance(message.payload, RocketLaunched)


def test_even_are_as_many_messages_and_none_of_the_hot_rocket() -> None:
    even = sent("even")

    assert len(even) == COUNT
    assert channel(HOT) not in {message.channel for message in even}
    assert list(islice(requests("even", COUNT), 1)) == [
        request(next(OTHERS.after(WARM_UP).messages(1)).body)
    ]
