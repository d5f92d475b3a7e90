"""TLS on the service's own sockets, on a real server in both lanes.

The key in `tests/tls` is for these tests alone and opens nothing.
"""

import shutil
import socket
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, suppress
from pathlib import Path

import pytest
import trio

from rockets.web import tls
from tests.helpers import Client, ServerProcess, body, both_lanes, connected, get, post, serving

CERTIFICATE = Path(__file__).with_name("tls") / "certificate.pem"


@pytest.fixture
def key(tmp_path: Path) -> Path:
    """The key with the mode that a key must have."""
    path = tmp_path / "key.pem"
    shutil.copyfile(CERTIFICATE.with_name("key.pem"), path)
    path.chmod(0o600)
    return path


@asynccontextmanager
async def tls_server(directory: Path, key: Path, *flags: str) -> AsyncIterator[ServerProcess]:
    tls_flags = ("--tls-certificate", str(CERTIFICATE), "--tls-key", str(key))
    async with serving(directory, *tls_flags, *flags) as server:
        yield server


def client_context(
    least: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2, most: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(CERTIFICATE))
    context.minimum_version, context.maximum_version = least, most
    return context


def over(stream: trio.SSLStream[trio.SocketStream]) -> Client:
    return Client(stream)  # type: ignore[arg-type]  # it only sends and receives


@asynccontextmanager
async def enciphered(port: int, context: ssl.SSLContext | None = None) -> AsyncIterator[Client]:
    """Open a connection over TLS."""
    tcp = await trio.open_tcp_stream("127.0.0.1", port)
    stream = trio.SSLStream(
        tcp, context or client_context(), server_hostname="127.0.0.1", https_compatible=True
    )
    async with stream:
        yield over(stream)


@both_lanes
async def test_everything_goes_over_tls(tmp_path: Path, key: Path, lane: str) -> None:
    async with tls_server(tmp_path, key, lane) as server:
        async with enciphered(server.port) as client:
            for number in range(1, 21):
                assert (await client.ask(post(body("r", number)))).status == 204
            assert (await client.ask(get("/rockets/r"))).json["lastMessageNumber"] == 20
            assert (await client.ask(get("/rockets"))).status == 200
            # Larger than a record, a send and the socket's buffer, both ways.
            batch = b"[" + b",".join(body("r", number) for number in range(21, 9_000)) + b"]"
            reply = await client.ask(post(batch, "Prefer: return=representation"))
            assert reply.status == 200
            history = await client.ask(get("/rockets/r/messages?limit=5000"))
            assert len(history.body) > 500_000
        assert await server.stop() == 0
        started = server.events("started")[0]
        assert str(started["url"]).startswith("https://127.0.0.1:")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_it_speaks_these_versions(tmp_path: Path, key: Path, version: ssl.TLSVersion) -> None:
    async with tls_server(tmp_path, key) as server:
        async with enciphered(server.port, client_context(version, version)) as client:
            # Together: what OpenSSL has read must not wait for more.
            await client.stream.send_all(post(body("r", 1)) + get("/rockets/r") + get("/livez"))
            assert [(await client.read()).status for _ in range(3)] == [204, 200, 200]
            # In pieces: each record is a piece of the head.
            for byte in get("/rockets/r"):
                await client.stream.send_all(bytes([byte]))
            assert (await client.read()).status == 200


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
async def test_older_versions_are_refused(
    tmp_path: Path, key: Path, version: ssl.TLSVersion
) -> None:
    context = client_context(version, version)
    context.set_ciphers("ALL:@SECLEVEL=0")  # else this side itself would refuse
    async with tls_server(tmp_path, key) as server:
        with pytest.raises(trio.BrokenResourceError):
            async with enciphered(server.port, context) as client:
                await client.ask(get("/livez"))
        async with enciphered(server.port) as client:
            assert (await client.ask(get("/livez"))).status == 200


