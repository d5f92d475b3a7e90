"""One worker of `rockets serve --workers`, which runs `python -m rockets.cli.worker LINE N/ALL`.

LINE is the descriptor on which the order comes; N/ALL is for whoever reads a list of processes.
"""

import sys
from functools import partial

import structlog

from rockets.cli.serve import run
from rockets.server import serve
from rockets.telemetry import set_up_logs
from rockets.worker import Worker


def main() -> None:
    """Serve until the parent ends this, and exit with the code that tells it why."""
    worker = Worker.begin(int(sys.argv[1]))
    set_up_logs(worker.settings.log_level)
    structlog.contextvars.bind_contextvars(worker=worker.index + 1)
    run(partial(serve, worker.settings, worker=worker, started=worker.tell_ready))


if __name__ == "__main__":
    main()
