"""Heads and chunked bodies with what becomes of them, for the tests of framing and of the lanes."""

from rockets.web.framing import CHUNK_LINE_MAX, HEAD_MAX, HEADERS_MAX, TRAILERS_MAX

HOST = b"Host: a\r\n"
BODY_MAX = 1_000


def get(headers: bytes = HOST, *, target: bytes = b"/", version: bytes = b"1.1") -> bytes:
    """Write a request without a body."""
    return b"GET " + target + b" HTTP/" + version + b"\r\n" + headers + b"\r\n"


def post(headers: bytes, *, version: bytes = b"1.1") -> bytes:
    """Write the head of a request with a body."""
    return b"POST / HTTP/" + version + b"\r\n" + HOST + headers + b"\r\n"


def sized_head(size: int) -> bytes:
    """A head of exactly this many bytes."""
    return get(HOST + b"X: " + b"a" * (size - len(get(HOST + b"X: \r\n"))) + b"\r\n")


TE = b"Transfer-Encoding: "
REFUSED_HEADS = {
    "Content-Length with Transfer-Encoding": (
        post(b"Content-Length: 4\r\n" + TE + b"chunked\r\n"),
        400,
    ),
    "Transfer-Encoding with Content-Length": (post(TE + b"chunked\r\nContent-Length: 4\r\n"), 400),
    "equal Content-Length twice": (post(b"Content-Length: 2\r\ncontent-length: 2\r\n"), 400),
    "different Content-Length": (post(b"Content-Length: 2\r\nContent-Length: 3\r\n"), 400),
    "a list of lengths": (post(b"Content-Length: 2, 2\r\n"), 400),
    "a length with a sign": (post(b"Content-Length: +2\r\n"), 400),
    "a negative length": (post(b"Content-Length: -2\r\n"), 400),
    "a length in hex": (post(b"Content-Length: 0x2\r\n"), 400),
    "an empty length": (post(b"Content-Length:\r\n"), 400),
    "a length with an underscore": (post(b"Content-Length: 1_0\r\n"), 400),
    "a length of 19 digits": (post(b"Content-Length: " + b"9" * 19 + b"\r\n"), 413),
    "xchunked": (post(TE + b"xchunked\r\n"), 501),
    "chunked, identity": (post(TE + b"chunked, identity\r\n"), 501),
    "gzip, chunked": (post(TE + b"gzip, chunked\r\n"), 501),
    "chunked, chunked": (post(TE + b"chunked, chunked\r\n"), 501),
    "two Transfer-Encodings": (post(TE + b"chunked\r\n" + TE + b"chunked\r\n"), 400),
    "an empty Transfer-Encoding": (post(TE + b"\r\n"), 501),
    "Transfer-Encoding on HTTP/1.0": (post(TE + b"chunked\r\n", version=b"1.0"), 400),
    "a space before the colon": (post(b"Content-Length : 2\r\n"), 400),
    "a folded line": (post(b"X: a\r\n b\r\nContent-Length: 2\r\n"), 400),
    "a folded first header": (b"GET / HTTP/1.1\r\n Host: a\r\n\r\n", 400),
    "a line without a colon": (get(HOST + b"X\r\n"), 400),
    "an empty name": (get(HOST + b": x\r\n"), 400),
    "bare LF everywhere": (b"POST / HTTP/1.1\nHost: a\nContent-Length: 2\n\n", 400),
    "one bare LF": (get(b"Host: a\nX: b\r\n"), 400),
    "a bare CR in a value": (get(HOST + b"X: a\rb\r\n"), 400),
    "a bare CR at the end of a value": (get(HOST + b"X: a\r\r\n"), 400),
    "a NUL in a value": (get(HOST + b"X: a\0b\r\n"), 400),
    "a NUL in the target": (get(target=b"/\0"), 400),
    "a DEL in a value": (get(HOST + b"X: \x7f\r\n"), 400),
    "a control character in a name": (get(HOST + b"X\x01: a\r\n"), 400),
    "bytes over 127 in the target": (get(target=b"/caf\xc3\xa9"), 400),
    "a space in the target": (get(target=b"/a b"), 400),
    "two spaces": (b"GET  / HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "a tab for a space": (b"GET\t/ HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "a method in small letters": (b"head / HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "no version": (b"GET /\r\n" + HOST + b"\r\n", 400),
    "a version in lower case": (b"GET / http/1.1\r\n" + HOST + b"\r\n", 400),
    "a version of three digits": (get(version=b"1.10"), 400),
    "no Host": (get(b""), 400),
    "two Hosts": (get(HOST + HOST), 400),
    "a Host with an empty label": (get(b"Host: a..b\r\n"), 400),
    "a Host of one dot": (get(b"Host: .\r\n"), 400),
    "a Host with a label of 64 characters": (get(b"Host: " + b"a" * 64 + b"\r\n"), 400),
    "an authority with an empty label": (
        b"GET http://a..b/ HTTP/1.1\r\n" + HOST + b"\r\n",
        400,
    ),
    "a Host with a path": (get(b"Host: a/b\r\n"), 400),
    "a Host with a user": (get(b"Host: a@b\r\n"), 400),
    "two names in a Host": (get(b"Host: a b\r\n"), 400),
    "HTTP/1.9": (get(version=b"1.9"), 505),
    "HTTP/3.0": (get(version=b"3.0"), 505),
    "HTTP/0.9": (get(version=b"0.9"), 505),
    "the preface of HTTP/2": (b"PRI * HTTP/2.0\r\n\r\n", 505),
    "the handshake of TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
    "CONNECT": (b"CONNECT evil:443 HTTP/1.1\r\n" + HOST + b"\r\n", 405),
    "TRACE": (b"TRACE / HTTP/1.1\r\n" + HOST + b"\r\n", 405),
    "a target that is no path": (get(target=b"evil"), 400),
    "a target of another scheme": (get(target=b"ftp://a/"), 400),
    "an absolute target without a host": (get(target=b"http:///x"), 400),
    "an absolute target with a user": (get(target=b"http://u@a/"), 400),
    "* for GET": (get(target=b"*"), 400),
    "another expectation": (post(b"Expect: a-miracle\r\n"), 417),
    "65 headers": (get(HOST + b"X: a\r\n" * HEADERS_MAX), 431),
    "2,000 headers": (get(HOST + b"a: b\r\n" * 2_000), 431),
    "a head one byte too long": (sized_head(HEAD_MAX + 1), 431),
    "an endless first line": (b"GET /" + b"a" * HEAD_MAX, 431),
}


# What is taken: method, target, host, content_length, chunked, keep_alive, expects_continue.
TAKEN_HEADS = {
    "the least": (get(), (b"GET", b"/", b"a", 0, False, True, False)),
    "empty lines before it": (b"\r\n\r\n" + get(), (b"GET", b"/", b"a", 0, False, True, False)),
    "64 headers": (
        get(HOST + b"X: a\r\n" * (HEADERS_MAX - 1)),
        (b"GET", b"/", b"a", 0, False, True, False),
    ),
    "a head of 16 KiB": (sized_head(HEAD_MAX), (b"GET", b"/", b"a", 0, False, True, False)),
    "a head just under 16 KiB": (
        sized_head(HEAD_MAX - 1),
        (b"GET", b"/", b"a", 0, False, True, False),
    ),
    "a length": (post(b"Content-Length: 12\r\n"), (b"POST", b"/", b"a", 12, False, True, False)),
    "blanks around a value": (
        post(b"Content-Length: \t 12 \t\r\n"),
        (b"POST", b"/", b"a", 12, False, True, False),
    ),
    "chunked": (post(TE + b"Chunked\r\n"), (b"POST", b"/", b"a", 0, True, True, False)),
    "HTTP/1.0 without Host": (
        get(b"", version=b"1.0"),
        (b"GET", b"/", b"", 0, False, False, False),
    ),
    "close": (
        get(HOST + b"Connection: x, Close\r\n"),
        (b"GET", b"/", b"a", 0, False, False, False),
    ),
    "an expectation": (
        post(b"Content-Length: 1\r\nExpect: 100-Continue\r\n"),
        (b"POST", b"/", b"a", 1, False, True, True),
    ),
    "an expectation on HTTP/1.0": (
        post(b"Content-Length: 1\r\nExpect: 100-continue\r\n", version=b"1.0"),
        (b"POST", b"/", b"a", 1, False, False, False),
    ),
    "the absolute form": (
        get(target=b"HTTP://b:80/x?y"),
        (b"GET", b"/x?y", b"b:80", 0, False, True, False),
    ),
    "the absolute form without a path": (
        get(target=b"http://b?y"),
        (b"GET", b"/?y", b"b", 0, False, True, False),
    ),
    "an address of IPv6": (
        get(b"Host: [::1]:80\r\n"),
        (b"GET", b"/", b"[::1]:80", 0, False, True, False),
    ),
    "an empty Host": (get(b"Host:\r\n"), (b"GET", b"/", b"", 0, False, True, False)),
    "OPTIONS *": (
        b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n",
        (b"OPTIONS", b"*", b"a", 0, False, True, False),
    ),
}


def extension(length: int) -> bytes:
    """A body whose size line has this length."""
    return b"2;" + b"a" * (length - 2) + b"\r\n{}\r\n0\r\n\r\n"


def trailers(size: int) -> bytes:
    """A body whose trailers have this size, the empty line not counted."""
    return b"0\r\nX: " + b"a" * (size - 5) + b"\r\n\r\n"


BODIES: dict[str, tuple[bytes, bytes | int | None]] = {
    "empty": (b"0\r\n\r\n", b""),
    "two chunks": (b"2\r\n{}\r\n00a\r\n0123456789\r\n0\r\n\r\n", b"{}0123456789"),
    "an extension": (b"2;a=b\r\n{}\r\n0;c\r\n\r\n", b"{}"),
    "trailers": (b"0\r\nX: 1\r\nContent-Length: 9\r\n\r\n", b""),
    "incomplete": (b"2\r\n{}\r\n0\r\n", None),
    "a size line under the limit": (extension(CHUNK_LINE_MAX - 1), b"{}"),
    "a size line at the limit": (extension(CHUNK_LINE_MAX), b"{}"),
    "a size line over the limit": (extension(CHUNK_LINE_MAX + 1), 400),
    "an extension of 8 KB": (extension(8_000), 400),
    "a size line without an end": (b"2;" + b"a" * 300, 400),
    "size 0x2": (b"0x2\r\n{}\r\n0\r\n\r\n", 400),
    "size -2": (b"-2\r\n{}\r\n0\r\n\r\n", 400),
    "size +2": (b"+2\r\n{}\r\n0\r\n\r\n", 400),
    "a blank before the size": (b" 2\r\n{}\r\n0\r\n\r\n", 400),
    "no size": (b"\r\n{}\r\n0\r\n\r\n", 400),
    "20 hex digits": (b"1" * 20 + b"\r\n", 400),
    "16 hex digits": (b"f" * 16 + b"\r\n", 413),
    "a wrong end of a chunk": (b"2\r\n{}XX0\r\n\r\n", 400),
    "an end of a chunk with more before it": (b"2\r\n{}X\r\n0\r\n\r\n", 400),
    "bare LF": (b"2\n{}\n0\n\n", 400),
    "bare LF after the data": (b"2\r\n{}\n0\r\n\r\n", 400),
    "a bare CR in the size line": (b"2\r;\r\n{}\r\n0\r\n\r\n", 400),
    "a NUL in an extension": (b"2;\0\r\n{}\r\n0\r\n\r\n", 400),
    "a malformed trailer": (b"0\r\nX\r\n\r\n", 400),
    "a folded trailer": (b"0\r\nX: 1\r\n 2\r\n\r\n", 400),
    "trailers at the limit": (trailers(TRAILERS_MAX), b""),
    "trailers over the limit": (trailers(TRAILERS_MAX + 1), 400),
    "many trailers over the limit": (
        b"0\r\n" + b"X: 1\r\n" * (TRAILERS_MAX // 6 + 1) + b"\r\n",
        400,
    ),
    "a body under the limit": (b"3e7\r\n" + b"a" * 999 + b"\r\n0\r\n\r\n", b"a" * 999),
    "a body at the limit": (b"3e8\r\n" + b"a" * 1_000 + b"\r\n0\r\n\r\n", b"a" * 1_000),
    "a body over the limit": (b"3e9\r\n", 413),
    "chunks over the limit": (b"3e8\r\n" + b"a" * 1_000 + b"\r\n1\r\n", 413),
}
