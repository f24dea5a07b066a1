"""The event loop of the command: asyncio's own, with a selector that looks again for a moment before it sleeps.

Why:        waking a processor that sleeps takes longer than answering a request. A client that waits for each answer before
            its next request comes back within microseconds; finding it without a sleep halves its round trip. Go's
            scheduler, under nats-server, looks again likewise.
Guarantee:  it looks again only where the waits before let it expect a short one, for LOOK_SECONDS at most, and others may
            have the processor meanwhile: an idle server sleeps.
"""

from __future__ import annotations

import asyncio
import os
import selectors
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable
    from selectors import SelectorKey

#: How short a wait must be to be worth it.
LOOK_SECONDS: Final = 0.0001
#: What comes sooner was there already: that is no wait.
THERE_SECONDS: Final = 0.000_01


class EagerSelector(selectors.DefaultSelector):
    """The system's best selector, eager where it learnt that waits are short.

    A wait is predicted from the two before it, so that the two of a synced publish, a long one for the disk and a short one
    for the client, are told apart.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` gives seconds."""
        super().__init__()
        self._clock = clock
        self._last = 0  # which of the last two waits were short, a bit each
        self._short = [False] * 4  # by that: whether the next one was

    def select(self, timeout: float | None = None) -> list[tuple[SelectorKey, int]]:
        """As the base class."""
        if timeout is not None and timeout <= 0:
            return super().select(timeout)
        clock, last = self._clock, self._last
        began = clock()
        if self._short[last] and (timeout is None or timeout > LOOK_SECONDS):
            ready = self._look(began + LOOK_SECONDS) or super().select(timeout)
        else:
            ready = super().select(timeout)
        seconds = clock() - began
        if ready and seconds < THERE_SECONDS:
            return ready
        short = bool(ready) and seconds < LOOK_SECONDS
        self._short[last] = short
        self._last = (last << 1 | short) & 3
        return ready

    def _look(self, until: float) -> list[tuple[SelectorKey, int]]:
        """Look again and again for a moment."""
        select, clock = super().select, self._clock
        while not (ready := select(0)) and clock() < until:
            os.sched_yield()
        return ready


def new_event_loop() -> asyncio.AbstractEventLoop:
    """A loop for the thread that serves."""
    return asyncio.SelectorEventLoop(EagerSelector())
