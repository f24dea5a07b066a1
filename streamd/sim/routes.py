"""The engine's routes over simulated connections: what `cluster/` does, without its handshake.

Guarantee:  a connection's bytes are the engine's own; interest and messages cross as they would between servers.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, cast

from streamd import _engine
from streamd._engine import Engine
from streamd.core.bus import Bus

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from streamd._engine import Turn
    from streamd.core.core import Core
    from streamd.raft.net import NodeId
    from streamd.sim.clock import NodeClock
    from streamd.sim.network import SimNet


class _Route:
    """The owner of a route's output."""

    def __init__(self, net: SimNet, node: NodeId, number: int) -> None:
        self._net = net
        self.node = node
        self.number = number
        self.conn = 0
        self.asked: deque[Callable[[], None]] = deque()  # who waits for a PONG

    def answered(self) -> None:
        """A PONG came, or never will."""
        self.asked.popleft()()

    def write(self, data: bytes | memoryview) -> None:
        """The engine's output."""
        self._net.stream(self.node, self.number, bytes(data))


class SimCore:
    """What the bus needs of the core, with routes for connections."""

    def __init__(self, clock: NodeClock, net: SimNet, rng: random.Random) -> None:
        self.engine = Engine(seed=rng.getrandbits(63))
        self.bus = Bus(cast("Core", self))
        self._clock = clock
        self._net = net
        self._routes: dict[NodeId, _Route] = {}
        self._flush_planned = False
        net.on_stream(self._connected, self._received)

    def flush_soon(self) -> None:
        """One flush once everything that is ready has run."""
        if not self._flush_planned:
            self._flush_planned = True
            self._clock.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_planned = False
        self.turn(self.engine.flush())

    def turn(self, turn: Turn) -> None:
        """Send output and pass events on, until nothing more follows from them."""
        while turn is not None:
            outputs, events = turn
            for owner, data in outputs:
                owner.write(data)
            if not events:
                return
            for kind, ident, detail in events:
                self._event(kind, ident, detail)
            turn = self.engine.flush()

    def _event(self, kind: int, ident: int, detail: object) -> None:
        if kind == _engine.TAP:
            binding = self.bus.binding_of(ident)
            if binding is not None:
                binding.dispatch()
        elif kind == _engine.INTEREST:
            self.bus.interest_changed(ident, bool(detail))
        elif kind == _engine.DRAINED:
            self.bus.drained(ident)
        elif kind == _engine.PONG:
            next(route for route in self._routes.values() if route.conn == ident).answered()

    # routes

    def echo(self, heard: Callable[[], None]) -> int:
        """As `Cluster.echo`."""
        for route in self._routes.values():
            self.engine.ping(route.conn)
            route.asked.append(heard)
        self.flush_soon()
        return len(self._routes)

    def _connected(self, node: NodeId, number: int | None) -> None:
        route = self._routes.pop(node, None)
        if route is not None:
            self.engine.close(route.conn)
            while route.asked:
                route.answered()
        if number is not None:
            route = self._routes[node] = _Route(self._net, node, number)
            route.conn = self.engine.open_route(route)
            self.engine.route_ready(route.conn, server_id=node)
        self.flush_soon()

    def _received(self, node: NodeId, number: int, data: bytes) -> None:
        route = self._routes.get(node)
        if route is not None and route.number == number:
            self.turn(self.engine.feed(route.conn, data, len(data)))
