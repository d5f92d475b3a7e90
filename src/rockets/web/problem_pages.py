"""The page behind every problem's `type`: when you get it, and what to do.

Plain HTML without a style sheet, so that it reads well in light and in dark.
"""

from collections.abc import Mapping
from html import escape
from typing import NamedTuple

from quart import Response
from quart_trio import QuartTrio

from rockets.web.pages import Page, page
from rockets.web.problems import PROBLEMS, ProblemName, Refusal


class Explanation(NamedTuple):
    """What a title cannot say."""

    when: str
    remedy: str


_SEND_AGAIN = "Send it again after the seconds in Retry-After; sending again is always safe."

EXPLANATIONS: Mapping[ProblemName, Explanation] = {
    "malformed-body": Explanation(
        "The body is not JSON in UTF-8. The detail says where reading it ended.",
        "Repair what writes the body; sending the same bytes again gives the same answer.",
    ),
    "invalid-message": Explanation(
        "The body is JSON but not a message: a field is missing or outside its limits. "
        "The member 'errors' names every wrong field by its JSON pointer.",
        "Correct these fields and send the message again under the same number.",
    ),
    "bad-request": Explanation(
        "The request is not HTTP/1.1 as this service reads it, or it could be read in two ways: "
        "repeated Content-Length, a folded header, no Host.",
        "Look at the client or the proxy in between; most HTTP libraries never send this.",
    ),
    "bad-parameter": Explanation(
        "A query parameter is unknown, given twice, or has a value outside its limits.",
        "The detail names the parameter and what is allowed.",
    ),
    "not-found": Explanation(
        "No route has this path, or nothing is stored under this name: "
        "a rocket exists from its first message on.",
        "Check the spelling. Paths have no slash at their end, and names are case-sensitive.",
    ),
    "method-not-allowed": Explanation(
        "The path exists, but not with this method.",
        "The header Allow lists the methods that it takes.",
    ),
    "request-timeout": Explanation(
        "The body paused for too long or took too long as a whole. A message was not stored; "
        "of a stream of lines those that came before may be.",
        "Send it again over a better connection, or in smaller parts.",
    ),
    "pruned": Explanation(
        "The rocket's messages of that number or time were removed, as the service is set to. The "
        "member 'firstNumber' is the lowest number that is left; of a time, an older message that "
        "is no longer there may be meant.",
        "Ask for that number or a higher one, or for the rocket as it is now.",
    ),
    "content-too-large": Explanation(
        "The body, or one message in it, is over its limit, or a batch has too many messages. "
        "The detail names the limit.",
        "Split a batch. The parts of it that came before may be stored; sending them again is "
        "safe.",
    ),
    "unsupported-content-encoding": Explanation(
        "The body came with a Content-Encoding such as gzip. Encoded bodies are not taken, "
        "because unpacking them is a way to be flooded.",
        "Send the body as it is.",
    ),
    "expectation-failed": Explanation(
        "The header Expect asks for something other than 100-continue.",
        "Leave the header out.",
    ),
    "wrong-instance": Explanation(
        "Several instances share the work: this one only takes messages (role ingest), or takes "
        "none (role query), and the request is for another one. Nothing was stored.",
        "Send POST requests to an instance with the role ingest or all, and ask for state where "
        "the role is query or all. Sending it here again gives the same answer.",
    ),
    "header-fields-too-large": Explanation(
        "The head of the request has too many fields or too many bytes.",
        "Send fewer or shorter headers; cookies of another service are a usual cause.",
    ),
    "internal-error": Explanation(
        "The service made a mistake. The log has the details under the request id.",
        "A message may be stored or not; sending it again is safe. Report it with the request id.",
    ),
    "not-implemented": Explanation(
        "The body came in a transfer coding other than chunked.",
        "Send it with Content-Length, or chunked.",
    ),
    "unavailable": Explanation(
        "The message may or may not be stored: the disk is slow, full or in doubt, the store that "
        "instances share cannot be reached, too many requests wait, or the service is stopping. "
        "It refuses rather than guesses.",
        _SEND_AGAIN,
    ),
    "too-many-gaps": Explanation(
        "Messages of this rocket, or of all rockets together, have so many gaps between their "
        "numbers that one more is not taken. Nothing was stored.",
        "Send the missing messages first: a message that closes a gap is always taken.",
    ),
    "history-unavailable": Explanation(
        "The stored messages could not be read: the disk is slow, or the service is stopping. "
        "Nothing was changed.",
        "Ask again after the seconds in Retry-After.",
    ),
    "not-up-to-date": Explanation(
        "Several instances share a store, and this one does not know, or not yet, what the others "
        "have stored: it cannot reach the store, or has much to make up for. "
        "It refuses rather than show something old.",
        "Ask again after the seconds in Retry-After, or ask another instance. "
        "With stale=ok the answer is what this instance knows, and Rockets-Stale says how old "
        "that may be.",
    ),
    "overloaded": Explanation(
        "Too many large bodies are under way at the same time. Nothing was stored.",
        "Send it again after the seconds in Retry-After, or in smaller parts.",
    ),
    "too-many-connections": Explanation(
        "All connections are in use and none of them is idle.",
        "Use fewer connections, keep them open, and try again after Retry-After.",
    ),
    "too-many-readers": Explanation(
        "As many clients as are allowed follow GET /events already.",
        "Try again after the seconds in Retry-After, or ask GET /rockets from time to time.",
    ),
    "http-version-not-supported": Explanation(
        "The request is in another version of HTTP than 1.1 and 1.0.",
        "Let the client speak HTTP/1.1.",
    ),
}


def add_routes(app: QuartTrio) -> None:
    """Make the pages and mount the routes."""
    overview = _page("Problems", _list())
    pages: dict[str, Page] = {name: _page(name, _one(name)) for name in EXPLANATIONS}

    @app.get("/problems")
    async def get_problems() -> Response:
        return overview.answer()

    @app.get("/problems/<name>")
    async def get_problem(name: str) -> Response:
        if name not in pages:
            raise Refusal("not-found", f"no problem is called {name[:200]!r}; see /problems")
        return pages[name].answer()


def _list() -> str:
    rows = (
        f'<tr><td>{PROBLEMS[name][0]}<td><a href="/problems/{name}">{name}</a>'
        f"<td>{escape(PROBLEMS[name][1])}\n"
        for name in EXPLANATIONS
    )
    return (
        "<p>Every error of this service is application/problem+json, and its type is one of "
        "these pages.</p>\n"
        f"<table>\n<tr><th>Status<th>Name<th>Title\n{''.join(rows)}</table>"
    )


def _one(name: ProblemName) -> str:
    status, title = PROBLEMS[name]
    explanation = EXPLANATIONS[name]
    return (
        f"<p><strong>{status} {escape(title)}</strong></p>\n"
        f"<h2>When</h2>\n<p>{escape(explanation.when)}</p>\n"
        f"<h2>What to do</h2>\n<p>{escape(explanation.remedy)}</p>\n"
        '<p><a href="/problems">All problems</a></p>'
    )


def _page(title: str, content: str) -> Page:
    html = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{escape(title)} - Rockets</title>
</head>
<body>
<main>
<h1>{escape(title)}</h1>
{content}
</main>
</body>
</html>
"""
    return page(html.encode(), "text/html; charset=utf-8")
