"""JSON answers to GET with an ETag, and 304 to who has the answer already (RFC 9110 §13.1.2)."""

import msgspec
from quart import Response, request

from rockets.web.etags import etag, is_known


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


def _not_modified() -> Response:
    # Without content there is nothing to describe, and the bytes body keeps Quart from reaching
    # for asyncio after the head is sent, as for the empty 204 in `messages`.
    response = Response(b"", 304)
    del response.headers["content-type"]
    del response.headers["content-length"]
    return response
