"""Heads and chunked bodies: every doubtful form is refused, however the bytes are cut."""

import time
from collections.abc import Iterator
from itertools import pairwise

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rockets.web.framing import (
    ChunkedBody,
    FramingError,
    Head,
    find_head_end,
    parse_head,
    skip_empty_lines,
)
from rockets.web.problems import PROBLEMS
from tests.web.framings import (
    BODIES,
    BODY_MAX,
    HOST,
    REFUSED_HEADS,
    TAKEN_HEADS,
    TE,
    get,
    post,
)


def read_head(pieces: Iterator[bytes]) -> Head | int | None:
    """Read a head that comes in pieces, as the front does: the head, a status, or None."""
    buffer = b""
    try:
        for piece in pieces:
            buffer = skip_empty_lines(buffer + piece)
            length = find_head_end(buffer) if buffer not in {b"", b"\r"} else -1
            if length >= 0:
                return parse_head(buffer[:length])
    except FramingError as error:
        return PROBLEMS[error.problem][0]
    return None


def read_body(pieces: Iterator[bytes], *, body_max: int = BODY_MAX) -> bytes | int | None:
    """Read a chunked body that comes in pieces: the body, a status, or None."""
    chunked = ChunkedBody(body_max=body_max)
    try:
        for piece in pieces:
            if chunked.feed(piece) is not None:
                return bytes(chunked.body)
    except FramingError as error:
        return PROBLEMS[error.problem][0]
    return None


def whole(data: bytes) -> Iterator[bytes]:
    yield data


def one_by_one(data: bytes) -> Iterator[bytes]:
    return (data[at : at + 1] for at in range(len(data)))


