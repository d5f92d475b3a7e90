"""JSON answers to GET with an ETag, and 304 to who has the answer already (RFC 9110 §13.1.2)."""

import re
from hashlib import blake2b

import msgspec
from quart import Response, request

# An entity tag may hold commas, so a list of them is searched, not split. The comparison is the
# weak one, for which the W/ before a tag does not count.
_TAG = re.compile(r'"[\x21\x23-\x7e\x80-\xff]*"')


def json_response(content: object) -> Response:
    """Answer the request at hand with this content, or with 304 where the client has it.

    The tag is a hash of the body, so equal answers have equal tags, also after a restart.
    """
    body = msgspec.json.encode(content)
    tag = etag(body)
    if is_known(tag, request.headers.getlist("If-None-Match")):
        response = _not_modified()
    else:
        response = Response(body, 200, content_type="application/json")
    response.headers["ETag"] = tag
    return response


def etag(body: bytes) -> str:
    """Give the strong entity tag of a body."""
    return f'"{blake2b(body, digest_size=16).hexdigest()}"'


def is_known(tag: str, if_none_match: list[str]) -> bool:
    """Say whether any value of `If-None-Match` names this tag, or any with `*`."""
    value = ", ".join(if_none_match)
    return value.strip() == "*" or tag in _TAG.findall(value)


def _not_modified() -> Response:
    # Without content there is nothing to describe, and the bytes body keeps Quart from reaching
    # for asyncio after the head is sent, as for the empty 204 in `messages`.
    response = Response(b"", 304)
    del response.headers["content-type"]
    del response.headers["content-length"]
    return response
