"""One client: a callback protocol over the shared receive buffer.

Guarantee:  an idle connection keeps no buffer of its own; reading stops while a consumer of its messages lags, and writing
            while its own transport is full.
Not here:   parsing and framing (the engine), what a CONNECT may do (core).
"""

from __future__ import annotations

import asyncio
import random
import time
from typing import TYPE_CHECKING, Final

from streamd.core.access import NOBODY

if TYPE_CHECKING:
    from streamd.core.core import Core
    from streamd.core.info import Connect

#: How long a producer that outruns a consumer waits before it is read again.
STALL_SECONDS: Final = 0.005
#: The transport stops taking output above this; the rest waits in the engine, where max_pending bounds it.
TRANSPORT_BYTES_MAX: Final = 256 * 1024
#: The first PING comes early, as it measures the round trip.
FIRST_PING_SECONDS: Final = 2.0


class Connection(asyncio.BufferedProtocol):
    """The owner that the engine hands output to."""

    __slots__ = (
        "_deadline",
        "_left",
        "_paused",
        "_ping",
        "_received",
        "_stalled",
        "_waits_for_answer",
        "conn",
        "connect",
        "core",
        "login",
        "reason",
        "started_ns",
        "transport",
        "write",
    )

    def __init__(self, core: Core) -> None:
        self.core = core
        self.conn = 0
        self.connect: Connect | None = None
        self.login = NOBODY
        self.started_ns = time.time_ns()
        self.reason = "Client Closed"
        self._ping: asyncio.TimerHandle | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._left = 0
        self._received = 0
        self._paused = False
        self._stalled = False
        self._waits_for_answer = False

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.write = transport.write
        transport.set_write_buffer_limits(high=TRANSPORT_BYTES_MAX)
        self.core.admit(self)

    @property
    def peer(self) -> tuple[str, int]:
        """Address and port of the client, as seen here."""
        peer = self.transport.get_extra_info("peername")
        return (str(peer[0]), int(peer[1])) if isinstance(peer, tuple) else ("", 0)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self.core.receive_view

    def buffer_updated(self, nbytes: int) -> None:
        core = self.core
        core.turn(core.engine.feed(self.conn, core.receive_buffer, nbytes))

    def pause_writing(self) -> None:
        self._paused = True
        self.core.engine.pause(self.conn)
        self._left = self.transport.get_write_buffer_size()
        self._deadline = self.core.loop.call_later(self.core.limits.write_deadline_seconds, self._write_overdue)

    def resume_writing(self) -> None:
        self._paused = False
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        engine = self.core.engine
        engine.resume(self.conn)
        self.core.loop.call_soon(self._hand_over)

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None and self.reason == "Client Closed":
            self.reason = "Read Error"
        for timer in (self._ping, self._deadline):
            if timer is not None:
                timer.cancel()
        self.core.forget(self)

    # the core's side

    def start_pings(self) -> None:
        """Time the first PING: early, and spread so that many clients don't answer at once."""
        interval = self.core.limits.ping_interval_seconds
        first = min(FIRST_PING_SECONDS, interval) * (1 + random.random() * 0.2)
        self._ping = self.core.loop.call_later(first, self._ping_due)

    def stall(self) -> None:
        """Stop reading for a moment: a consumer of what this client publishes lags behind."""
        if not self._stalled and not self.transport.is_closing():
            self._stalled = True
            self._update_reading()
            self.core.loop.call_later(STALL_SECONDS, self._stall_over)

    def wait_for_answer(self, waits: bool) -> None:
        """While a CONNECT is being judged nothing more is read."""
        self._waits_for_answer = waits
        self._update_reading()

    def close(self, reason: str) -> None:
        """Close after what was written has left."""
        self.reason = reason
        if self._paused:
            self.transport.abort()
        else:
            self.transport.close()

    def _update_reading(self) -> None:
        if self.transport.is_closing():
            return
        if self._stalled or self._waits_for_answer:
            self.transport.pause_reading()
        else:
            self.transport.resume_reading()

    def _stall_over(self) -> None:
        self._stalled = False
        self._update_reading()

    def _hand_over(self) -> None:
        """Give the transport what waited in the engine, until it is full again."""
        core = self.core
        while not self._paused:
            turn = core.engine.flush()
            if turn is None:
                return
            core.turn(turn)

    def _write_overdue(self) -> None:
        """Nothing at all left within the write deadline: a slow consumer. Slow progress gets another deadline."""
        left = self.transport.get_write_buffer_size()
        if left < self._left:
            self._left = left
            self._deadline = self.core.loop.call_later(self.core.limits.write_deadline_seconds, self._write_overdue)
            return
        self._deadline = None
        self.core.slow_consumers += 1
        self.core.log.warning("cid:%d - Slow Consumer (Write Deadline)", self.conn)
        self.reason = "Slow Consumer (Write Deadline)"
        self.transport.abort()

    def _ping_due(self) -> None:
        core = self.core
        limits = core.limits
        unanswered, received = core.engine.activity(self.conn)
        if unanswered >= limits.ping_max:
            core.log.debug("cid:%d - Stale Connection", self.conn)
            core.engine.fail(self.conn, "Stale Connection", "Stale Connection")
        elif received == self._received or self.connect is None or self._received == 0:
            core.engine.ping(self.conn)
        self._received = received
        self._ping = core.loop.call_later(limits.ping_interval_seconds, self._ping_due)
        core.turn(core.engine.flush())
