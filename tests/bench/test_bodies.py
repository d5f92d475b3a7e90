"""The messages are what a rocket sends, and no two are the same."""

from collections import defaultdict
from itertools import islice

import httptools
import msgspec

from rockets.bench.bodies import CHANNELS, array, messages, request
from rockets.domain.messages import RocketLaunched, decode_message

SOME = list(islice(messages(), 2_000))


def test_every_message_is_valid_and_says_what_its_body_says() -> None:
    for sent in SOME:
        message = decode_message(sent.body)
        assert (message.channel, message.number) == (sent.channel, sent.number)
        assert isinstance(message.payload, RocketLaunched) == (sent.number == 1)


def test_no_body_comes_twice_and_each_is_as_long_as_a_real_one() -> None:
    assert len({sent.body for sent in SOME}) == len(SOME)
    assert all(190 <= len(sent.body) <= 250 for sent in SOME)


def test_twenty_rockets_count_from_one_without_a_gap() -> None:
    numbers = defaultdict(list)
    for sent in SOME:
        numbers[sent.channel].append(sent.number)

    assert numbers == {channel: list(range(1, 101)) for channel in CHANNELS}
    assert len(CHANNELS) == 20


def test_a_request_is_one_whole_request_with_the_body() -> None:
    seen = []

    class Seen:
        def on_body(self, body: bytes) -> None:
            seen.append(body)

        def on_message_complete(self) -> None:
            seen.append(b"complete")

    httptools.HttpRequestParser(Seen()).feed_data(request(SOME[0].body))

    assert seen == [SOME[0].body, b"complete"]


def test_an_array_holds_the_messages_in_their_order() -> None:
    bodies = [sent.body for sent in SOME[:3]]

    assert msgspec.json.decode(array(bodies)) == [msgspec.json.decode(body) for body in bodies]
