"""Which change of a configuration is safe.

Rules:  one voter at a time, and only once the configuration before is committed, so that any two quorums share a voter
        (Ongaro's thesis, 4.1, and the correction of 2015: not before the leader has committed an entry of its own term). A
        voter starts as a learner. The new quorum must be reachable, or nobody could undo the change.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

    from streamd.raft.config import Config
    from streamd.raft.net import NodeId


def refusal(config: Config, new: Config, me: NodeId, alive: Collection[NodeId]) -> str | None:
    """Why a leader may not go from one configuration to the other. `alive`: peers that answered lately."""
    if me not in new.voters:
        return "the leader can't leave: hand the leadership over first"
    if len(set(config.voters) ^ set(new.voters)) > 1:
        return "more than one voter would change"
    reachable = sum(1 for node in new.voters if node == me or node in alive)
    if set(new.voters) != set(config.voters) and reachable < new.quorum:
        return f"{reachable} of {len(new.voters)} voters would be reachable, and {new.quorum} are needed"
    return None