def cut(data: bytes, places: list[int]) -> Iterator[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return (data[start:end] for start, end in pairwise(edges))


@pytest.mark.parametrize("case", REFUSED_HEADS)
def test_a_doubtful_head_is_refused_with_its_status(case: str) -> None:
    data, status = REFUSED_HEADS[case]

    assert read_head(whole(data)) == status
    assert read_head(one_by_one(data)) == status


@pytest.mark.parametrize("case", TAKEN_HEADS)
def test_a_clear_head_is_read_the_same_whole_and_byte_by_byte(case: str) -> None:
    data, expected = TAKEN_HEADS[case]

    head = read_head(whole(data))

    assert isinstance(head, Head)
    assert expected == (
        head.method,
        head.target,
        head.host,
        head.content_length,
        head.chunked,
        head.keep_alive,
        head.expects_continue,
    )
    assert read_head(one_by_one(data)) == head


@pytest.mark.parametrize("case", BODIES)
def test_a_chunked_body_is_read_or_refused_the_same_whole_and_byte_by_byte(case: str) -> None:
    data, expected = BODIES[case]

    assert read_body(whole(data)) == expected
    assert read_body(one_by_one(data)) == expected


def test_what_follows_a_chunked_body_is_given_back() -> None:
    assert ChunkedBody(body_max=10).feed(b"2\r\n{}\r\n0\r\n\r\nGET /") == b"GET /"
    assert ChunkedBody(body_max=10).feed(b"0\r\n\r\n") == b""


def test_a_rebuilt_head_has_one_framing_and_nothing_of_the_connection() -> None:
    hop_by_hop = (
        b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMA\r\n"
        b"Keep-Alive: timeout=5\r\nProxy-Connection: x\r\nTE: trailers\r\nTrailer: X\r\n"
        b"Expect: 100-continue\r\n"
    )
    head = parse_head(post(hop_by_hop + TE + b"chunked\r\nX-Request-Id: 7\r\n"))

    assert head.rebuilt(2, keep_alive=True) == (
        b"POST / HTTP/1.1\r\nhost: a\r\nx-request-id: 7\r\ncontent-length: 2\r\n\r\n"
    )


@pytest.mark.parametrize(
    ("data", "keep_alive", "rebuilt"),
    [
        (get(), True, b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"),
        (get(), False, b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"),
        (get(target=b"http://b/x"), True, b"GET /x HTTP/1.1\r\nhost: b\r\n\r\n"),
        (get(b"", version=b"1.0"), False, b"GET / HTTP/1.0\r\nconnection: close\r\n\r\n"),
        (post(b""), True, b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n"),
    ],
)
def test_a_head_is_rebuilt_in_one_form(data: bytes, keep_alive: bool, rebuilt: bytes) -> None:
    assert parse_head(data).rebuilt(0, keep_alive=keep_alive) == rebuilt


def test_a_header_is_found_by_its_lower_case_name() -> None:
    head = parse_head(get(HOST + b"X-A: 1\r\nx-a: 2\r\n", target=b"/p?q"))

    assert (head.header(b"x-a"), head.header(b"x-b"), head.path) == ("1", None, b"/p")


@pytest.mark.parametrize(
    "data",
    [
        get(HOST + b"X:" + b" " * 16_000 + b"\0\r\n"),
        get(HOST + b"X: " + b"a " * 8_000 + b"\0\r\n"),
        get(b"Host: " + b"a" * 16_000 + b" b\r\n"),
        get(target=b"http://" + b"a" * 16_000 + b"#"),
        b"a" * 16_000 + b"\r\n\r\n",
        b"\r\n" * 8_000 + b"\0\r\n\r\n",
    ],
)
def test_no_head_takes_long_to_refuse(data: bytes) -> None:
    started = time.process_time()

    assert read_head(whole(data)) == 400
    assert time.process_time() - started < 0.25  # it was seconds with an ambiguous expression


# Bytes that look like HTTP often enough to come past the first check.
_WORDS = st.sampled_from(
    [
        b"GET ", b"POST ", b"PRI ", b"/", b"*", b"http://a", b"?", b" HTTP/1.1", b" HTTP/1.0",
        b"\r\n", b"\r", b"\n", b"\0", b" ", b"\t", b":", b",", b";", b"Host: a", b"Host: ",
        b"Content-Length: ", b"Transfer-Encoding: chunked", b"Connection: close", b"Expect: ",
        b"100-continue", b"0", b"2", b"f", b"{}", b"X: ", b"\xff", b"\r\n\r\n",
    ]
)  # fmt: skip
RAW = st.one_of(st.binary(max_size=200), st.lists(_WORDS, max_size=24).map(b"".join))
HEADS = st.builds(lambda data: b"GET / HTTP/1.1\r\nHost: a\r\n" + data + b"\r\n\r\n", RAW) | RAW
CHUNKS = st.lists(
    st.binary(max_size=20).map(lambda data: b"%x\r\n%s\r\n" % (len(data), data)), max_size=5
).map(b"".join)
BODIES_LIKE = st.builds(lambda chunks, end: chunks + end, CHUNKS, RAW | st.just(b"0\r\n\r\n"))
PLACES = st.lists(st.integers(min_value=0, max_value=10_000), max_size=8)


@given(HEADS, PLACES)
def test_a_head_means_the_same_however_it_is_cut(data: bytes, places: list[int]) -> None:
    expected = read_head(whole(data))

    assert read_head(one_by_one(data)) == expected
    assert read_head(cut(data, places)) == expected


@given(BODIES_LIKE, PLACES)
def test_a_chunked_body_means_the_same_however_it_is_cut(data: bytes, places: list[int]) -> None:
    expected = read_body(whole(data), body_max=40)

    assert read_body(one_by_one(data), body_max=40) == expected
    assert read_body(cut(data, places), body_max=40) == expected


@given(HEADS)
def test_the_next_parser_takes_every_rebuilt_head_and_reads_the_same(data: bytes) -> None:
    head = read_head(whole(data))
    if not isinstance(head, Head):
        return
    parser = h11.Connection(h11.SERVER)

    parser.receive_data(head.rebuilt(0, keep_alive=head.keep_alive))

    request = parser.next_event()
    assert isinstance(request, h11.Request)
    assert (request.method, request.target) == (head.method, head.target)
    assert isinstance(parser.next_event(), h11.EndOfMessage)
    assert parser.trailing_data == (b"", False)
