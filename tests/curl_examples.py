"""The examples in the documentation: curl commands and the answers they got, read and run again.

A ```console block holds commands that begin with `$ curl`, each with its answer below it.
Of curl only -s, -i, -I, -N, -X, -H, -d, --data-binary and --max-time are known; quotes may span
lines. With --max-time an answer has no end: of that the part is read that the page shows.
Of an answer, what differs each time is masked, JSON may be laid out for the eye, and a last line
`...` stands for the rest.
"""

import json
import re
import shlex
from collections.abc import Iterator
from http import HTTPStatus
from typing import NamedTuple
from urllib.parse import urlsplit

import h11
import trio

from tests.helpers import Reply, connected


class Curl(NamedTuple):
    """What one command sends, and how much of the answer it shows."""

    method: str
    target: str
    headers: tuple[str, ...] = ()
    body: str | None = None
    with_head: bool = False
    is_endless: bool = False

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]

    def to_bytes(self) -> bytes:
        """Write the request as curl does."""
        content = (self.body or "").encode()
        lines = [f"{self.method} {self.target} HTTP/1.1", "Host: localhost", *self.headers]
        if self.body is not None:
            lines.append(f"Content-Length: {len(content)}")
            if not any(line.lower().startswith("content-type:") for line in self.headers):
                lines.append("Content-Type: application/x-www-form-urlencoded")
        return "\r\n".join([*lines, "", ""]).encode() + content


class Example(NamedTuple):
    """A command and the answer that the page shows."""

    curl: Curl
    answer: str


def examples(page: str) -> list[Example]:
    """Read every example of a page, in order."""
    blocks: list[str] = re.findall(r"(?ms)^```console\n(.*?)^```$", page)
    return [example for block in blocks for example in _of_block(block)]


def _of_block(block: str) -> Iterator[Example]:
    lines = block.splitlines()
    while lines:
        command = lines.pop(0).removeprefix("$ ")
        while (words := _words(command)) is None:
            command += "\n" + lines.pop(0)
        answer = []
        while lines and not lines[0].startswith("$ "):
            answer.append(lines.pop(0))
        if words[0] == "curl":
            yield Example(parse_curl(words[1:]), "\n".join(answer).strip())


def _words(command: str) -> list[str] | None:
    """Split as a shell does; None where a quote is still open or the line goes on."""
    try:
        return shlex.split(command)
    except ValueError:
        return None


def parse_curl(words: list[str]) -> Curl:
    """Read the arguments of curl; ValueError for what is not known here."""
    left, headers, url = list(words), [], ""
    method = body = None
    with_head = head_only = is_endless = False
    while left:
        word = left.pop(0)
        if word == "-X":
            method = left.pop(0)
        elif word == "-H":
            headers.append(left.pop(0))
        elif word in {"-d", "--data-binary"}:
            body = left.pop(0)
        elif word == "--max-time":
            is_endless = float(left.pop(0)) > 0
        elif re.fullmatch("-[siIN]+", word):
            with_head |= "i" in word
            head_only |= "I" in word
        elif word.startswith("-") or url:
            raise ValueError(f"curl {word} is not known here")
        else:
            url = word
    parts = urlsplit(url if "://" in url else f"http://{url}")
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    method = method or ("HEAD" if head_only else "GET" if body is None else "POST")
    return Curl(method, target, tuple(headers), body, with_head or head_only, is_endless)


async def answer_to(example: Example, port: int) -> str:
    """Send what a command sends and show what it would show."""
    curl = example.curl
    if curl.is_endless:
        return await _beginning(example, port)
    async with connected(port) as client:
        reply = await client.ask(curl.to_bytes())
    text = reply.body.decode()
    return f"{_head(reply)}\n\n{text}".strip() if curl.with_head else text.strip()


async def _beginning(example: Example, port: int) -> str:
    """Read as many events as the page shows."""
    blocks = example.answer.removesuffix("\n...").count("\n\n") + 1
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method="GET", target="/", headers=[("Host", "localhost")]))
    text = b""
    async with connected(port) as client:
        await client.stream.send_all(example.curl.to_bytes())
        with trio.fail_after(20):
            while text.count(b"\n\n") < blocks:
                event = connection.next_event()
                if event is h11.NEED_DATA:
                    connection.receive_data(await client.stream.receive_some())
                elif isinstance(event, h11.Data):
                    text += event.data
                else:
                    assert isinstance(event, h11.Response), event
    return "\n\n".join(text.decode().split("\n\n")[:blocks])


def _head(reply: Reply) -> str:
    lines = [f"HTTP/1.1 {reply.status}"]
    return "\n".join([*lines, *(f"{name}: {value}" for name, value in reply.headers.items())])


# --- comparing ----------------------------------------------------------------------------------

_HEADERS = re.compile(r"(?mi)^(date|x-request-id|etag|content-length): .*$")
_MEMBERS = {"requestId", "receivedAt", "firstAt", "lastAt", "since", "version"} | {
    "bootId",
    "readers",  # of /health: as with the connections
    "connections",  # of /health: the one before may still be closing
    "connectionsPeak",
    "commits",  # refused bodies may share one
    "databaseBytes",
    "walBytes",
    "freeBytes",
}


def is_same(documented: str, real: str) -> bool:
    """Say whether an answer is the documented one but for what differs each time."""
    begin, dots, _ = documented.rpartition("\n...")
    if dots:
        return masked(real).startswith(masked(begin))
    return masked(real) == masked(documented)


def masked(answer: str) -> str:
    """Mask what differs each time, and write JSON in one way."""
    head, _, body = answer.rpartition("\n\n") if answer.startswith("HTTP/") else ("", "", answer)
    if answer.startswith("HTTP/") and not head:
        head, body = answer, ""
    reasons = "|".join(re.escape(status.phrase) for status in HTTPStatus)
    head = re.sub(rf"\A(HTTP/1.1 \d+)(?: (?:{reasons})?)?$", r"\1", head, flags=re.MULTILINE)
    head = _HEADERS.sub(r"\1: *", head)
    return f"{head}\n\n{_masked_body(body)}".strip()


def _masked_body(body: str) -> str:
    if body.startswith("retry: "):
        return "\n".join(map(_masked_field, body.strip().split("\n")))
    try:
        value = json.loads(body)
    except ValueError:
        return body.strip()
    return json.dumps(_masked_value(value), ensure_ascii=False)


def _masked_field(line: str) -> str:
    """Mask a line of an event."""
    name, _, value = line.partition(": ")
    if name == "data":
        return f"data: {_masked_body(value)}"
    return f"{name}: *" if name in {"id", "retry"} else line


def _masked_value(value: object) -> object:
    if isinstance(value, list):
        return [_masked_value(item) for item in value]
    if isinstance(value, dict):
        return {
            name: "*" if name in _MEMBERS else _masked_value(member)
            for name, member in value.items()
        }
    return value
