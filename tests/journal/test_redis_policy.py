"""Which Redis servers a journal trusts its records to."""

import re
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from rockets.journal import (
    JournalRefused,
    LedgerRecord,
    Note,
    NoteId,
    Position,
    Pruned,
    Record,
    Round,
    open_redis,
)
from rockets.journal.redis_link import target_of
from rockets.journal.redis_policy import check_policy
from rockets.journal.redis_store import SCHEMA
from tests.journal.prunings import BASE
from tests.journal.redis_server import RedisServer

INFO = {"redis_version": "7.0.15", "role": "master", "aof_enabled": "1"}
CONFIG = {
    "appendfsync": "always",
    "no-appendfsync-on-rewrite": "no",
    "maxmemory-policy": "noeviction",
}


def test_a_strict_master_is_accepted() -> None:
    check_policy(INFO, CONFIG, "full")
    check_policy(INFO, CONFIG, "normal")


@pytest.mark.parametrize("version", ["7.0.0", "7.2.4", "8.0.1", "10.1"])
def test_newer_versions_are_accepted(version: str) -> None:
    check_policy(INFO | {"redis_version": version}, CONFIG, "full")


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"redis_version": "6.2.14"}, "7.0 or newer"),
        ({"redis_version": "none"}, "7.0 or newer"),
        ({"role": "slave"}, "role is slave"),
        ({"aof_enabled": "0"}, "appendonly"),
    ],
)
def test_what_a_server_says_of_itself_can_refuse_it(wrong: dict[str, str], words: str) -> None:
    with pytest.raises(JournalRefused, match=words):
        check_policy(INFO | wrong, None, "normal")


@pytest.mark.parametrize(
    ("wrong", "words", "is_normal"),
    [
        ({"appendfsync": "everysec"}, "appendfsync must be always for full, it is", True),
        ({"appendfsync": "no"}, "appendfsync must be", False),
        ({"no-appendfsync-on-rewrite": "yes"}, "no-appendfsync-on-rewrite", True),
        ({"maxmemory-policy": "allkeys-lru"}, "noeviction, it is allkeys-lru", False),
        ({"maxmemory-policy": "volatile-ttl"}, "noeviction", False),
    ],
)
def test_what_is_set_can_refuse_a_server(
    wrong: dict[str, str], words: str, is_normal: bool
) -> None:
    with pytest.raises(JournalRefused, match=words):
        check_policy(INFO, CONFIG | wrong, "full")
    if is_normal:
        check_policy(INFO, CONFIG | wrong, "normal")
    else:
        with pytest.raises(JournalRefused, match=words.split()[0]):
            check_policy(INFO, CONFIG | wrong, "normal")


def test_all_reasons_stand_in_one_line() -> None:
    with pytest.raises(JournalRefused) as refused:
        check_policy({}, {}, "full")

    assert str(refused.value).count(";") == 5
    assert "\n" not in str(refused.value)


@contextmanager
def setting(redis: RedisServer, name: str, value: str) -> Iterator[None]:
    before = redis.ask("CONFIG", "GET", name)[1]
    redis.ask("CONFIG", "SET", name, value)
    try:
        yield
    finally:
        redis.ask("CONFIG", "SET", name, before)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("appendfsync", "everysec"),
        ("no-appendfsync-on-rewrite", "yes"),
        ("maxmemory-policy", "volatile-lru"),
    ],
)
def test_a_real_server_is_asked(redis: RedisServer, tmp_path: Path, name: str, value: str) -> None:
    with setting(redis, name, value):
        with pytest.raises(JournalRefused, match=f"redis://127.0.0.1:{redis.port}/0: {name} must"):
            open_redis(redis.url(tmp_path))

    assert redis.copy(tmp_path) == {}
    open_redis(redis.url(tmp_path)).close()


def test_normal_takes_a_sync_every_second(redis: RedisServer, tmp_path: Path) -> None:
    with (
        setting(redis, "appendfsync", "everysec"),
        closing(open_redis(redis.url(tmp_path), durability="normal")) as journal,
    ):
        assert journal.durability == "normal"
        assert journal.append([Record("a", 1, b"", 7)]).head == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--appendonly", "no"), "appendonly must be yes"),
        (("--replicaof", "127.0.0.1", "1"), "its role is slave"),
        (("--requirepass", "secret"), "Authentication required"),
    ],
)
def test_other_servers_are_refused(
    arguments: tuple[str, ...], words: str, redis: RedisServer, tmp_path: Path
) -> None:
    with closing(RedisServer(*arguments)) as other:
        with pytest.raises(JournalRefused, match=words):
            open_redis(other.url(tmp_path))


