"""Time as an argument: the wall clock and timers that every room above is given."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import time
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable


class Timer(Protocol):
    """A call that will happen unless it is cancelled."""

    def cancel(self) -> None:
        """Forget the call; harmless once it has happened."""


class Clock(Protocol):
    """Nanoseconds since the epoch, and calls later."""

    def now_ns(self) -> int:
        """The time."""

    def monotonic_ns(self) -> int:
        """A time that nobody sets: for deadlines and ages."""

    def call_later(self, delay_ns: int, call: Callable[[], None]) -> Timer:
        """Call once after a delay."""

    def call_soon(self, call: Callable[[], None]) -> None:
        """Call once everything that is ready now has run."""


class LoopClock:
    """The clock of a running event loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        # Else each call takes a copy along.
        self._context = contextvars.copy_context()
        self.now_ns = time.time_ns
        self.monotonic_ns = time.monotonic_ns

    def call_later(self, delay_ns: int, call: Callable[[], None]) -> Timer:
        """Call once after a delay; at once if it is negative."""
        return self._loop.call_later(max(delay_ns, 0) / 1e9, call, context=self._context)

    def call_soon(self, call: Callable[[], None]) -> None:
        """Call in the next iteration of the loop."""
        self._loop.call_soon(call, context=self._context)


async def wait_for(event: asyncio.Event, timeout_seconds: float) -> None:
    """Wait for an event, but no longer than that."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(timeout_seconds):
            await event.wait()
