"""Reads the head and the chunked body of an HTTP/1.1 request, strictly. Pure: bytes in, values out.

Where two parsers could read a request differently, a proxy in front of the service could be made to
smuggle one past it, so everything doubtful is refused (RFC 9112 §2.2, §3.2, §5.1, §6; the table in
`docs/architecture.md`): what Hypercorn's parser sees afterwards is the head rebuilt from here.
"""

import re

import msgspec

from rockets.web.problems import ProblemName

# Unless the settings say otherwise.
HEAD_MAX = 16 * 1024
HEADERS_MAX = 64

# Nobody needs more than these.
CHUNK_LINE_MAX = 256
TRAILERS_MAX = 8 * 1024

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
# Capital letters only: Hypercorn makes `head` of a request into `HEAD` and h11 does not, so the one
# would send no body and the other wait for it.
_REQUEST_LINE = re.compile(rb"([A-Z][A-Z0-9_\-]*) ([\x21-\x7e]+) HTTP/(\d)\.(\d)")
# The blanks around a value are stripped afterwards: as a part of the expression of their own they
# could be divided in many ways, and one head could take seconds.
_HEADER = re.compile(rb"(" + _TOKEN + rb"):([\t\x20-\x7e\x80-\xff]*)")
_ABSOLUTE = re.compile(rb"https?://([^/?#]*)(/[^#]*|\?[^#]*)?", re.IGNORECASE)
_HOST = re.compile(rb"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9\-._~%!$&'()*+,;=]*)(:\d{0,5})?")
_EMPTY_LINES = re.compile(rb"(?:\r\n)*")
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,16})[ \t]*(;[\t\x20-\x7e\x80-\xff]*)?")

# Headers of the connection, not of the request: the front has dealt with them.
_HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"content-length",
        b"expect",
        b"host",
        b"http2-settings",
        b"keep-alive",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)


class FramingError(Exception):
    """The request cannot be framed safely: answer the problem and close the connection."""

    def __init__(
        self, problem: ProblemName, detail: str, *, headers: tuple[tuple[str, str], ...] = ()
    ) -> None:
        super().__init__(detail)
        self.problem = problem
        self.detail = detail
        self.headers = headers


class Head(msgspec.Struct, frozen=True, gc=False):
    """A request's head; header names are in lower case."""

    method: bytes
    target: bytes  # origin form, or `*`
    host: bytes
    version_1_1: bool
    headers: tuple[tuple[bytes, bytes], ...]
    content_length: int
    chunked: bool
    keep_alive: bool
    expects_continue: bool

    @property
    def path(self) -> bytes:
        """The target without its query."""
        return self.target.partition(b"?")[0]

    def header(self, name: bytes) -> str | None:
        """The first header of this lower-case name."""
        for key, value in self.headers:
            if key == name:
                return value.decode("latin-1")
        return None

    def rebuilt(self, body_length: int | None, *, keep_alive: bool) -> bytes:
        """Write the head again, so that only one reading is left; no length means chunked."""
        version = b"1.1" if self.version_1_1 else b"1.0"
        lines = [self.method + b" " + self.target + b" HTTP/" + version]
        if self.host or self.version_1_1:
            lines.append(b"host: " + self.host)
        lines += [name + b": " + value for name, value in self.headers if name not in _HOP_BY_HOP]
        if body_length is None:
            lines.append(b"transfer-encoding: chunked")
        elif body_length or self.chunked or self.method in {b"POST", b"PUT", b"PATCH"}:
            lines.append(b"content-length: %d" % body_length)
        if not keep_alive:
            lines.append(b"connection: close")
        return b"\r\n".join(lines) + b"\r\n\r\n"


def skip_empty_lines(buffer: bytes) -> bytes:
    """Drop the empty lines that may stand before a request (RFC 9112 §2.2)."""
    match = _EMPTY_LINES.match(buffer)
    return buffer[match.end() :] if match else buffer


def find_head_end(buffer: bytes | bytearray, *, head_max: int = HEAD_MAX) -> int:
    """Give the length of the head with its empty line, or -1 while it is incomplete.

    Raises FramingError as soon as it is clear that the head will not be taken.
    """
    end = buffer.find(b"\r\n\r\n")
    length = end + 4 if end >= 0 else len(buffer)
    if _has_bare_line_end(buffer, min(length, head_max)):
        raise FramingError("bad-request", "a line of the head does not end with CR LF")
    if length > head_max:
        raise FramingError("header-fields-too-large", f"the head is over {head_max} bytes")
    return length if end >= 0 else -1


