"""Log lines in the journal with fields: `journalctl NODE=node1 ROLE=leader -o json`.

Where standard error is the journal's (systemd.exec(5), JOURNAL_STREAM), each line goes there in its native protocol, by
the package logging-journald, instead of as text: with the priority, so that colours and `journalctl -p warning` work,
with the place in the code, and with

    NODE, CLUSTER, DATACENTER      whose line it is
    ROLE, TERM, LEADER, COMMIT     what the node was, once it runs
    LOGGER, THREAD_NAME, TRACEBACK

When the journal does not take it (it is being restarted), the line goes to standard error, so none is lost.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping
from typing import Final

from logging_journald import JournaldTransport, check_journal_stream

IDENTIFIER: Final = "rocinante"
_PRIORITY: Final = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
_DEBUG: Final = 7

Fields = Mapping[str, str | int]


def nothing() -> Fields:
    """No fields."""
    return {}


class JournalHandler(logging.Handler):
    """See the module. `fields` may be set at any time; it is asked for each line, on the thread that logs."""

    def __init__(self) -> None:
        super().__init__()
        # Not connected: the journal may be restarted, and its socket is then another one.
        self._transport = JournaldTransport(connected=False)
        self.fields: Callable[[], Fields] = nothing

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._transport.send(list(self._pairs(record).items()))
        except OSError:
            print(f"{record.levelname:7} {record.name}: {self.format(record)}", file=sys.stderr)

    def _pairs(self, record: logging.LogRecord) -> dict[str, str | int]:
        pairs: dict[str, str | int] = {
            "MESSAGE": record.getMessage(),
            "PRIORITY": next((number for level, number in _PRIORITY if record.levelno >= level), _DEBUG),
            "SYSLOG_IDENTIFIER": IDENTIFIER,
            "LOGGER": record.name,
            "THREAD_NAME": record.threadName or "",
            "CODE_FILE": record.pathname,
            "CODE_LINE": record.lineno,
            "CODE_FUNC": record.funcName or "",
        }
        if record.exc_info and record.exc_info[0] is not None:
            pairs["TRACEBACK"] = logging.Formatter().formatException(record.exc_info)
            pairs["MESSAGE"] = f"{pairs['MESSAGE']}: {record.exc_info[0].__name__}: {record.exc_info[1]}"
        return pairs | dict(self.fields())


def journal_handler() -> JournalHandler | None:
    """A handler, where standard error is the journal's."""
    try:
        return JournalHandler() if check_journal_stream() else None
    except (OSError, ValueError):
        return None
