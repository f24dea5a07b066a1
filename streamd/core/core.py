"""The core: one engine, its connections, and the turns between them.

Place in the walk: a connection feeds bytes, the engine answers with a turn (output and events), `Core.turn` writes the
output and passes the events on. Nothing here works per message.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from streamd import _engine
from streamd._engine import Engine
from streamd.clock import wait_for
from streamd.core.access import DEFAULT_ACCOUNT, Access
from streamd.core.bus import Bus
from streamd.core.connection import Connection
from streamd.core.info import Connect, Identity
from streamd.core.link import listen, stop_accepting

if TYPE_CHECKING:
    import logging
    from collections.abc import AsyncIterator, Callable, Coroutine, Mapping

    from streamd._engine import Turn
    from streamd.core.bus import Binding
    from streamd.core.link import Link

#: All plain connections read into one buffer: the engine has consumed it before the callback returns.
RECEIVE_BYTES: Final = 512 * 1024


@dataclass(frozen=True, slots=True)
class CoreLimits:
    """What a client may cost. Units are in the names."""

    max_connections: int = 65536
    max_payload_bytes: int = 1 << 20
    max_control_line_bytes: int = 4096
    max_pending_bytes: int = 64 << 20
    max_subscriptions: int = 0
    max_subscription_tokens: int = 0
    ping_interval_seconds: float = 120.0
    ping_max: int = 2
    write_deadline_seconds: float = 10.0
    auth_timeout_seconds: float = 2.0
    producer_stall: bool = True


class Core:
    """Listeners, connections and the service bus over one engine."""

    def __init__(
        self,
        limits: CoreLimits,
        *,
        log: logging.Logger,
        access: Access | None = None,
        headers: bool = True,
    ) -> None:
        """`access` decides on a CONNECT; None lets everybody in, even without one."""
        self.limits = limits
        self.log = log
        self.loop = asyncio.get_running_loop()
        self.receive_buffer = bytearray(RECEIVE_BYTES)
        self.receive_view = memoryview(self.receive_buffer)
        self.engine = Engine(
            max_payload=limits.max_payload_bytes,
            max_control_line=limits.max_control_line_bytes,
            max_pending=limits.max_pending_bytes,
            max_subscriptions=limits.max_subscriptions,
            max_subscription_tokens=limits.max_subscription_tokens,
        )
        self.bus = Bus(self)
        self.identity: Identity | None = None
        self.access = access or Access()
        self.headers = headers
        self.total_connections = 0
        self.slow_consumers = 0
        self.stale_connections = 0
        self._links: dict[int, Link] = {}  # clients' and routes', as the engine numbers them
        self._connections: dict[int, Connection] = {}  # the clients among them
        self._listener: asyncio.Server | None = None
        self._flush_planned = False
        self._flush_follows = False  # events are being handled, and the engine is flushed behind them
        self._all_gone = asyncio.Event()
        self._handlers: dict[int, Callable[[int, Any], None]] = {
            _engine.CONNECT: self._on_connect,
            _engine.INFO: self._on_info,
            _engine.PONG: self._on_pong,
            _engine.CLOSE: self._on_close,
            _engine.TAP: self._on_tap,
            _engine.FILLING: self._on_filling,
            _engine.INTEREST: self.bus.interest_changed,
            _engine.STALL: self._on_stall,
            _engine.DRAINED: self._on_drained,
        }

    # life

    async def listen(self, host: str, port: int) -> tuple[str, int]:
        """Bind the client port (-1 or 0: a free one). Clients are served from `serve` on. Returns host and port.

        Errors: OSError if the address can't be bound.
        """
        self._listener = await listen(self.loop, lambda: Connection(self), host, port)
        return host, int(self._listener.sockets[0].getsockname()[1])

    async def serve(self, identity: Identity) -> None:
        """Let clients in. Later changes of the identity are told by `announce`."""
        self.identity = identity
        assert self._listener is not None
        await self._listener.start_serving()

    async def close(self, timeout_seconds: float = 2.0) -> None:
        """Stop accepting, write out what is pending, close every client; those that don't read are cut at the timeout."""
        if self._listener is not None:
            await stop_accepting(self._listener)
        self.turn(self.engine.flush())
        for connection in list(self._connections.values()):
            connection.close("Server Shutdown")
        if self._connections:
            await wait_for(self._all_gone, timeout_seconds)
        for connection in list(self._connections.values()):
            connection.transport.abort()
        await asyncio.sleep(0)

    def announce(self, identity: Identity) -> None:
        """The server has something new to say of itself: clients that understand a later INFO get one."""
        self.identity = identity
        for connection in self._connections.values():
            connect = connection.connect
            if connect is not None and connect.protocol >= 1:
                self.engine.announce(connection.conn, identity.line(connection.conn, connection.client_ip))
        self.flush_soon()

    @contextlib.asynccontextmanager
    async def beside(
        self,
        work: Coroutine[Any, Any, None],
        failed: Callable[[Exception], None],
        stop: Callable[[], None] | None = None,
    ) -> AsyncIterator[None]:
        """Work that goes on until the block is left, which asks it to `stop` or cancels it; `failed` hears why it couldn't.

        No task group: servers of one program may end in any order, each in any task.
        """

        def ended(task: asyncio.Task[None]) -> None:
            if not task.cancelled() and isinstance(error := task.exception(), Exception):
                failed(error)

        task = self.loop.create_task(work)
        task.add_done_callback(ended)
        try:
            yield
        finally:
            (stop or task.cancel)()
            await asyncio.wait([task])

    # turns

    def turn(self, turn: Turn) -> None:
        """Write the output of an engine call and pass its events on, until nothing more follows from them."""
        while turn is not None:
            outputs, events = turn
            for owner, data in outputs:
                owner.write(data)
            if not events:
                return
            self._flush_follows = True
            try:
                for kind, ident, detail in events:
                    self._handlers[kind](ident, detail)
            finally:
                self._flush_follows = False
            turn = self.engine.flush()

    def flush_soon(self) -> None:
        """One flush at the end of this loop iteration or sooner, however often it is asked for."""
        if not self._flush_planned and not self._flush_follows:
            self._flush_planned = True
            self.loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_planned = False
        self.turn(self.engine.flush())

    # connections

    def adopt(self, link: Link) -> None:
        """Pass the engine's events about a link on to it, from now on."""
        self._links[link.conn] = link

    def drop(self, link: Link) -> None:
        """A link's transport has gone."""
        self.engine.close(link.conn)
        self._links.pop(link.conn, None)
        self.flush_soon()

    def admit(self, connection: Connection) -> None:
        """A client has connected: greet it, or refuse it when there are too many."""
        assert self.identity is not None
        self.total_connections += 1
        full = len(self._connections) >= self.limits.max_connections
        access = self.access
        conn = self.engine.open(connection, DEFAULT_ACCOUNT, b"", auth_required=not access.anonymous)
        connection.conn = conn
        self.adopt(connection)
        self._connections[conn] = connection
        self._all_gone.clear()
        connection.write(self.identity.line(conn, connection.client_ip))
        if full:
            self.log.error("cid:%d - maximum connections exceeded", conn)
            self.engine.fail(conn, "maximum connections exceeded", "Maximum Connections Exceeded")
            self.flush_soon()
            return
        connection.greet_with_ping()
        if access.required:
            self.loop.call_later(self.limits.auth_timeout_seconds, self._auth_overdue, connection)

    def forget(self, connection: Connection) -> None:
        """A client has gone."""
        self.log.debug("cid:%d - Client connection closed: %s", connection.conn, connection.reason)
        self.drop(connection)
        self._connections.pop(connection.conn, None)
        if not self._connections:
            self._all_gone.set()

    def _auth_overdue(self, connection: Connection) -> None:
        if connection.conn not in self._connections or connection.connect is not None:
            return
        _unanswered, received = self.engine.activity(connection.conn)
        if not (self.access.anonymous and received):
            self.engine.fail(connection.conn, "Authentication Timeout", "Authentication Timeout")
            self.flush_soon()

    def judge(self, connection: Connection, text: bytes) -> None:
        """Decide on a client's CONNECT."""
        conn = connection.conn
        try:
            connect = (connection.connect or Connect()).updated(text)
        except ValueError as error:
            self.log.debug("cid:%d - CONNECT refused: %s", conn, error)
            self.engine.fail(conn, None, "Parse Error")
            return
        headers = connect.headers and self.headers
        if connect.protocol not in (0, 1):
            self.engine.fail(conn, "invalid client protocol", "Bad Client Protocol Version")
        elif connect.no_responders and not headers:
            text_ = "no responders requires headers support"
            self.engine.fail(conn, text_, "No Responders Requires Headers")
        elif (login := self.access.login(connect)) is None:
            self.log.error("cid:%d - authentication error - User %r", conn, connect.user)
            self.engine.fail(conn, "Authorization Violation", "Authentication Failure")
        else:
            first = connection.connect is None
            connection.connect = connect
            connection.login = login
            assert self.identity is not None
            after_pong = b""
            if first and connect.protocol >= 1:
                after_pong = self.identity.line(conn, connection.peer[0], connect_info=True, **login.told())
            self.turn(
                self.engine.connected(
                    conn,
                    account=login.account,
                    verbose=connect.verbose,
                    pedantic=connect.pedantic,
                    echo=connect.echo,
                    headers=headers,
                    no_responders=connect.no_responders,
                    after_pong=after_pong,
                )
            )

    # events

    def _on_connect(self, conn: int, text: bytes) -> None:
        link = self._links.get(conn)
        if link is not None:
            link.on_connect(text)

    def _on_info(self, conn: int, text: bytes) -> None:
        link = self._links.get(conn)
        if link is not None:
            link.on_info(text)

    def _on_pong(self, conn: int, _detail: None) -> None:
        link = self._links.get(conn)
        if link is not None:
            link.on_pong()

    def _on_close(self, conn: int, reason: str) -> None:
        link = self._links.get(conn)
        if link is None:
            return
        if reason.startswith("Slow Consumer"):
            self.slow_consumers += 1
            self.log.warning("%s:%d - %s", link.label, conn, reason)
            link.cut(reason)
            return
        if reason == "Stale Connection":
            self.stale_connections += 1
            # Its -ERR has been written, and the system sends what it took. What it didn't take would be waited for as long as
            # the system goes on sending to a machine that is dead: a quarter of an hour.
            link.cut(reason)
            return
        link.close(reason)

    def _on_tap(self, tap: int, _detail: None) -> None:
        binding = self.bus.binding_of(tap)
        if binding is not None:
            self._serve(binding, binding.dispatch)

    def _on_filling(self, tap: int, _detail: None) -> None:
        binding = self.bus.binding_of(tap)
        if binding is not None and binding.on_filling is not None:
            self._serve(binding, binding.on_filling)

    def _serve(self, binding: Binding, call: Callable[[], None]) -> None:
        """Call a service; what it doesn't catch is told, and costs no client its connection."""
        try:
            call()
        except Exception as error:
            self.log.error("service on account %s failed: %r", binding.account, error, exc_info=True)

    def _on_stall(self, conn: int, _detail: None) -> None:
        link = self._links.get(conn)
        if link is not None:
            link.on_stall()

    def _on_drained(self, conn: int, _detail: None) -> None:
        self.bus.drained(conn)

    # what it can say of itself

    @property
    def num_connections(self) -> int:
        """Clients now."""
        return len(self._connections)

    @property
    def connections(self) -> Mapping[int, Connection]:
        """The clients of this server, by conn."""
        return self._connections
