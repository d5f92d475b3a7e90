"""What the route table is made of: one route, what it takes and what it answers."""

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from rockets.web.problems import ProblemName

# A type that msgspec can describe, several of them in a tuple, or, for the body of a request, the
# name of a component that `openapi` builds.
Kind = Any


class Parameter(msgspec.Struct, frozen=True):
    """One parameter; a header or a query parameter may be left out, a part of the path may not."""

    name: str
    where: Literal["path", "query", "header"]
    kind: Kind
    description: str
    example: str | None = None


class Answer(msgspec.Struct, frozen=True):
    """One good answer; no kind means an empty body."""

    status: int
    description: str
    content: Mapping[str, Kind] = {}
    headers: tuple[str, ...] = ()  # always there
    headers_maybe: tuple[str, ...] = ()


class Route(msgspec.Struct, frozen=True):
    """One method on one path."""

    method: Literal["GET", "POST"]
    path: str
    summary: str
    answers: tuple[Answer, ...]
    description: str = ""
    parameters: tuple[Parameter, ...] = ()
    body: Mapping[str, Kind] = {}
    body_required: bool = True
    problems: tuple[ProblemName, ...] = ()
    shows_state: bool = False  # of rockets
    is_live: bool = False  # state as it changes: the feed says itself whether it is up to date
    takes_messages: bool = False

    @property
    def has_age(self) -> bool:
        """Whether an answer has to be up to date, or says how old it is: see `freshness`."""
        return self.shows_state and not self.is_live

    @property
    def taken(self) -> tuple[Parameter, ...]:
        """The parameters, with the header that an ETag is for."""
        parameters = (*self.parameters, _STALE) if self.has_age else self.parameters
        return (*parameters, _IF_NONE_MATCH) if self._is_tagged else parameters

    @property
    def given(self) -> tuple[Answer, ...]:
        """The good answers, with the one to a client that holds the answer already."""
        answers = (*self.answers, _UNCHANGED) if self._is_tagged else self.answers
        if not self.has_age:
            return answers
        return tuple(
            msgspec.structs.replace(each, headers_maybe=(*each.headers_maybe, "Rockets-Stale"))
            for each in answers
        )

    @property
    def refused(self) -> tuple[ProblemName, ...]:
        """The problems, with those of an instance among others."""
        mine = (*self.problems, "not-up-to-date") if self.has_age else self.problems
        return (*mine, "wrong-instance") if self.shows_state or self.takes_messages else mine

    @property
    def _is_tagged(self) -> bool:
        return any("ETag" in answer.headers for answer in self.answers)


_IF_NONE_MATCH = Parameter(
    "If-None-Match", "header", str, "The ETag of the answer you hold: 304 where nothing changed."
)
_STALE = Parameter(
    "stale",
    "query",
    Literal["ok"],
    "Does not wait for what other instances have just stored; `Rockets-Stale` says how old the "
    "answer may be.",
)
_UNCHANGED = Answer(304, "The answer you hold still stands.", headers=("ETag",))
