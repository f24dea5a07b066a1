"""Whether a leader still leads: a round of appends that a quorum has answered since it was asked (read index)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamd.raft.config import Config
    from streamd.raft.net import NodeId


class Reads:
    """Who asked, and how far the rounds are."""

    def __init__(self) -> None:
        self.round = 0  # the number that appends carry
        self._heard: dict[NodeId, int] = {}
        self._waiting: list[tuple[int, Callable[[bool], None]]] = []
        self._sent = True

    @property
    def due(self) -> bool:
        """Whether a round has to be sent."""
        return not self._sent

    @property
    def waiting(self) -> bool:
        """Whether anybody does."""
        return bool(self._waiting)

    def ask(self, done: Callable[[bool], None]) -> None:
        """Tell somebody once a round that starts from now on is answered."""
        if self._sent:
            self.round += 1
            self._sent = False
        self._waiting.append((self.round, done))

    def sent(self) -> None:
        """Appends with the number of the round left."""
        self._sent = True

    def heard(self, node: NodeId, round_: int) -> None:
        """An answer of this leadership to an append of a round."""
        if self._waiting and round_ > self._heard.get(node, 0):
            self._heard[node] = round_

    def settle(self, config: Config, me: NodeId) -> None:
        """Tell those whose round is answered."""
        while self._waiting:
            round_, done = self._waiting[0]
            if not self._sent and round_ == self.round:
                return
            voters = sum(1 for node in config.voters if node == me or self._heard.get(node, 0) >= round_)
            if voters < config.quorum:
                return
            del self._waiting[0]
            done(True)

    def fail(self) -> None:
        """This node leads no more, or has just begun to."""
        waiting, self._waiting = self._waiting, []
        self._heard.clear()
        self._sent = True
        for _, done in waiting:
            done(False)