def _has_bare_line_end(buffer: bytes | bytearray, end: int) -> bool:
    """Say whether a CR or LF stands alone; a CR at the end may still get its LF.

    Counting is a hundred times faster than an expression, and a slow client has it done again
    for every byte.
    """
    pairs = buffer.count(b"\r\n", 0, end)
    returns = buffer.count(b"\r", 0, end) - buffer.endswith(b"\r", 0, end)
    return returns != pairs or buffer.count(b"\n", 0, end) != pairs


def parse_head(data: bytes, *, headers_max: int = HEADERS_MAX) -> Head:
    """Read a complete head that ends with its empty line. Raises FramingError."""
    lines = data[:-4].split(b"\r\n")
    if len(lines) - 1 > headers_max:
        raise FramingError("header-fields-too-large", f"more than {headers_max} header fields")
    method, target, version_1_1 = _request_line(lines[0])
    headers = tuple(_header(line) for line in lines[1:])
    target, authority = _origin_form(method, target)
    host = _host(headers, version_1_1=version_1_1)
    content_length, chunked = _body_framing(headers, version_1_1=version_1_1)
    expect = [value.strip().lower() for name, value in headers if name == b"expect"]
    if expect and expect != [b"100-continue"]:
        raise FramingError("expectation-failed", "only 'Expect: 100-continue' is understood")
    return Head(
        method=method,
        target=target,
        host=host if authority is None else authority,
        version_1_1=version_1_1,
        headers=headers,
        content_length=content_length,
        chunked=chunked,
        keep_alive=version_1_1 and not _says_close(headers),
        expects_continue=bool(expect) and version_1_1,
    )


def _request_line(line: bytes) -> tuple[bytes, bytes, bool]:
    match = _REQUEST_LINE.fullmatch(line)
    if match is None:
        raise FramingError("bad-request", "the request line is not 'METHOD target HTTP/1.1'")
    method, target, major, minor = match.groups()
    if (major, minor) not in {(b"1", b"1"), (b"1", b"0")}:
        raise FramingError("http-version-not-supported", "only HTTP/1.1 and HTTP/1.0 are served")
    if method in {b"CONNECT", b"TRACE"}:
        raise FramingError(
            "method-not-allowed",
            f"{method.decode()} is not served",
            headers=(("Allow", "GET, HEAD, POST, OPTIONS"),),
        )
    return method, target, minor == b"1"


def _header(line: bytes) -> tuple[bytes, bytes]:
    match = _HEADER.fullmatch(line)
    if match is None:
        # Also a line that starts with a blank: obs-fold (RFC 9112 §5.2).
        raise FramingError("bad-request", "a header field is not 'name: value' on one line")
    return match[1].lower(), match[2].strip(b" \t")


def _origin_form(method: bytes, target: bytes) -> tuple[bytes, bytes | None]:
    """Reduce the absolute form to the origin form; its authority goes before Host."""
    if target.startswith(b"/") or (target == b"*" and method == b"OPTIONS"):
        return target, None
    match = _ABSOLUTE.fullmatch(target)
    if match is None or not match[1] or not _is_host(match[1]):
        raise FramingError("bad-request", "the target is neither a path nor an http URL")
    rest = match[2] or b"/"
    return (rest if rest.startswith(b"/") else b"/" + rest), match[1]


def _host(headers: tuple[tuple[bytes, bytes], ...], *, version_1_1: bool) -> bytes:
    hosts = [value for name, value in headers if name == b"host"]
    if len(hosts) > 1 or (version_1_1 and not hosts):
        raise FramingError("bad-request", "exactly one Host header is needed")
    if hosts and not _is_host(hosts[0]):
        raise FramingError("bad-request", "the Host header is not a host name")
    return hosts[0] if hosts else b""


def _is_host(authority: bytes) -> bool:
    """Say whether this names a host and perhaps a port.

    The labels must also be ones that IDNA takes: Werkzeug fails on others outside of any handler.
    """
    match = _HOST.fullmatch(authority)
    if match is None:
        return False
    try:
        match[1].decode("ascii").encode("idna")
    except UnicodeError:
        return False
    return True


