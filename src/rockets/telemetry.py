"""Logs: structured lines on standard error, readable on a terminal and JSON elsewhere.

The catalogue of events is below; the names are for ever, like an API.
"""

import logging
import sys
from typing import Literal

import structlog

LogLevel = Literal["debug", "info", "warning", "error"]

# event -> what it says. A test holds the code against this table.
EVENTS: dict[str, str] = {
    "accept_paused": "Descriptors or memory ran out; accepting goes on after a pause.",
    "actor_crashed": "A rocket's actor failed; its senders got 503, its next message restores it.",
    "checkpoint": "The ledgers of all changed rockets were kept; a start goes on from there.",
    "checkpoint_failed": "The journal did not take ledgers; the next round goes on with the rest.",
    "checkpoint_given_up": "A stop had no time for all ledgers; the next start takes longer.",
    "connection_failed": "A bug ended one connection.",
    "connections_cut": "A stop took long; the connections still busy were closed without answer.",
    "descriptors_few": "The descriptor limit is low; fewer connections fit than usual.",
    "journal_behind": "The store holds less than it did, or is another one; the process ends.",
    "journal_failed": "Storage is in doubt; nothing more is acknowledged and the process ends.",
    "journal_moved": "An old database was moved aside by --fresh.",
    "ledgers_dropped": "The kept ledgers were damaged; all are folded from the messages again.",
    "ledgers_recovered": "Ledgers and the records behind them were read; the state is complete.",
    "parent_gone": "The parent of this worker has ended without stopping it; the worker stops.",
    "pruned": "Messages that need not be kept any longer were removed; nobody sees them again.",
    "pruning_failed": "The journal did not prune; what is left goes the next time.",
    "rejection_not_removed": "A retried message is stored, its rejection stayed in the list.",
    "rejections_not_kept": "The journal could not take rejections; they are only counted.",
    "request_crashed": "A bug below the application ended one request.",
    "request_failed": "A bug in a handler; the client got 500.",
    "rocket_table_failed": "A bug in the table of long lists; the next list makes it anew.",
    "squad_crashed": "A squad of rockets failed; its senders got 503, each rocket restores itself.",
    "started": "The port is open.",
    "stop_forced": "Stopping took longer than the grace period; the process ends at once.",
    "stopped": "The process ends.",
    "stopping": "No new connections; what runs is answered.",
    "store_awaited": "The store that instances share is not there yet; the start waits for it.",
    "store_reached": "The store that instances share can be asked again.",
    "store_unreachable": "The store that instances share cannot be asked; reads get 503.",
    "worker_ended": "A worker ended, below 0 by that signal; it is started again.",
}


def set_up_logs(level: LogLevel) -> None:
    """Send structlog and the standard library's logging to standard error, one line each."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    console = sys.stderr.isatty()
    last: list[structlog.typing.Processor] = (
        [structlog.dev.ConsoleRenderer()]
        if console
        else [structlog.processors.dict_tracebacks, structlog.processors.JSONRenderer()]
    )
    number = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[*shared, *last],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    logging.basicConfig(handlers=[handler], level=max(number, logging.WARNING), force=True)
