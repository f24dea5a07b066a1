"""Log lines in nats-server's form, on stderr or in a file that can be reopened.

`[pid] YYYY/MM/DD hh:mm:ss.uuuuuu [INF] text`. Streamd logs through the stdlib logger `streamd` and its
children.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from typing import Final

TRACE: Final = 5
FATAL: Final = logging.CRITICAL

#: What lines of NATS Streaming begin with.
_STREAMING: Final = "STREAM: "
_LABELS: Final = {
    TRACE: "TRC",
    logging.DEBUG: "DBG",
    logging.INFO: "INF",
    logging.WARNING: "WRN",
    logging.ERROR: "ERR",
    FATAL: "FTL",
}


class LineFormatter(logging.Formatter):
    """One line a record; a traceback follows its line."""

    def __init__(self, *, logtime: bool = True, utc: bool = False) -> None:
        super().__init__()
        self._logtime = logtime
        self._split = time.gmtime if utc else time.localtime
        self._second = (-1, "")

    def format(self, record: logging.LogRecord) -> str:
        label = _LABELS.get(record.levelno, record.levelname)
        # The pid is read per line: a forked child must not sign with its parent's.
        line = f"[{os.getpid()}] {self._time(record.created)}[{label}] {record.getMessage()}"
        if record.exc_info and record.exc_info[0] is not None:
            line += "\n" + self.formatException(record.exc_info)
        return line

    def _time(self, created: float) -> str:
        if not self._logtime:
            return ""
        microseconds = int(created * 1_000_000)
        second, fraction = divmod(microseconds, 1_000_000)
        if self._second[0] != second:
            self._second = second, time.strftime("%Y/%m/%d %H:%M:%S", self._split(second))
        return f"{self._second[1]}.{fraction:06d} "


class Log:
    """The process's log. Errors: OSError from the constructor, if the file can't be opened."""

    def __init__(
        self, file: str = "", *, debug: bool = False, trace: bool = False, stan_debug: bool = False,
        logtime: bool = True, utc: bool = False,
    ) -> None:  # fmt: skip
        self.logger = logging.getLogger("streamd")
        self._file = file
        self._handler: logging.StreamHandler = (  # type: ignore[type-arg]
            logging.FileHandler(file, encoding="utf-8") if file else logging.StreamHandler(sys.stderr)
        )
        self._handler.setFormatter(LineFormatter(logtime=logtime, utc=utc))
        self.logger.propagate = False
        self.logger.addHandler(self._handler)
        # Tracing shows the protocol, debugging the server's own steps: either may be on without the other.
        self.logger.setLevel(TRACE if trace else logging.DEBUG if debug or stan_debug else logging.INFO)
        if not debug:
            self._handler.addFilter(
                lambda record: (
                    record.levelno != logging.DEBUG or (stan_debug and str(record.msg).startswith(_STREAMING))
                )
            )

    def reopen(self) -> None:
        """Opens the file anew, after someone moved it away."""
        if not isinstance(self._handler, logging.FileHandler):
            self.logger.info("File log re-open ignored, not a file logger")
            return
        self._handler.acquire()
        try:
            self._handler.close()
            # A closed FileHandler opens its file at the next line.
            self._handler._closed = False  # type: ignore[attr-defined]
        finally:
            self._handler.release()
        self.logger.info("File log re-opened")

    def close(self) -> None:
        self.logger.removeHandler(self._handler)
        self._handler.flush()
        if isinstance(self._handler, logging.FileHandler):
            self._handler.close()
