"""Combining effects: associative, with a neutral element, and equal to going step by step."""

from functools import reduce

from hypothesis import given

from rockets.domain.effect import NOTHING, Effect, combine, effect_of, rocket_after
from rockets.domain.messages import Channel, Message, MessageNumber
from rockets.domain.rocket import Rocket, evolve
from tests.domain.histories import CHANNEL, messages


def effects(history: list[Message]) -> list[Effect]:
    """Give the effect of each message."""
    return [effect_of(each.payload, each.time) for each in history]


@given(first=messages(), second=messages(), third=messages())
def test_combine_is_associative(
    first: list[Message], second: list[Message], third: list[Message]
) -> None:
    a, b, c = (reduce(combine, effects(part), NOTHING) for part in (first, second, third))

    assert combine(combine(a, b), c) == combine(a, combine(b, c))


@given(history=messages())
def test_nothing_is_neutral(history: list[Message]) -> None:
    effect = reduce(combine, effects(history), NOTHING)

    assert combine(NOTHING, effect) == effect
    assert combine(effect, NOTHING) == effect


@given(history=messages())
def test_the_combined_effect_does_what_the_messages_do_one_by_one(history: list[Message]) -> None:
    rocket = Rocket(Channel(CHANNEL))
    for number, each in enumerate(history, 1):
        rocket = evolve(
            rocket, Message(each.channel, MessageNumber(number), each.time, each.payload, each.body)
        )

    combined = rocket_after(
        Channel(CHANNEL),
        reduce(combine, effects(history), NOTHING),
    )

    assert rocket.sequence == combined.sequence
    for field in ("type", "mission", "speed", "status", "explosion_reason", "launch_speed"):
        assert getattr(combined, field) == getattr(rocket, field)
    for field in ("launched_at", "exploded_at", "updated_at", "anomalies"):
        assert getattr(combined, field) == getattr(rocket, field)
