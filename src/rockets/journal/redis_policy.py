"""What a Redis server must be like before records are trusted to it, told from what it says.

The invariant: what is accepted as `full` has every record synced before any answer that rests on
it, a duplicate's included. With `appendfsync always` Redis writes and syncs what all its clients
have done before it sends a reply to any of them (`beforeSleep` in its server.c), so there is one
order for all and no answer can overtake another connection's sync. Where the write or the sync
fails it ends itself (`flushAppendOnlyFile` in aof.c). Before 7.0 it ignored a failed sync.
"""

import re
from collections.abc import Iterator, Mapping

from .base import JournalRefused

VERSION_MIN = 7, 0

# What CONFIG GET is asked for; patterns, because before 7.0 it took but one at a time.
PATTERNS = "*append*", "maxmemory-policy"


def check_policy(
    info: Mapping[str, str], config: Mapping[str, str] | None, durability: str
) -> None:
    """Refuse a server that would lose what it has acknowledged, in one line with all reasons.

    `info` is what INFO says, `config` what CONFIG GET says of `PATTERNS`; None leaves out what
    only that can tell. Raises `JournalRefused`.
    """
    faults = [*_faults_of_server(info)]
    if config is not None:
        faults += _faults_of_config(config, durability)
    if faults:
        raise JournalRefused("; ".join(faults))


def _faults_of_server(info: Mapping[str, str]) -> Iterator[str]:
    version = info.get("redis_version", "unknown")
    found = re.match(r"(\d+)\.(\d+)", version)
    if found is None or tuple(map(int, found.groups())) < VERSION_MIN:
        yield f"Redis 7.0 or newer is needed, this is {version}"
    role = info.get("role", "unknown")
    if role != "master":
        yield f"the server must be the master, its role is {role}"
    if info.get("aof_enabled") != "1":
        yield "appendonly must be yes: without its file Redis keeps nothing"


def _faults_of_config(config: Mapping[str, str], durability: str) -> Iterator[str]:
    fsync = config.get("appendfsync", "unknown")
    allowed = ("always",) if durability == "full" else ("always", "everysec")
    if fsync not in allowed:
        yield f"appendfsync must be {' or '.join(allowed)} for {durability}, it is {fsync}"
    if durability == "full" and config.get("no-appendfsync-on-rewrite") != "no":
        yield "no-appendfsync-on-rewrite must be no: it would leave out syncs while a file is made"
    policy = config.get("maxmemory-policy", "unknown")
    if policy != "noeviction":
        yield f"maxmemory-policy must be noeviction, it is {policy}: Redis would drop records"
