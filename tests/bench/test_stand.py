"""A stand starts what is measured, fresh each time, and refuses figures of a server that failed."""

import os
from pathlib import Path

import pytest

from rockets.bench.bodies import messages
from rockets.bench.measurements import FLOOR, NO_OP
from rockets.bench.outcome import MeasurementFailed
from rockets.bench.processes import find_cores
from rockets.bench.stand import Stand, ask
from tests.helpers import connected, post

BODY = next(messages()).body


@pytest.fixture
def stand(tmp_path: Path) -> Stand:
    """A stand without wrk."""
    return Stand(tmp_path, cores=find_cores(), seconds=1, wrk="/no/wrk")


@pytest.mark.slow
@pytest.mark.parametrize("module", [FLOOR, NO_OP])
async def test_a_reference_answers_204_and_keeps_the_connection(stand: Stand, module: str) -> None:
    with stand.reference(module) as url:
        async with connected(int(url.rpartition(":")[2])) as client:
            for _ in range(3):
                assert (await client.ask(post(BODY))).status == 204
            # wrk goes by this header; that Hypercorn leaves the closing to it is part of the no-op.
            reply = await client.ask(post(BODY, "Connection: close"))
            assert (reply.status, reply.headers["connection"]) == (204, "close")


@pytest.mark.slow
def test_the_service_starts_on_a_fresh_database_that_is_gone_afterwards(
    stand: Stand, tmp_path: Path
) -> None:
    for _ in range(2):
        with stand.server("memory") as url:
            ask(url, "POST", "/messages", BODY)
            assert b'"total":1' in ask(url, "GET", "/rockets").replace(b" ", b"")
            with pytest.raises(MeasurementFailed, match="GET /nowhere was answered with 404"):
                ask(url, "GET", "/nowhere")

    assert {path.suffix for path in tmp_path.iterdir()} == {".log"}


@pytest.mark.slow
def test_a_service_that_does_not_start_says_why(stand: Stand) -> None:
    with (
        pytest.raises(MeasurementFailed, match=r"it did not start: .*durability"),
        stand.server("eternal"),
    ):
        pass


def test_nobody_who_answers_is_a_failure_and_not_a_crash() -> None:
    with pytest.raises(MeasurementFailed, match="GET /: ConnectionRefusedError"):
        ask("http://127.0.0.1:1", "GET", "/")


def test_a_database_has_a_name_that_is_free(stand: Stand) -> None:
    with stand.database() as one, stand.database() as other:
        assert one != other
        assert not one.exists()
        assert os.access(one.parent, os.W_OK)
