"""One TCP connection, of a client or of another server: a callback protocol over the shared receive buffer.

Guarantee:  an idle link keeps no buffer of its own; writing stops while its own transport is full, and the engine keeps the
            rest; without any progress in writing it is cut. Reading stops while a consumer of what it sends lags.
Not here:   parsing and framing (the engine), what is said on it (connection.py, the cluster's route.py).
"""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, ClassVar, Final

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from streamd.core.core import Core

#: The transport stops taking output above this; the rest waits in the engine, where max_pending bounds it.
TRANSPORT_BYTES_MAX: Final = 256 * 1024
#: How long a producer that outruns a consumer waits before it is read again.
STALL_SECONDS: Final = 0.005
LISTEN_BACKLOG: Final = 4096


async def listen(
    loop: asyncio.AbstractEventLoop,
    build: Callable[[], Link],
    host: str,
    port: int,
    *,
    tls: ssl.SSLContext | None = None,
    tls_seconds: float | None = None,
) -> asyncio.Server:
    """Bind a port (-1 or 0: a free one); nobody is accepted before `start_serving`. Errors: OSError."""
    bind_host = None if host in ("", "0.0.0.0", "::") else host
    return await loop.create_server(
        build,
        host if bind_host is None and host else bind_host,
        max(port, 0),
        family=socket.AF_UNSPEC if bind_host else socket.AF_INET,
        backlog=LISTEN_BACKLOG,
        ssl=tls,
        ssl_handshake_timeout=tls_seconds,
        start_serving=False,
    )


async def stop_accepting(listener: asyncio.Server) -> None:
    """Close a port: whom it had accepted has a link by then.

    asyncio makes the transport in a task of its own, which drops the connection without closing it once the port is closed.
    """
    loop = listener.get_loop()
    for bound in listener.sockets:
        loop.remove_reader(bound.fileno())
    for _ in range(2):  # the task begins, the link is made
        await asyncio.sleep(0)
    listener.close()


class Link(asyncio.BufferedProtocol):
    """The owner that the engine hands output to."""

    __slots__ = (
        "_deadline",
        "_left",
        "_paused",
        "_ping",
        "_received",
        "_stalled",
        "conn",
        "core",
        "reason",
        "transport",
        "write",
    )

    #: How the log names it.
    label: ClassVar[str] = "cid"

    def __init__(self, core: Core) -> None:
        self.core = core
        self.conn = 0
        self.reason = "Client Closed"
        self._ping: asyncio.TimerHandle | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._left = 0
        self._received = 0
        self._paused = False
        self._stalled = False

    # what each kind has of its own

    def opened(self) -> None:
        """The transport is there: take a place in the engine and greet."""
        raise NotImplementedError

    def lost(self) -> None:
        """The transport has gone."""
        raise NotImplementedError

    def on_connect(self, text: bytes) -> None:
        """The other side sent CONNECT."""
        raise NotImplementedError

    def on_info(self, text: bytes) -> None:
        """The other side sent INFO; only servers do."""

    def on_pong(self) -> None:
        """The other side answered a PING; told of servers only."""

    def on_stall(self) -> None:
        """What it sends outruns those that receive it: stop reading for a moment."""
        if not self._stalled and not self.transport.is_closing():
            self._stalled = True
            self.transport.pause_reading()
            self.core.loop.call_later(STALL_SECONDS, self._stall_over)

    def ping_anyway(self) -> bool:
        """Whether a PING is due though something was received since the last one."""
        return False

    def pings(self) -> tuple[float, int]:
        """(seconds between PINGs, how many may stay unanswered)."""
        limits = self.core.limits
        return limits.ping_interval_seconds, limits.ping_max

    def write_deadline_seconds(self) -> float:
        """How long writing may make no progress."""
        return self.core.limits.write_deadline_seconds

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.write = transport.write
        transport.set_write_buffer_limits(high=TRANSPORT_BYTES_MAX)
        self.opened()

    def get_buffer(self, sizehint: int) -> memoryview:
        return self.core.receive_view

    def buffer_updated(self, nbytes: int) -> None:
        core = self.core
        core.turn(core.engine.feed(self.conn, core.receive_buffer, nbytes))

    def pause_writing(self) -> None:
        self._paused = True
        self.core.engine.pause(self.conn)
        self._left = self.transport.get_write_buffer_size()
        self._deadline = self.core.loop.call_later(self.write_deadline_seconds(), self._write_overdue)

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
        self.lost()

    # the core's side

    def close(self, reason: str) -> None:
        """Close after what was written has left."""
        self.reason = reason
        if self._paused:
            self.transport.abort()
        else:
            self.transport.close()

    def cut(self, reason: str) -> None:
        """Close at once: the other side doesn't take what is written."""
        self.reason = reason
        self.transport.abort()

    def ping(self) -> int:
        """Ask whether the other side is there. Returns the bytes received before."""
        return self.core.engine.ping(self.conn)[1]

    def start_pings(self, first_seconds: float) -> None:
        """Time the first PING."""
        self._ping = self.core.loop.call_later(first_seconds, self._ping_due)

    def _stall_over(self) -> None:
        self._stalled = False
        if not self.transport.is_closing():
            self.transport.resume_reading()

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
            self._deadline = self.core.loop.call_later(self.write_deadline_seconds(), self._write_overdue)
            return
        self._deadline = None
        self.core.slow_consumers += 1
        self.core.log.warning("%s:%d - Slow Consumer (Write Deadline)", self.label, self.conn)
        self.cut("Slow Consumer (Write Deadline)")

    def _ping_due(self) -> None:
        core = self.core
        interval_seconds, unanswered_max = self.pings()
        unanswered, received = core.engine.activity(self.conn)
        if unanswered >= unanswered_max:
            core.log.debug("%s:%d - Stale Connection", self.label, self.conn)
            core.engine.fail(self.conn, "Stale Connection", "Stale Connection")
        elif received == self._received or self._received == 0 or self.ping_anyway():
            self.ping()
        self._received = received
        self._ping = core.loop.call_later(interval_seconds, self._ping_due)
        core.turn(core.engine.flush())
