"""Checksums of what a journal holds, since flipped bits are silent in most stores.

The invariant: what they cover is made into bytes in one way only, so that two rows never share one.
"""

from hashlib import blake2b
from zlib import crc32


def checksum(stream: str, number: int, body: bytes) -> bytes:
    """Return 8 bytes that tell a changed row.

    BLAKE2b costs a microsecond; the length keeps (ab, c) and (a, bc) apart.
    """
    return blake2b(f"{number}:{len(stream)}:{stream}:".encode() + body, digest_size=8).digest()


def light_checksum(stream: str, data: bytes) -> int:
    """Return a CRC-32 of both: a million are checked at a start and made in every round.

    (Measured with 250 bytes: 0.6 µs, against 2.0 µs for what the records have, which nobody could
    make again.) No name holds a NUL, so it keeps (ab, c) and (a, bc) apart.
    """
    return crc32(data, crc32(stream.encode() + b"\0"))
