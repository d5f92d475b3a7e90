"""The service keeps what its own document promises, for requests that schemathesis makes of it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from rockets.web.routes import ROUTES
from tests.helpers import serving

ROOT = Path(__file__).resolve().parents[1]

# For each operation and each phase; legal and illegal requests alike.
EXAMPLES_MAX = 10

# It leaves out the route that it has read the document from, and it would wait for the end of one
# that has none.
ENDLESS = "/events"
TESTED = len(ROUTES) - 2


@pytest.mark.slow
async def test_no_request_made_of_the_document_is_answered_against_it(tmp_path: Path) -> None:
    async with serving(tmp_path, "--durability", "memory") as server:
        process = await trio.run_process(
            [
                f"{Path(sys.executable).parent}/schemathesis",
                f"--config-file={ROOT}/tests/schemathesis.toml",
                "run",
                f"{server.url}/openapi.json",
                "--checks=all",
                f"--exclude-path={ENDLESS}",
                f"--max-examples={EXAMPLES_MAX}",
                "--generation-deterministic",
                "--continue-on-failure",
                "--no-color",
            ],
            cwd=tmp_path,
            env=os.environ
            | {"SCHEMATHESIS_HOOKS": "tests.schemathesis_hooks", "PYTHONPATH": str(ROOT)},
            capture_stdout=True,
            stderr=subprocess.STDOUT,
            check=False,
        )
        report = process.stdout.decode()

        assert process.returncode == 0, report
        assert f"Selected: {TESTED}/{TESTED + 1}\n  Tested: {TESTED}\n" in report, report
        assert server.events("request_failed") == []
        assert server.events("request_crashed") == []
        assert await server.stop() == 0