def _body_framing(
    headers: tuple[tuple[bytes, bytes], ...], *, version_1_1: bool
) -> tuple[int, bool]:
    """Give the body's length and whether it is chunked; every doubtful mixture is refused."""
    lengths = [value for name, value in headers if name == b"content-length"]
    codings = [value for name, value in headers if name == b"transfer-encoding"]
    if codings:
        if lengths or not version_1_1 or len(codings) > 1:
            raise FramingError("bad-request", "Transfer-Encoding beside another framing")
        if codings[0].strip().lower() != b"chunked":
            raise FramingError("not-implemented", "the only transfer coding is 'chunked'")
        return 0, True
    if len(lengths) > 1:
        raise FramingError("bad-request", "more than one Content-Length")
    if not lengths:
        return 0, False
    if not lengths[0].isdigit():
        raise FramingError("bad-request", "Content-Length is not a number")
    if len(lengths[0]) > 18:
        raise FramingError("content-too-large", "the body is too large")
    return int(lengths[0]), False


def _says_close(headers: tuple[tuple[bytes, bytes], ...]) -> bool:
    return any(
        b"close" in (token.strip().lower() for token in value.split(b","))
        for name, value in headers
        if name == b"connection"
    )


class CountedBody:
    """Takes a body of known length piece by piece."""

    def __init__(self, length: int) -> None:
        self.body = bytearray()
        self._left = length

    def feed(self, data: bytes) -> bytes | None:
        """Take bytes; once the body is complete give what comes after it, until then None."""
        mine = data[: self._left]
        self.body += mine
        self._left -= len(mine)
        return None if self._left else data[len(mine) :]

    def take(self) -> bytes:
        """Give what has been decoded since the last time, and forget it."""
        taken = bytes(self.body)
        self.body.clear()
        return taken


class ChunkedBody:
    """Decodes a chunked body (RFC 9112 §7.1) piece by piece; trailers are read and dropped."""

    def __init__(self, *, body_max: int) -> None:
        self.body = bytearray()
        self._limit = body_max
        self._body_max = body_max  # less what was taken
        self._buffer = bytearray()
        self._chunk_left = 0
        self._state = "size"
        self._trailers = 0

    def feed(self, data: bytes) -> bytes | None:
        """Take bytes; once the body is complete give what comes after it, until then None."""
        self._buffer += data
        while True:
            if self._state == "data":
                self._take_data()
                if self._chunk_left:
                    return None
                self._state = "end"
            line = self._line()
            if line is None:
                return None
            if self._take_line(line):
                return bytes(self._buffer)

    def take(self) -> bytes:
        """Give what has been decoded since the last time, and forget it; it still counts."""
        taken = bytes(self.body)
        self._body_max -= len(taken)
        self.body.clear()
        return taken

    def _take_line(self, line: bytes) -> bool:
        """Read one line of framing; True when it was the last one."""
        if self._state == "end":
            if line:
                raise FramingError("bad-request", "a chunk is longer than its size says")
            self._state = "size"
        elif self._state == "size":
            match = _CHUNK_LINE.fullmatch(line)
            if match is None:
                raise FramingError("bad-request", "the size line of a chunk is malformed")
            self._chunk_left = int(match[1], 16)
            self._state = "data" if self._chunk_left else "trailers"
            if len(self.body) + self._chunk_left > self._body_max:
                raise FramingError("content-too-large", f"the body is over {self._limit} bytes")
        else:
            self._trailers += len(line) + 2
            if line and (_HEADER.fullmatch(line) is None or self._trailers > TRAILERS_MAX):
                raise FramingError("bad-request", "the trailers of the body are malformed")
            return not line
        return False

    def _take_data(self) -> None:
        taken = self._buffer[: self._chunk_left]
        del self._buffer[: len(taken)]
        self.body += taken
        self._chunk_left -= len(taken)

    def _line(self) -> bytes | None:
        """Cut one line off the buffer, or None while it is incomplete."""
        limit = CHUNK_LINE_MAX if self._state != "trailers" else TRAILERS_MAX
        end = self._buffer.find(b"\n", 0, limit + 2)
        if end < 0:
            if len(self._buffer) > limit + 1:
                raise FramingError("bad-request", f"a chunk line is over {limit} bytes")
            return None
        if end == 0 or self._buffer[end - 1] != 0x0D:
            raise FramingError("bad-request", "a chunk line does not end with CR LF")
        line = bytes(self._buffer[: end - 1])
        del self._buffer[: end + 1]
        return line
