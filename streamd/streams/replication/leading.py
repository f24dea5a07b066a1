"""Whether this node serves a group's streams, and what becomes of publishes while nobody does.

Guarantee:  streams are served once everything that an earlier leader committed is applied here. While the group has no leader,
            every replica keeps what is published: the next leader stores its own copy, the others drop theirs. Who waits longer
            than `PATIENCE_NS` is told why.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final

from streamd.api.errors import ApiError
from streamd.streams.kept_pulls import LEADERSHIP_CHANGE

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamd._engine import Batch
    from streamd.clock import Timer
    from streamd.raft.net import NodeId
    from streamd.streams.consumer import Consumer
    from streamd.streams.replication.replica import Replica
    from streamd.streams.shelf import Shelf
    from streamd.streams.stream import Stream

#: Publishes wait so long for a new leader; an election takes a fraction of that.
PATIENCE_NS: Final = 2_000_000_000
#: A leader that lost touch with the others has waited for them already.
LOST_NS: Final = 800_000_000
#: And are looked at again so often.
PATIENCE_STEP_NS: Final = 500_000_000
#: What came to a leader that steps down goes on to the next, unless that takes longer than this.
PASS_ON_NS: Final = 1_000_000_000
#: Streams that are taken up in one go, before others have the loop.
STEP: Final = 32
NO_LEADER: Final = 10008


class Leading:
    """The part of a replica that serves."""

    def __init__(self, replica: Replica) -> None:
        self.leading = False
        self.since_ns = 0  # when the leader was last known to change
        self.lost_ns = (
            0  # since when there was no leader before this server began to lead, by the clock that never jumps
        )
        #: What else begins and ends with leadership: NATS Streaming's service.
        self.service: Callable[[bool], None] | None = None
        #: What came to that before it ended goes on to the next leader (True), or is for nobody.
        self.pass_on: Callable[[bool], None] = lambda led: None
        #: Told when there is no leader, so that it keeps what comes (True), and when all of that is for nobody (False).
        self.parking: Callable[[bool], None] = lambda parked: None
        #: Given a term that this server led, and what came to it alone before it stepped down, once there is another leader.
        self.pass_publishes: Callable[[int, list[tuple[Stream, Batch]]], None] = lambda term, publishes: None
        #: Told of consumers at which requests wait, and that all who waited have heard of another leader.
        self.pulled: Callable[[Consumer], None] = lambda consumer: None
        self.told: Callable[[], None] = lambda: None
        #: Told when this server begins to lead.
        self.began: Callable[[], None] = lambda: None
        #: Told when another one leads, perhaps more than once.
        self.led: Callable[[], None] = lambda: None
        self._replica = replica
        self._clock = replica.services.clock
        self._begin_at: int | None = None
        self._parked = False
        self._listening = False  # to publishes: this server leads, or nobody does
        self._parked_term = 0  # of the last entry then
        self._leaderless_ns = 0
        self._timer: Timer | None = None
        self._passing: list[tuple[Stream, Batch]] = []  # came to this leader before it stepped down
        self._passing_term = 0  # that it led then
        self._passing_until_ns = 0
        #: Publishes that were proposed; the next leader answers those that are committed.
        self._unsure: list[tuple[Stream, Batch]] = []
        self._taken_up: set[int] = set()
        self._cut: set[NodeId] = set()  # who couldn't be reached at some time since there has been no leader

    @property
    def leaderless_ns(self) -> int:
        """For how long the group has had no leader."""
        return self._clock.monotonic_ns() - self._leaderless_ns if self._leaderless_ns else 0

    # the role

    def begin_at(self, index: int) -> None:
        """This server leads; it serves once an entry is applied."""
        self._begin_at = index

    def applied(self, index: int) -> None:
        """An entry is applied."""
        if self._begin_at is not None and index >= self._begin_at:
            self._begin_at = None
            if self._replica.group.leading:
                self._lead()

    def look(self) -> None:
        """The role may have changed."""
        group = self._replica.group
        if not group.leading:
            self._begin_at = None
            led = self.leading
            if led:
                self._follow()
            if group.leader is None or group.leader == group.node:
                self._park(LOST_NS if led else PATIENCE_NS)
            else:
                self._led_by_another()

    def _lead(self) -> None:
        self.leading = self._listening = True
        self.since_ns = self._clock.now_ns()
        self.lost_ns, self._leaderless_ns = self._leaderless_ns or self._clock.monotonic_ns(), 0
        self._stop_timer()
        if self._parked and self._parked_term != self._replica.group.term_before:
            # Another one has led since, unnoticed, and has stored its copy.
            self._forget_parked()
            self.parking(True)
        passing, self._passing, self._unsure = self._passing, [], []
        self._replica.proposals.begin(self._passing_term, passing)
        self._replica.services.log.info("RAFT: leading group %s", self._replica.name)
        self._take_up()

    def _take_up(self) -> None:
        """Serve some streams more."""
        if not self.leading:
            return
        waiting = (owner for uid, owner in self._replica.owners.items() if uid not in self._taken_up)
        for owner in list(islice(waiting, STEP)):
            self._taken_up.add(owner.uid)
            owner.take_up()
        if len(self._taken_up) < len(self._replica.owners):
            self._clock.call_soon(self._take_up)
        else:
            if self.service is not None:
                self.service(True)
            self._parked = False
            self.began()
        self._replica.proposals.propose()

    def _follow(self) -> None:
        self.leading = False
        self.since_ns = self._clock.now_ns()
        self._replica.services.log.info("RAFT: no longer leading group %s", self._replica.name)
        if self.service is not None:
            self.service(False)
        self._passing, self._passing_term = self._replica.proposals.forget_sources(), self._replica.group.led_term
        self._passing_until_ns = self._clock.monotonic_ns() + PASS_ON_NS
        for owner in list(self._replica.owners.values()):
            if owner.uid in self._taken_up:
                owner.lay_down(LEADERSHIP_CHANGE)
        self.told()
        self._taken_up.clear()
        self._unsure = self._replica.proposals.abandon()
        self._park(LOST_NS)

    def opened(self, owner: Stream | Shelf) -> None:
        """A stream was made."""
        if self.leading:
            self._taken_up.add(owner.uid)
            owner.take_up()
        else:
            owner.stand_by()
            if self._parked:
                owner.park()

    def gone(self, owner: Stream | Shelf) -> None:
        """A stream is removed."""
        self._taken_up.discard(owner.uid)

    # without a leader

    def _park(self, patience_ns: int) -> None:
        if self._parked:
            return
        self._parked = self._listening = True
        self._parked_term = self._replica.group.last_term
        group = self._replica.group
        self._cut = {*group.config.voters} - self._replica.linked() - {group.node}
        self.parking(True)
        self._leaderless_ns = self._clock.monotonic_ns()
        for owner in self._replica.owners.values():
            owner.park()
        if self._timer is None:
            self._timer = self._clock.call_later(patience_ns, self._overdue)

    def _overdue(self) -> None:
        """There has been no leader for long: who waits is told."""
        self._timer = None
        if not self._parked:
            return
        why = self.why()
        self._refuse([*self._passing, *self._replica.proposals.forget_sources()], why)
        unsure, self._unsure = self._unsure, []
        self._refuse(unsure, f"{why}; it is stored if these have it already")
        self._passing.clear()
        self._timer = self._clock.call_later(PATIENCE_STEP_NS, self._overdue)

    def why(self) -> str:
        """Why there is no leader, for people."""
        group = self._replica.group
        voters = group.config.voters
        near = len({*voters} & {*self._replica.linked(), group.node})
        return f"group {self._replica.name} has no leader, {near} of its {len(voters)} voters can be reached from here"

    def unlinked(self, node: NodeId) -> None:
        """A node can't be reached."""
        self._cut.add(node)

    def _refuse(self, waiting: list[tuple[Stream, Batch]], why: str) -> None:
        replica = self._replica
        error = ApiError(503, NO_LEADER, f"JetStream system temporarily unavailable: {why}")
        for stream, batch in waiting:
            replica.services.commits.refusals.answer(stream, batch, error)
        replica.services.bus.flush_soon()

    def _led_by_another(self) -> None:
        self._leaderless_ns = 0
        self._stop_timer()
        self.led()
        replica = self._replica
        if not self._listening:
            return
        self._parked = self._listening = False
        if replica.group.leader in self._cut:
            # It led others meanwhile, or heard nothing of what came here.
            why = f"the leader of group {replica.name} couldn't be reached from here"
            self._refuse(replica.proposals.forget_sources(), why)
        # Else it has a copy of what came while there was none; but perhaps not of what came to the leader before it: who sent
        # that may not have heard yet that another one listens.
        passing, self._passing, self._unsure = [*self._passing, *replica.proposals.forget_sources()], [], []
        self._forget_parked()
        in_time = self._clock.monotonic_ns() <= self._passing_until_ns
        if passing and in_time:
            self.pass_publishes(self._passing_term, passing)
        self.pass_on(in_time and replica.group.handed_over)

    def _forget_parked(self) -> None:
        self.parking(False)
        self._replica.proposals.forget_sources()
        for owner in self._replica.owners.values():
            owner.unlisten()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def close(self) -> None:
        """The server stops."""
        self._stop_timer()
        self.leading = False
