"""Another server, and its connections to this one: which of them carries, and which are one too many.

Two servers that dial each other at once get two connections, and both must use the same one from the first message on. Of two
streamd servers the one with the smaller id chooses: it says on a connection that this one carries before it sends anything
else there, and the other one sends nothing before it has read that. A nats-server keeps the one it saw first, and closes
others: beside it what comes later is held ready for when the first one goes.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from streamd.cluster.greeting import Info
    from streamd.cluster.route import Route
    from streamd.core.core import Core
    from streamd.raft.net import NodeId

#: How long a connection that carries has to show that it lives when another one comes.
PROOF_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class Peer:
    """Another server of the cluster. Shapes: node None: it is no streamd with JetStream."""

    server_id: str
    server_name: str
    node: NodeId | None


class Slot:
    """Connections of one kind to one server."""

    def __init__(self, core: Core, own_id: str, info: Info) -> None:
        self._core = core
        self._streamd = bool(info.streamd)
        self._chooses = not self._streamd or own_id < info.server_id
        self.carrying: Route | None = None
        self._waiting: list[Route] = []

    @property
    def says(self) -> bool:
        """Whether the other server has to be told which connection carries."""
        return self._streamd and self._chooses

    @property
    def empty(self) -> bool:
        """Whether there is no connection at all."""
        return self.carrying is None and not self._waiting

    def offer(self, route: Route) -> bool:
        """A connection has made its handshake. True: it is to carry."""
        before = self.carrying
        if before is None and self._chooses:
            self.carrying = route
            return True
        self._waiting.append(route)
        if before is not None and self.says:
            received = before.ping()
            self._core.flush_soon()
            self._core.loop.call_later(PROOF_SECONDS, self._settle, before, received)
        return False

    def waits(self, route: Route) -> bool:
        """Whether the other server may choose a connection now."""
        return not self._chooses and route in self._waiting

    def chosen(self, route: Route) -> None:
        """The other server has chosen a connection that waits; none carries."""
        self._waiting.remove(route)
        self.carrying = route

    def lost(self, route: Route) -> bool:
        """A connection has gone. True: it carried. The one that carries now, if there is one, is `carrying`."""
        if route is not self.carrying:
            if route in self._waiting:
                self._waiting.remove(route)
            return False
        self.carrying = self._waiting.pop(0) if self._waiting and self._chooses else None
        return True

    def cut(self, reason: str) -> None:
        """All of them at once: none is to carry in place of another."""
        waiting, self._waiting = self._waiting, []
        for route in waiting if self.carrying is None else (self.carrying, *waiting):
            route.cut(reason)

    def _settle(self, carrying: Route, received: int) -> None:
        """The connection that carries is dead, and another one goes on; or it has answered, and those are one too many."""
        if carrying is not self.carrying or not self._waiting:
            return
        if self._core.engine.activity(carrying.conn)[1] == received:
            carrying.cut("Stale Connection")
        else:
            for route in self._waiting:
                route.fail(None, "Duplicate Route")


class Remote:
    """Another server that is connected, or whose lane is."""

    def __init__(self, core: Core, info: Info, own_id: str) -> None:
        self.info = info
        self.peer = Peer(info.server_id, info.server_name, info.streamd_node or None)
        self.main = Slot(core, own_id, info)
        self.lane = Slot(core, own_id, info)
        self.gone = asyncio.Event()  # set when nothing carries its messages any more
        self.lane_dialer: asyncio.Task[None] | None = None

    @property
    def empty(self) -> bool:
        """Whether there is no connection to it at all."""
        return self.main.empty and self.lane.empty

    def slot(self, route: Route) -> Slot:
        """Where a connection of its own belongs."""
        return self.lane if route.lane else self.main

    def cut(self, reason: str) -> None:
        """Close all its connections at once."""
        self.main.cut(reason)
        self.lane.cut(reason)

    def stop_lane_dialer(self) -> None:
        """The route it stood beside has gone."""
        if self.lane_dialer is not None:
            self.lane_dialer.cancel()
            self.lane_dialer = None
