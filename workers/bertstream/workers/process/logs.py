"""Write structured logs on stderr: for people on a terminal, else one JSON object a line. Users' texts never go in.

Where the lines are JSON, everything that a process writes on stderr is. What libraries write by themselves in a child
is read and logged by its supervisor (strays.py), so the child's own lines go to the descriptor that LOG_FD names.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from types import TracebackType
from typing import Any, TextIO

log = logging.getLogger(__name__)

LOG_FD = "BERTSTREAM_LOG_FD"  # in the environment of children
_STANDARD = set(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def structured() -> bool:
    """Return whether this process's standard error is read by programs, and so gets nothing but JSON."""
    return not sys.stderr.isatty()


def setup(process: str, level: str = "info") -> None:
    """Configure the root logger of this process, which is called `process` in each line."""
    handler = logging.StreamHandler(_stream())
    handler.setFormatter(JsonFormatter(process) if structured() else HumanFormatter(process))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(True)
    sys.excepthook = _log_exception


def _stream() -> TextIO:
    """Return the stream for lines: the supervisor's, for a child whose own standard error its supervisor reads."""
    given = os.environ.pop(LOG_FD, "")
    if not given:
        return sys.stderr
    os.set_inheritable(int(given), False)  # this descriptor is for this process alone, whatever it starts
    return open(int(given), "w", encoding="utf-8", errors="backslashreplace", buffering=1)  # noqa: PTH123


def _log_exception(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt) or not structured():
        sys.__excepthook__(kind, error, traceback)
    else:
        log.critical("the process failed", exc_info=(kind, error, traceback))


def _extra(record: logging.LogRecord) -> dict[str, Any]:
    return {key: value for key, value in vars(record).items() if key not in _STANDARD}


class JsonFormatter(logging.Formatter):
    """Format a record as one JSON object."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03}Z",
            "level": record.levelname.lower(),
            "process": self._process,
            "logger": record.name,
            "message": record.getMessage(),
            **_extra(record),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


class HumanFormatter(logging.Formatter):
    """Format a record as `12:30:01 frontend  warning  message  key=value`."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        extra = "".join(f"  {key}={value}" for key, value in _extra(record).items())
        line = f"{clock} {self._process:<10} {record.levelname.lower():<8} {record.getMessage()}{extra}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line
