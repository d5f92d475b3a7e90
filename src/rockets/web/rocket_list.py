"""The body of `GET /rockets`."""

from collections.abc import Sequence

import msgspec

from rockets.actors.listing import Page, SortBy
from rockets.domain.rocket import Rocket
from rockets.web.parameters import cursor_text


class RocketList(msgspec.Struct, frozen=True):
    """The answer of the list: `total` counts what matches, `next` is the next page's cursor."""

    count: int
    total: int
    rockets: Sequence[Rocket]
    next: str | None


def rocket_list(page: Page, sort: tuple[SortBy, ...]) -> RocketList:
    """Describe a page of a list that is sorted so."""
    return RocketList(
        len(page.rockets), page.total, page.rockets, cursor_text(page.following, sort)
    )
