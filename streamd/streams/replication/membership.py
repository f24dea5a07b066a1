"""Who belongs to which group: leaders bring the members of their groups to what the meta group says, one step at a time.

Guarantee:  a node learns first, and votes once it has caught up; only then another goes. But one whose store is gone, so that
            another incarnation of its name is there, goes first: it can't ever vote again, and each voter like that is one more
            that the rest can't afford to lose.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from streamd.raft.errors import ChangeRefused, NotLeader
from streamd.state.meta import STREAMING_GROUP
from streamd.streams.replication.view import name_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamd.clock import Timer
    from streamd.raft.group import Group
    from streamd.raft.net import NodeId
    from streamd.streams.replication.node import Replication
    from streamd.streams.replication.replica import Replica

    HandOver = Callable[[NodeId | None, Callable[[bool], None]], None]

#: While something is to be done, leaders look so often.
STEP_NS: Final = 200_000_000
#: A learner that lacks no more entries than this may vote.
LAG_MAX: Final = 64
#: A leader gives a group back to the one that is to lead it only after so long, so that leaders don't wander at once.
SETTLED_NS: Final = 3_000_000_000
WANDERS: Final = "group.wanders"
TOLD_NS: Final = 1_000_000_000


class Membership:
    """The members of the groups that this server leads."""

    def __init__(self, replication: Replication) -> None:
        self._replication = replication
        self._clock = replication.services.clock
        self._timer: Timer | None = None
        self._handing: set[str] = set()
        self._wandered: set[str] = set()  # groups whose leader somebody moved by hand
        self._moved: dict[str, tuple[str, int]] = {}  # where another server answers that, and when it said so
        replication.net.serve(WANDERS, self._serve_wanders)

    def look(self) -> None:
        """Do the next step in every group."""
        replication = self._replication
        state = replication.meta.state
        busy = False
        if replication.meta.leading and state.nodes:
            meta = replication.meta.group
            wanted = state.members((*meta.config.voters, *meta.config.learners))
            busy |= self._tend(meta, wanted, meta.transfer)
        for replica in replication.replicas.values():
            plan = state.groups.get(replica.name)
            if plan is None or not replica.leading:
                continue
            wanted = {node for name in plan.names if (node := replication.node_named(name)) is not None}
            if wanted:
                busy |= self._tend(replica.group, wanted, replica.hand_over)
            self._hand_over(replica, replication.who_leads(plan))
        if busy and self._timer is None:
            self._timer = self._clock.call_later(STEP_NS, self._due)

    def wanders(self, group: str, reply: str) -> None:
        """Somebody moves the leader of a group, and hears of it at `reply`: nobody who leads it next moves it back, if they
        are told."""
        self._wandered.add(group)
        payload = f"{group}\0{reply}".encode(errors="surrogateescape")
        net = self._replication.net
        for node in sorted(net.linked()):
            net.call(node, WANDERS, payload, lambda _answer: None, timeout_ns=TOLD_NS)

    def moved_by(self, group: str, reply: str) -> bool:
        """Whether this very request has moved the leader already: it reaches all servers, the next leader perhaps only when it
        leads."""
        other, at_ns = self._moved.get(group, ("", 0))
        return bool(reply) and reply == other and self._clock.monotonic_ns() - at_ns < TOLD_NS

    def _serve_wanders(self, _node: NodeId, payload: bytes, answer: Callable[[bytes], None]) -> None:
        group, _, reply = payload.decode(errors="surrogateescape").partition("\0")
        self._wandered.add(group)
        self._moved[group] = (reply, self._clock.monotonic_ns())
        answer(b"ok")

    def _due(self) -> None:
        self._timer = None
        self.look()

    def _tend(self, group: Group, wanted: set[NodeId], hand_over: HandOver) -> bool:
        """The next step towards exactly these members. Returns whether there is one."""
        config = group.config
        members = {*config.voters, *config.learners}
        names = {name_of(node) for node in wanted}
        try:
            for node in sorted(members - wanted - {group.node}):
                if name_of(node) in names:
                    group.remove(node)
                    return True
            for node in sorted(wanted - members):
                group.add_learner(node)
                return True
            learners = sorted(wanted & {*config.learners})
            near = {each.node for each in group.status() if each.connected and each.lag <= LAG_MAX}
            for node in learners:
                if node in near:
                    group.promote(node, LAG_MAX)
                    return True
            if learners:
                return True
            for node in sorted(members - wanted):
                if node == group.node:
                    hand_over(None, lambda _done: None)
                else:
                    group.remove(node)
                return True
        except (ChangeRefused, NotLeader):
            return True
        return False

    def _hand_over(self, replica: Replica, preferred: NodeId | None) -> None:
        """Let the one lead that is to lead, so that each server leads its share."""
        group, since_ns = replica.group, replica.lead.since_ns
        if preferred is None or preferred == group.node or preferred not in group.config.voters:
            return
        wandered = group.name in self._wandered and group.name != STREAMING_GROUP
        if group.name in self._handing or wandered or self._clock.now_ns() - since_ns < SETTLED_NS:
            return
        status = next((each for each in group.status() if each.node == preferred), None)
        if status is None or not status.connected or status.lag > LAG_MAX:
            return
        self._handing.add(group.name)
        replica.hand_over(preferred, lambda _done: self._handing.discard(group.name))
