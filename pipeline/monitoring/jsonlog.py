"""One JSON object a line on standard error instead of text and progress bars: for log collectors.

Keys: `time` (UTC, ISO 8601), `level`, `logger`, `message`, and what else an event carries.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from datetime import datetime, timezone
from typing import Any

from pipeline.interrupt import heed

_OURS = ("fedplant", "ingestion", "pipeline", "models")
_KNOWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_PROGRESS_SECONDS = 10.0
LOG = logging.getLogger("fedplant")


class JsonLines(logging.Formatter):
    """A record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter.format`."""
        moment = datetime.fromtimestamp(record.created, timezone.utc)
        line: dict[str, Any] = {
            "time": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {name: value for name, value in vars(record).items() if name not in _KNOWN}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def begin() -> None:
    """Write what our own parts log, from level info, as JSON lines from now on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    for name in _OURS:
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(logging.INFO)
        logger.propagate = False


class LoggedBar:
    """Stands in for a progress bar: its first and last state, and one line every ten seconds between."""

    def __init__(self, title: str) -> None:
        self._title, self._said = title, 0.0
        self._state: dict[str, Any] = {}

    def update(self, done: float, total: float | None = None, note: str = "") -> None:
        """See `pipeline.cli.console.Bar.update`."""
        heed()
        self._state = {"done": done, "total": total, "note": note}
        if time.monotonic() - self._said >= _PROGRESS_SECONDS:
            self._said = time.monotonic()
            LOG.info(self._title, extra={"event": "progress", **self._state})

    def end(self) -> None:
        """The last state."""
        LOG.info(self._title, extra={"event": "done", **self._state})
