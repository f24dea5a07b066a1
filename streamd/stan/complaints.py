"""What the log says of requests that are no good: who and why, as many lines as people can read.

Guarantee:  one client's rubbish, however much, neither fills the log nor hides that it was there: what isn't told is counted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from streamd.stan.names import shown

if TYPE_CHECKING:
    import logging

    from streamd.clock import Clock, Timer

#: So many lines may come at once; each takes so long to be made up for.
BURST: Final = 500
LINE_NS: Final = 200_000_000
#: When it is told how many had no line of their own.
COUNT_NS: Final = 1_000_000_000
#: So many characters of an argument are told.
TEXT_MAX: Final = 300


class Complaints:
    """Error lines of one service."""

    def __init__(self, log: logging.Logger, clock: Clock) -> None:
        self._log = log
        self._clock = clock
        self._paid_ns = 0  # all lines are made up for then
        self._untold = 0
        self._timer: Timer | None = None

    def tell(self, text: str, *arguments: object) -> None:
        """Log a line, or count it."""
        now_ns = self._clock.now_ns()
        paid_ns = max(self._paid_ns, now_ns) + LINE_NS
        if paid_ns - now_ns > BURST * LINE_NS:
            self.count(1)
            return
        self._paid_ns = paid_ns
        self._log.error(text, *map(_brief, arguments))

    def count(self, more: int) -> None:
        """So many more that get no line of their own."""
        self._untold += more
        if self._timer is None and more:
            self._timer = self._clock.call_later(COUNT_NS, self._tell_count)

    def _tell_count(self) -> None:
        self._timer = None
        self._log.error("STREAM: %d more requests were refused", self._untold)
        self._untold = 0

    def close(self) -> None:
        """Tell what is left."""
        if self._timer is not None:
            self._timer.cancel()
            self._tell_count()


def _brief(argument: object) -> object:
    if not isinstance(argument, str):
        return argument
    text = shown(argument[:TEXT_MAX])
    return text if len(argument) <= TEXT_MAX else f"{text}... ({len(argument)} characters)"
