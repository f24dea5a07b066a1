"""One connection to another server: its handshake, and then the engine's.

In the walk:  who accepts sends INFO; who dials sends CONNECT, PING and INFO at once, and takes the PONG for a welcome. The
              other's interest follows its reading of INFO, and so the PONG. With both INFOs read the cluster decides whether
              the connection carries messages or is one too many.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from typing import TYPE_CHECKING, ClassVar, Final

from streamd.cluster.greeting import Info, RouteConnect
from streamd.core.link import Link

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamd.cluster.dial import Target
    from streamd.cluster.mesh import Cluster

#: However rarely clients are asked, another server is asked so often at least.
PING_SECONDS_MAX: Final = 30.0
FIRST_PING_SECONDS: Final = 1.0


class Route(Link):
    """A link to another server.

    Shapes:  target: whom this server dialed, None if it was dialed. lane: it carries the system account alone.
             wanted: the id of the only server that will do, None if any will.
             info: what the other server said of itself, None until then.
    """

    label: ClassVar[str] = "rid"

    def __init__(
        self, cluster: Cluster, target: Target | None, *, lane: bool = False, wanted: str | None = None
    ) -> None:
        super().__init__(cluster.core)
        self.cluster = cluster
        self.target = target
        self.lane = lane
        self.wanted = wanted
        self.info: Info | None = None
        self.info_text = b""
        self.carried = False
        self.rtt_ns = 0
        self.to_self = False
        self.started_ns = self.active_ns = time.time_ns()
        self.address: tuple[str, int] = ("", 0)
        self.closed = asyncio.Event()
        self._welcome = False  # the dialer's CONNECT is in order
        self._admitted = False
        self._asked: deque[tuple[int, Callable[[], None] | None]] = deque()  # PINGs without a PONG: when, and who waits
        self._overdue: asyncio.TimerHandle | None = None

    @property
    def url(self) -> str:
        """Where the other server can be dialed, as it says itself or else as its connection comes from."""
        if self.info is not None and self.info.ip:
            return self.info.ip
        if self.target is not None:
            return self.target.url
        host, port = self.address[0], 0 if self.info is None else self.info.port
        return f"nats-route://[{host}]:{port}/" if ":" in host else f"nats-route://{host}:{port}/"

    # the link's side

    def opened(self) -> None:
        """Greet: a dialer doesn't wait for the other's INFO."""
        cluster, engine = self.cluster, self.core.engine
        peer = self.transport.get_extra_info("peername")
        self.address = (str(peer[0]), int(peer[1])) if isinstance(peer, tuple) else ("", 0)
        self.conn = engine.open_route(self)
        self.core.adopt(self)
        cluster.routes[self.conn] = self
        self.log("Route connection created")
        if self.target is not None:
            engine.write(self.conn, cluster.myself().connect(self.target.user, self.target.password))
            self.ping()
        engine.write(self.conn, cluster.myself().info(lane=self.lane))
        self._overdue = self.core.loop.call_later(cluster.handshake_seconds, self._not_in_time)
        self.start_pings(FIRST_PING_SECONDS * (1 + random.random() * 0.2))
        self.core.flush_soon()

    def lost(self) -> None:
        """Tell the cluster; whoever dialed may dial again."""
        if self._overdue is not None:
            self._overdue.cancel()
        self.log(f"Router connection closed: {self.reason}")
        self.core.drop(self)
        self.cluster.lost(self)
        self.closed.set()
        while self._asked:
            self._answered()

    def ping(self) -> int:
        """Ask, and measure how long the answer takes."""
        self._asked.append((time.monotonic_ns(), None))
        return super().ping()

    def echo(self, heard: Callable[[], None]) -> None:
        """Ask; `heard` is called once all has been read that the other side had sent when it answered, or the connection has
        gone. What it brought may not be dispatched by then."""
        self._asked.append((time.monotonic_ns(), heard))
        # Many of these at once don't mean that the other side is silent.
        self.core.engine.write(self.conn, b"PING\r\n")

    def _answered(self) -> None:
        asked_ns, heard = self._asked.popleft()
        self.rtt_ns = time.monotonic_ns() - asked_ns
        if heard is not None:
            heard()

    def buffer_updated(self, nbytes: int) -> None:
        self.active_ns = time.time_ns()
        super().buffer_updated(nbytes)

    def pings(self) -> tuple[float, int]:
        """As for clients unless the cluster block says otherwise, but often."""
        seconds, unanswered = super().pings()
        config = self.cluster.config
        if config.ping_interval_ns is not None:
            seconds = config.ping_interval_ns / 1e9
        return min(seconds, PING_SECONDS_MAX), unanswered if config.ping_max is None else config.ping_max

    def write_deadline_seconds(self) -> float:
        """As for clients unless the cluster block says otherwise."""
        deadline_ns = self.cluster.config.write_deadline_ns
        return super().write_deadline_seconds() if deadline_ns is None else deadline_ns / 1e9

    # the handshake

    def on_connect(self, text: bytes) -> None:
        """The dialer says who it is."""
        if self.target is not None:
            return self.fail(None, "Protocol Violation")
        try:
            connect = RouteConnect.read(text)
        except ValueError as error:
            self.core.log.debug("rid:%d - CONNECT refused: %s", self.conn, error)
            return self.fail(None, "Parse Error")
        if connect.lang:
            return self.fail("attempted to connect to route port", "Incorrect Port")
        if connect.gateway:
            text_ = f'Rejecting connection from gateway "{connect.gateway}" on the Route port'
            return self.fail(text_, "Wrong Gateway", log=True)
        if not self.cluster.authorized(connect.user, connect.password):
            self.core.log.error("rid:%d - authentication error - User %r", self.conn, connect.user)
            return self.fail("Authorization Violation", "Authentication Failure")
        if not self.cluster.agree(self, connect.name, connect.cluster, dynamic=connect.cluster_dynamic):
            return None
        self._welcome = True
        self.core.engine.route_welcome(self.conn)
        return None

    def on_pong(self) -> None:
        """Whoever was dialed has read the CONNECT before the PING."""
        if self._asked:
            self._answered()
        if self.target is not None and not self._welcome:
            self._welcome = True
            self._admit()

    def on_info(self, text: bytes) -> None:
        """The other server about itself, or about a third one."""
        try:
            info = Info.read(text)
        except ValueError as error:
            self.core.log.debug("rid:%d - INFO refused: %s", self.conn, error)
            return self.fail(None, "Parse Error")
        if self.target is None and not self._welcome:
            return self.fail("Authorization Violation", "Authentication Failure")
        if self.info is not None:
            self.cluster.told(self, info)
            return None
        if self.wanted not in (None, info.server_id):
            self.core.log.error(
                "rid:%d - %s leads to server %s, and not to %s", self.conn, self.url, info.server_id, self.wanted
            )
            return self.fail(None, "Wrong Server")
        self.info, self.info_text = info, text
        if info.server_id == self.cluster.server_id:
            self.to_self = True
            self.core.log.debug("rid:%d - Detected route to self, ignoring %s", self.conn, self.url)
            return self.fail(None, "Duplicate Route")
        # Who was dialed has agreed to the dialer's CONNECT already; an INFO without a name agrees to any.
        if info.cluster and not self.cluster.agree(self, info.server_id, info.cluster, dynamic=info.cluster_dynamic):
            return None
        if info.server_name == self.cluster.server_name:
            self.core.log.error('rid:%d - Remote server has a duplicate name: "%s"', self.conn, info.server_name)
            return self.fail(None, "Duplicate Server Name")
        self.lane = info.streamd_lane or self.lane
        self._admit()
        return None

    def _admit(self) -> None:
        if self._welcome and self.info is not None and not self._admitted:
            self._admitted = True
            if self._overdue is not None:
                self._overdue.cancel()
            self.cluster.admit(self)

    def fail(self, text: str | None, reason: str, *, log: bool = False) -> None:
        """Close, saying why. `log`: an operator has to do something."""
        if log and text is not None:
            self.core.log.error("rid:%d - %s", self.conn, text)
        # The engine has no say over what closes first: a reason once given stays.
        self.reason = reason
        self.core.engine.fail(self.conn, text, reason)
        self.core.flush_soon()

    def log(self, text: str) -> None:
        """A line about this connection, in nats-server's form."""
        host, port = self.address
        self.core.log.info("%s:%d - rid:%d - %s", host, port, self.conn, text)

    def _not_in_time(self) -> None:
        self.fail("Authentication Timeout", "Authentication Timeout")
