"""Asking before campaigning, and when.

Why:  a campaign raises the term and deposes whoever leads, so a node that was cut off would disturb a healthy group. It asks
      first; those who hear of a leader don't answer. Asking costs nothing, so it is repeated soon; of two who ask at once one
      gives way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random

    from streamd.raft.net import NodeId
    from streamd.raft.options import Options

_NEVER = float("-inf")


class PreVote:
    """One node's side of it. Times are seconds."""

    def __init__(self, options: Options, rng: random.Random) -> None:
        self._rng = rng
        self._least = options.election_min_ns / 1e9
        self._hasty = options.hasty_election_ns / 1e9
        self._seen = _NEVER
        self._round = 0
        self._grants: set[NodeId] | None = None  # None: not asking
        self._ahead: set[NodeId] = set()  # who was told to go ahead, and nothing came of it so far

    # --- who leads

    def see(self, now: float) -> None:
        """The leader gave a sign of life."""
        self._seen = now
        self._grants = None
        if self._ahead:
            self._ahead.clear()

    def lose(self) -> None:
        """The link to the leader broke."""
        self._seen = _NEVER

    def leader_alive(self, now: float) -> bool:
        """Whether the group has a leader, to this follower's best knowledge."""
        return now - self._seen < 0.9 * self._least

    # --- asking

    def begin(self, me: NodeId) -> int:
        """Ask: returns the number by which answers are known."""
        self._round = self._rng.getrandbits(62)
        self._grants = {me}
        return self._round

    def granted(self, round_: int, voter: NodeId) -> int:
        """An answer. Returns how many there are; 0: it doesn't matter any more."""
        if self._grants is None or round_ != self._round:
            return 0
        self._grants.add(voter)
        return len(self._grants)

    def cancel(self) -> None:
        """Another one has this node's vote: answers don't matter any more."""
        self._grants = None
        self._ahead.clear()

    # --- how long to wait

    def again(self) -> float:
        """Before asking once more."""
        return self._rng.uniform(0.15, 0.4) * self._least

    def give_way(self, to: NodeId) -> float:
        """After another node was told to go ahead. Once: it may not reach a quorum, and ask for ever."""
        if to in self._ahead:
            return 0.0
        self._ahead.add(to)
        self._grants = None
        return self._rng.uniform(0.5, 0.8) * self._least

    def campaign(self) -> float:
        """For the outcome of a campaign."""
        self._grants = None
        return self._rng.uniform(0.5, 1.0) * self._least

    def hasty(self, *, second: bool) -> float:
        """When there is certainly no leader; or behind another node that does so."""
        return self._rng.uniform(0.0, self._hasty) + (self._hasty if second else 0.0)
