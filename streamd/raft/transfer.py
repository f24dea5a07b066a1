"""Handing a leadership over: stop proposals, wait until the successor has everything, tell it to campaign."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from streamd.raft.net import NodeId
    from streamd.raft.options import Options
    from streamd.raft.sending import Progress

_NEVER = float("inf")
_LONG_AGO = float("-inf")


class Transfer:
    """At most one at a time. Times are seconds."""

    def __init__(self, options: Options) -> None:
        self._limit = options.transfer_ns / 1e9
        self._step = options.transfer_step_ns / 1e9
        self._repeat = options.transfer_repeat_ns / 1e9
        self._to: NodeId | None = None
        self._done: Callable[[bool], None] | None = None
        self._until = 0.0
        self._told = _LONG_AGO
        self.next = _NEVER  # when to look again
        self.succeeded = False  # the last leadership ended by one

    @property
    def under_way(self) -> bool:
        """Whether proposals have to wait."""
        return self._done is not None

    def begin(self, now: float, to: NodeId | None, done: Callable[[bool], None]) -> None:
        """Hand over to a node, or to whoever is furthest."""
        self._to, self._done = to, done
        self._until = now + self._limit
        self._told = _LONG_AGO
        self.next = now

    def step(self, now: float, peers: Iterable[Progress], last: int) -> NodeId | None:
        """Who is to be told to campaign now, if anyone; ends it when it took too long."""
        if now < self.next:
            return None
        if now >= self._until:
            self.end(success=False)
            return None
        self.next = now + self._step
        voters = [peer for peer in peers if peer.voter and self._to in (None, peer.node)]
        best = max(voters, key=lambda peer: (peer.match, peer.heard, peer.node), default=None)
        if best is None or best.match < last or now < self._told + self._repeat:
            return None
        self._told = now
        return best.node

    def end(self, *, success: bool) -> None:
        """This node leads no more, or still does after all."""
        done, self._done = self._done, None
        self.next = _NEVER
        if done is not None:
            self.succeeded = success
            done(success)
