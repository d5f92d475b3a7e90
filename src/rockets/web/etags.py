"""Entity tags (RFC 9110 §8.8.3): made of bodies, and looked for in what a client sends."""

import re
from hashlib import blake2b

# An entity tag may hold commas, so a list of them is searched, not split. The comparison is the
# weak one, for which the W/ before a tag does not count.
_TAG = re.compile(r'"[\x21\x23-\x7e\x80-\xff]*"')


def etag(body: bytes) -> str:
    """Give the strong entity tag of a body."""
    return f'"{blake2b(body, digest_size=16).hexdigest()}"'


def is_known(tag: str, if_none_match: list[str]) -> bool:
    """Say whether any value of `If-None-Match` names this tag, or any with `*`."""
    value = ", ".join(if_none_match)
    return value.strip() == "*" or tag in _TAG.findall(value)
