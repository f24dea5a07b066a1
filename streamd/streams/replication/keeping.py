"""Requests that wait here because nobody serves what they are about, and what becomes of them.

Guarantee:  a request that this server keeps is served before later ones once this server leads the group, in the order of
            arrival. Once another server leads it, its copies are for nobody: that one has its own. A request that came to the
            leader goes on to the next one instead, as the others may have left it to this server.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamd.clock import Clock, Timer
    from streamd.streams.api import Call

#: Requests that are kept, and how often they are looked at.
KEPT_MAX: Final = 10_000
AGAIN_NS: Final = 50_000_000


class Kept(NamedTuple):
    """How a request came to wait first."""

    group: str  # "": that of no replicas
    term: int  # of the last entry in the group's log then
    since_ns: int  # by the clock that never jumps


class Keeping:
    """Requests by the group that they wait for."""

    def __init__(self, clock: Clock, serve: Callable[[Call], None]) -> None:
        """`serve`: looks at a request again; it may keep it once more."""
        self._clock = clock
        self._serve = serve
        self._calls: dict[str, list[Call]] = {}
        self._count = 0
        self._timer: Timer | None = None

    def keep(self, call: Call, group: str, term: int) -> bool:
        """Keep a request. Returns False if there are too many."""
        if self._count >= KEPT_MAX:
            return False
        self._count += 1
        call.kept = call.kept or Kept(group, term, self._clock.monotonic_ns())
        self._calls.setdefault(group, []).append(call)
        if self._timer is None:
            self._timer = self._clock.call_later(AGAIN_NS, self._due)
        return True

    def _take(self, group: str) -> list[Call]:
        calls = self._calls.pop(group, [])
        self._count -= len(calls)
        return calls

    def look(self, group: str) -> None:
        """Who leads a group has changed: what waits for that is served at once, or is for nobody here."""
        for call in self._take(group):
            self._clock.call_soon(partial(self._serve, call))

    def _due(self) -> None:
        self._timer = None
        for group in list(self._calls):
            self.look(group)

    def close(self) -> None:
        """The server stops."""
        if self._timer is not None:
            self._timer.cancel()
        self._calls.clear()