async def test_an_answer_that_ends_the_connection_ends_tls_as_well(
    tmp_path: Path, key: Path
) -> None:
    async with tls_server(tmp_path, key) as server:
        tcp = await trio.open_tcp_stream("127.0.0.1", server.port)
        # Without https_compatible an end of TCP alone is an error.
        stream = trio.SSLStream(tcp, client_context(), server_hostname="127.0.0.1")
        client = over(stream)
        await stream.send_all(get("/livez", "Connection: close"))
        assert (await client.read()).status == 200
        assert await stream.receive_some(1) == b""
        await trio.aclose_forcefully(tcp)

        tcp = await trio.open_tcp_stream("127.0.0.1", server.port)
        stream = trio.SSLStream(tcp, client_context(), server_hostname="127.0.0.1")
        client = over(stream)
        await stream.send_all(post(b"{}"))  # refused, and then this side ends
        assert (await client.read()).status == 422
        assert await stream.receive_some(1) == b""
        await trio.aclose_forcefully(tcp)


async def test_plain_text_and_half_a_handshake_end_only_themselves(
    tmp_path: Path, key: Path
) -> None:
    async with (
        tls_server(tmp_path, key, "--header-timeout-s", "0.5") as server,
        connected(server.port) as plain,
        connected(server.port) as silent,
        connected(server.port) as half,
    ):
        await half.stream.send_all(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
        await plain.stream.send_all(get("/livez"))
        for client in (plain, silent, half):
            with suppress(trio.BrokenResourceError):
                assert b"HTTP" not in await client.wait_closed(timeout_s=5)
        async with enciphered(server.port) as client:
            assert (await client.ask(get("/livez"))).status == 200
        assert server.events("connection_failed") == []


@pytest.mark.slow
async def test_stalled_handshakes_do_not_stop_anybody_else(tmp_path: Path, key: Path) -> None:
    """2,000 of them, a half with the beginning of a handshake, more than there is room for."""
    async with tls_server(tmp_path, key, "--connections-max", "1500") as server:
        with ExitStack() as opened:
            for index in range(2_000):
                sock = socket.create_connection(("127.0.0.1", server.port))
                opened.enter_context(sock)
                if index % 2:
                    with suppress(OSError):
                        sock.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
                if index % 20 == 0:
                    await trio.lowlevel.checkpoint()
            waits = []
            for number in range(1, 101):
                began = time.perf_counter()
                async with enciphered(server.port) as client:
                    assert (await client.ask(post(body("r", number)))).status == 204
                waits.append(time.perf_counter() - began)
        assert sorted(waits)[98] < 1
        assert await server.stop() == 0


async def test_workers_speak_it_too(tmp_path: Path, key: Path) -> None:
    async with tls_server(tmp_path, key, "--workers", "2") as server:
        async with enciphered(server.port) as client:
            assert (await client.ask(post(body("r", 1)))).status == 204
        assert await server.stop() == 0


def test_a_key_that_others_may_read_is_refused(key: Path) -> None:
    key.chmod(0o640)
    tls.load(str(CERTIFICATE), str(key))
    key.chmod(0o644)
    with pytest.raises(tls.TlsRefused, match="others may read the key"):
        tls.load(str(CERTIFICATE), str(key))


def test_what_cannot_be_used_is_named_in_one_line(tmp_path: Path, key: Path) -> None:
    with pytest.raises(tls.TlsRefused, match=r"missing\.pem: cannot be used: No such file"):
        tls.load(str(CERTIFICATE), str(tmp_path / "missing.pem"))
    with pytest.raises(tls.TlsRefused, match=r"missing\.pem"):
        tls.load(str(tmp_path / "missing.pem"), str(key))
    other = tmp_path / "other.pem"
    other.write_text("not a certificate")
    with pytest.raises(tls.TlsRefused, match="cannot be used") as refused:
        tls.load(str(other), str(key))
    assert "\n" not in str(refused.value)


@pytest.fixture
def open_key(key: Path) -> Path:
    """The key as everybody may read it."""
    key.chmod(0o604)
    return key


async def test_a_start_with_such_a_key_is_refused(tmp_path: Path, open_key: Path) -> None:
    with pytest.raises(AssertionError, match="ended before it listened"):
        async with tls_server(tmp_path, open_key):
            pass
    assert "rockets serve: " in (tmp_path / "server.log").read_text()
    assert "others may read the key" in (tmp_path / "server.log").read_text()
