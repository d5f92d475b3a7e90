"""The read model: shows what was published, keeps it until it changes."""

from rockets.actors.listing import ListQuery
from rockets.actors.read_model import ReadModel
from rockets.domain.ledger import Ledger
from rockets.domain.messages import Channel
from tests.helpers import message


def test_a_rocket_is_shown_as_published_and_anew_after_a_change() -> None:
    model, ledger = ReadModel(), Ledger(Channel("r"))
    launch, faster = message("r", 1, "RocketLaunched"), message("r", 3, by=7)
    ledger.apply(1, launch.payload, launch.time)
    model.publish(ledger)
    first = model.rocket(Channel("r"))

    assert model.rocket(Channel("r")) is first
    ledger.apply(3, faster.payload, faster.time)
    model.publish(ledger)

    latest, settled = model.rocket(Channel("r")), model.rocket(Channel("r"), "settled")
    assert latest is not None
    assert settled is not None
    assert (latest.speed, settled.speed) == (507, 500)
    assert model.page(ListQuery(view="settled")).rockets == [settled]
    assert len(model) == 1


def test_an_unknown_rocket_is_none() -> None:
    assert ReadModel().rocket(Channel("r")) is None


def test_what_changes_is_noted_for_the_lists_once_they_want_it() -> None:
    model, ledger = ReadModel(), Ledger(Channel("r"))
    model.publish(ledger)
    assert model.unlisted is None

    model.unlisted = set()
    model.publish(ledger)
    model.retire(Channel("r"))

    assert model.unlisted == {"r"} == set(model.channels())