def test_where_config_is_forbidden_somebody_has_to_know(redis: RedisServer, tmp_path: Path) -> None:
    redis.ask("ACL", "SETUSER", "guest", "on", ">secret", "~*", "+@all", "-config")
    url = redis.url(tmp_path).replace("redis://", "redis://guest:secret@")
    try:
        with pytest.raises(JournalRefused, match="CONFIG GET is not allowed") as refused:
            open_redis(url)
        assert "policy=unchecked" in str(refused.value)
        assert "secret" not in str(refused.value)

        with closing(open_redis(f"{url}&policy=unchecked")) as journal:
            assert journal.append([Record("a", 1, b"", 7)]).head == 1
    finally:
        redis.ask("ACL", "DELUSER", "guest")


def test_a_user_needs_no_more_than_the_docs_say(redis: RedisServer, tmp_path: Path) -> None:
    docs = Path(__file__).parents[2] / "docs" / "operations.md"
    [rights] = re.findall(r"ACL SETUSER rockets (.*)", docs.read_text())
    rights = rights.replace("PASSWORD", "secret").replace("{rockets}:*", redis.key(tmp_path, "*"))
    redis.ask("ACL", "SETUSER", "guest", *rights.split())
    url = redis.url(tmp_path).replace("redis://", "redis://guest:secret@").replace("/0?", "/1?")
    try:
        with closing(open_redis(url)) as journal:
            notes = [Note("k", "a", n, b"", b"", 7) for n in (1, 2)]
            journal.append([Record("a", n, b"", 7) for n in (2, 1)], notes)
            assert journal.append([Record("a", 1, b"", 7)], notes).new == (False,)
            journal.append([Record("b", 1, b"", 7)])
            assert journal.claim_round()
            journal.keep_ledgers([LedgerRecord("a", b"")])
            journal.end_round(Round(Position(1), "1", 0))
            assert journal.remove_note(NoteId(1))
            assert journal.prune([Pruned("a", 1, BASE)], limit=1) == 1
            assert journal.wait_behind(Position(0), 1.0)
            assert not journal.wait_behind(Position(3), 0.01)
            assert len(journal.follow(Position(0), limit=9)) == 2
            assert len(journal.read("a", 1, 9, limit=9)) == 1
            assert len(journal.read_notes("k", stream=None, limit=9)) == 1
            assert journal.count_notes("k") == {"a": 1}
            assert len(journal.ledgers("", limit=9)) == len(journal.pruned("", limit=9)) == 1
            assert journal.claim_round()
            journal.drop_ledgers()
            journal.release_round()
    finally:
        redis.ask("ACL", "DELUSER", "guest")


def test_a_server_without_memory_is_refused(redis: RedisServer, tmp_path: Path) -> None:
    with setting(redis, "maxmemory", "1"):
        with pytest.raises(JournalRefused, match="has no memory left"):
            open_redis(redis.url(tmp_path))


def test_a_wrong_password_is_refused(redis: RedisServer, tmp_path: Path) -> None:
    url = redis.url(tmp_path).replace("redis://", "redis://nobody:secret@")

    with pytest.raises(JournalRefused, match="invalid username-password") as refused:
        open_redis(url)
    assert "secret" not in str(refused.value)


def test_where_nobody_listens_it_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(JournalRefused, match="unix://"):
        open_redis(f"unix://{tmp_path}/nobody")


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://localhost", "not a URL of a Redis server"),
        ("redis://localhost:port", "not a URL of a Redis server"),
        ("redis://localhost?db=x", "not a URL of a Redis server"),
        ("redis://localhost?retry_on_timeout=yes", "not known: retry_on_timeout"),
        ("redis://localhost?policy=none", "not known: policy=none"),
        ("redis://localhost?prefix={a}", "no braces"),
    ],
)
def test_a_wrong_url_is_refused_before_anything_is_asked(url: str, words: str) -> None:
    with pytest.raises(JournalRefused, match=words):
        target_of(url, "full")


def set_schema(redis: RedisServer, path: Path) -> None:
    redis.ask("HSET", redis.key(path, "meta"), "schema", int(SCHEMA) + 1)


def lose_meta(redis: RedisServer, path: Path) -> None:
    redis.ask("DEL", redis.key(path, "meta"))


@pytest.mark.parametrize(
    ("harm", "words"), [(set_schema, "a store of schema 2"), (lose_meta, "nothing that says what")]
)
def test_a_store_of_another_kind_is_refused_and_left_alone(
    redis: RedisServer, tmp_path: Path, harm: Callable[[RedisServer, Path], None], words: str
) -> None:
    with closing(open_redis(redis.url(tmp_path))) as journal:
        journal.append([Record("a", 1, b"", 7)])
    harm(redis, tmp_path)
    before = redis.copy(tmp_path)

    with pytest.raises(JournalRefused, match=words):
        open_redis(redis.url(tmp_path))

    assert redis.copy(tmp_path) == before
