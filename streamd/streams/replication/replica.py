"""One Raft group on this node: the entries of its log, applied to the streams in it.

Place in the walk: the group commits an entry → here → admission and rows, in the commit that also stores how far this replica
                   is.
Guarantee:  an entry is applied in the order of the log, and its publishes once: `applied` is in their commit. A commit that
            fails is made again. Rare operations take commits of their own, once everything before is stored, and change nothing
            when they come twice.
"""

from __future__ import annotations

import json
import struct
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from streamd.errors import StoreError
from streamd.streams.dropping import RETRY_NS
from streamd.streams.replication import ops
from streamd.streams.replication.applying import change_rows, publish
from streamd.streams.replication.leading import Leading
from streamd.streams.replication.proposals import Proposals
from streamd.streams.stream import Stream

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamd.raft.group import Group
    from streamd.raft.net import NodeId
    from streamd.store import Outcome, Work
    from streamd.streams.replication.holding import Holding
    from streamd.streams.replication.ops import Op
    from streamd.streams.services import Services
    from streamd.streams.shelf import Shelf

#: The row of a journal in the store that holds how far the replica is.
APPLIED_ROW: Final = 3
APPLIED: Final = struct.Struct("<Q")
#: The pause before an entry is applied again doubles so often.
STUMBLES_MAX: Final = 6


class Replica:
    """The machine of one group."""

    def __init__(
        self,
        services: Services,
        holding: Holding,
        name: str,
        journal_id: int,
        applied: int,
        owners: dict[int, Stream | Shelf],
        fetch: Callable[[Replica, NodeId], None],
        linked: Callable[[], set[NodeId]],
    ) -> None:
        """`owners`: the streams and shelves of the group that the store has, by uid. `fetch`: gets the group's state from its
        leader, which has no longer the entries that are needed, and calls `installed`. `linked`: who can be reached."""
        self.services, self.holding = services, holding
        self.name, self.journal_id = name, journal_id
        self.owners = owners
        self.group: Group  # set right after it was opened with this machine
        self.applied = applied  # durable
        self.time_ns = 0  # of the last entry
        self.proposals = Proposals(self)
        self.lead = Leading(self)
        #: Told why the group is no more.
        self.failed: Callable[[Exception], None] = lambda error: None
        self.linked, self._fetch = linked, fetch
        self._entries: deque[tuple[int, int, bytes]] = deque()  # committed, not yet in a commit of the store
        self._handed = applied  # the last one that came
        self._planned = False
        self._busy = False  # an operation that stands alone is under way, or a pause after a failure
        self._held = False  # a state is being fetched
        self._full = False  # there is no room on the disk
        self._unstored: deque[tuple[int, int, bytes]] = deque()  # applied, not yet stored
        self._done = applied  # applied, stored or not
        self._marked: Work | None = None  # the open work of which this replica hears
        self._waiters: deque[tuple[int, Callable[[], None]]] = deque()
        self._closed = False
        self._stumbles = 0  # in a row
        for owner in list(owners.values()):
            self.adopt(owner)

    @property
    def leading(self) -> bool:
        """Whether this server serves the group's streams."""
        return self.lead.leading

    @property
    def busy(self) -> bool:
        """Whether an operation that takes several commits is under way."""
        return self._busy

    @property
    def idle(self) -> bool:
        """Whether everything that came is applied and durable, and nothing waits to be proposed."""
        return self.applied == self._handed and not self._held and self.proposals.idle

    @property
    def damaged(self) -> bool:
        """Whether something of the group can't be read here."""
        return any(owner.offline is not None for owner in self.owners.values())

    def adopt(self, owner: Stream | Shelf) -> None:
        """A stream or shelf is one of the group's."""
        self.owners[owner.uid] = owner
        if isinstance(owner, Stream):
            # No entry is from before what is stored, should this server lead with a clock that is behind.
            self.time_ns = max(self.time_ns, owner.state.last_ts_ns)
        owner.changes = self.proposals
        owner.replica = self

    # a state that is fetched from the leader

    def hold(self, held: bool) -> None:
        """While a state is fetched nothing is applied, and this node doesn't lead."""
        self._held = held
        self._judge()
        if not held:
            self._plan()

    def lacks_room(self, full: bool) -> None:
        """Whether the disk is full: one with room leads meanwhile."""
        self._full = full
        self._judge()

    def _judge(self) -> None:
        """Whoever isn't whole doesn't lead, nor who can't store anything."""
        self.group.can_lead(not (self._held or self._full or self.damaged))

    def installed(self, index: int, time_ns: int) -> None:
        """The state as of an entry is here, and durable."""
        while self._entries and self._entries[0][0] <= index:
            self._entries.popleft()
        self.applied = max(self.applied, index)
        self._handed = max(self._handed, index)
        self._done = max(self._done, index)
        self._unstored.clear()
        self.time_ns = max(self.time_ns, time_ns)
        for owner in self.owners.values():
            owner.stand_by()

    # what the group tells

    def committed(self, index: int, term: int, command: bytes) -> None:
        """An entry is committed."""
        self._entries.append((index, term, command))
        self._handed = index
        self._plan()

    def role_changed(self) -> None:
        """This server leads, or another one does, or none."""
        if self.group.failed is not None:
            self.failed(self.group.failed)
            return
        if self.group.leading and not self.lead.leading:
            # Once all that was committed before is applied.
            self.lead.begin_at(self._handed)
            self._plan()
        else:
            self.lead.look()
            self.heal()
            if self.leading:
                self.proposals.propose()  # a transfer may have come to nothing

    def hand_over(self, to: NodeId | None, done: Callable[[bool], None]) -> None:
        """Let another server lead, once it knows what consumers were sent; `done` as in `Group.transfer`."""
        self.proposals.save_now(lambda: self.group.transfer(to, done))

    def heal(self) -> None:
        """Something here can't be read: don't lead, and take it from whoever does."""
        if not self.damaged or self._closed:
            return
        self._judge()
        leader = self.group.leader
        if leader is not None and leader != self.group.node:
            self._fetch(self, leader)

    def behind(self, leader: NodeId) -> None:
        """The leader lacks the entries that are needed here."""
        self._fetch(self, leader)

    # applying

    def _plan(self) -> None:
        if not (self._planned or self._closed):
            self._planned = True
            self.group.after_turn(self._go)

    def _go(self) -> None:
        """Apply what is committed, as far as it goes now."""
        self._planned = False
        before = self._done
        while self._entries and not (self._busy or self._held or self._closed):
            entry = self._entries[0]
            try:
                if not self._next(entry):
                    break
            except Exception as error:
                self._stumbled(error, entry)
        if self._done > before:
            self.services.bus.flush()
        self.lead.applied(self._done)
        while self._waiters and self._waiters[0][0] <= self._done:
            self._waiters.popleft()[1]()
        if self.leading:
            self.proposals.propose()

    def _next(self, entry: tuple[int, int, bytes]) -> bool:
        """Apply the first entry that waits. Returns whether another one may follow."""
        index, term, command = entry
        commits = self.services.commits
        now_ns, found = ops.decode(command)
        if found and found[0].kind in ops.ALONE:
            if self._unstored:
                # It runs at rest, be these stored or not; and if they aren't, they come again, before it.
                commits.hurry(lambda: None)
            else:
                self._alone(index, term, now_ns, found[0])
            return False
        if commits.crowded:
            commits.hurry(self._plan)
            return False
        self._entries.popleft()
        self._unstored.append(entry)
        self.time_ns = max(self.time_ns, now_ns)
        work = self._opened()
        # A new leader acks what the one before may not have acked, and that one what the new one had applied before it led.
        acks = self.leading or self.group.leader == self.group.node or term == self.group.led_term
        batches = self.proposals.batches(index, term)
        for op in found:
            owner = self._owner(op.uid)
            try:
                if owner is not None and op.kind != ops.PUBLISH:
                    change_rows(work, owner, op)
                elif isinstance(owner, Stream):
                    admission = publish(work, now_ns, owner, op, batches.get(op.uid), self.proposals.lately)
                    if admission is not None and acks:
                        admission.ack(self.services.bus.engine)
            except Exception as error:
                self._stumbled(error, entry, owner)
                return False
        self._mark(work, index)
        self.proposals.settled(index, term, ())
        return True

    def _stumbled(self, error: Exception, entry: tuple[int, int, bytes], owner: Stream | Shelf | None = None) -> None:
        """An entry couldn't be applied, by a mistake of ours: it isn't left out, but applied again in a moment."""
        self._stumbles += 1
        if self._unstored and self._unstored[-1] is entry:
            self._busy = True  # until all that shares its commit is taken back
            self.services.commits.spoil(error, owner if isinstance(owner, Stream) else None)
            return
        self.services.log.critical("RAFT: an entry of group %s couldn't be applied", self.name, exc_info=error)
        if not self._entries or self._entries[0] is not entry:
            self._entries.appendleft(entry)
        self._pause()

    def _pause(self) -> None:
        """Apply nothing for a moment."""
        self._busy = True
        self.services.clock.call_later(RETRY_NS << min(self._stumbles, STUMBLES_MAX), self._again)

    def _opened(self) -> Work:
        """The open work; this replica hears what becomes of it."""
        commits = self.services.commits
        work = commits.open()
        if work is not self._marked:
            self._marked = work
            commits.after_open(self._stored)
        return work

    def _mark(self, work: Work, index: int) -> None:
        """An entry is applied: that is stored with its effects."""
        self._done = index
        work.of(self.journal_id).consumer_states[APPLIED_ROW] = APPLIED.pack(index)
        self.services.commits.linger()

    def _stored(self, outcome: Outcome) -> None:
        """What became of a commit with entries."""
        if outcome.error is not None:
            self._undo()
            return
        part = outcome.work.logs[self.journal_id]
        (index,) = APPLIED.unpack(part.consumer_states[APPLIED_ROW])
        while self._unstored and self._unstored[0][0] <= index:
            self._unstored.popleft()
        self._stumbles = 0
        self.applied = max(self.applied, index)
        self.group.applied(self.applied)
        if self._entries:
            self._plan()

    def _undo(self) -> None:
        """Machines are back where the store is: what came since is applied again, in a moment."""
        if not self._unstored:
            return  # of two works that failed together, this is the second
        self._entries.extendleft(reversed(self._unstored))
        self._unstored.clear()
        self._done = self.applied
        self._pause()

    def when_applied(self, call: Callable[[], None]) -> None:
        """Call once everything that is committed by now can be read here."""
        if self._handed <= self._done:
            call()
        else:
            self._waiters.append((self._handed, call))

    def _again(self) -> None:
        self._busy = False
        self._plan()

    def _owner(self, uid: int) -> Stream | Shelf | None:
        """The stream or shelf that an operation changes."""
        owner = self.owners.get(uid)
        return None if owner is None or owner.closed or owner.offline is not None or owner.frozen else owner

    # operations that take commits of their own

    def _alone(self, index: int, term: int, now_ns: int, op: Op) -> None:
        self._entries.popleft()
        self.time_ns = max(self.time_ns, now_ns)
        self._busy = True

        def done(*result: Any) -> None:
            self._busy = False
            error = next((each for each in result if isinstance(each, StoreError)), None)
            entry = (index, term, ops.encode(now_ns, [op]))
            if error is not None and not self._closed:
                # Nothing of it was applied, and it must be: every replica does the same.
                self._entries.appendleft(entry)
                self._pause()
                return
            # What it did is durable, and that it is applied isn't yet: if that fails, it comes again.
            self._unstored.append(entry)
            self._mark(self._opened(), index)
            self.proposals.settled(index, term, result)
            self._plan()

        owner = self.owners.get(op.uid)
        if op.kind == ops.OPEN:
            self._open(op, done)
        elif op.kind == ops.ADOPT:
            self._adopt(index, term, now_ns, op, done)
        elif op.kind == ops.DROP and owner is not None:
            self.drop(owner, done)
        elif not isinstance(owner, Stream) or owner.closed or owner.offline is not None or owner.frozen:
            done(None, None)
        else:
            self._of_stream(owner, op, now_ns, done)

    def _of_stream(self, stream: Stream, op: Op, now_ns: int, done: Callable[..., None]) -> None:
        retention, at_rest = stream.retention, self.services.commits.at_rest
        if op.kind == ops.CONFIGURE:
            self._configure(stream, json.loads(op.body), now_ns, done)
        elif op.kind == ops.FREEZE:
            self.holding.freeze(stream, json.loads(op.body), done)
        elif op.kind == ops.DELETE:
            at_rest(retention.delete_job(ops.number_of(op.body), done))
        elif op.kind == ops.PURGE:
            pattern, below, keep = ops.purge_of(op.body)
            at_rest(retention.purge_job(pattern, below, done, keep=keep))
        else:
            assert op.kind == ops.EXPIRE
            at_rest(retention.trim_job(0, done, now_ns=now_ns))

    def _configure(self, stream: Stream, definition: dict[str, Any], now_ns: int, done: Callable[..., None]) -> None:
        def configure(error: StoreError | None) -> None:
            if error is not None:
                done(error)
            else:
                self.holding.configure(stream, definition, now_ns, done)

        if definition["config"].get("duplicate_window", 0) == stream.config.duplicate_window:
            configure(None)
        else:
            self.services.commits.at_rest(stream.retention.forget_ids_job(now_ns, configure))

    def _open(self, op: Op, done: Callable[..., None]) -> None:
        definition = json.loads(op.body)
        wanted = self.holding.wanted(op.uid, self.name) and not self.holding.outlived(op.uid, definition["name"])
        if op.uid in self.owners or not wanted:
            done(None, None)
            return

        def opened(owner: Stream | Shelf, error: Exception | None) -> None:
            if error is None:
                self.adopt(owner)
                self.lead.opened(owner)
            done(owner, error)

        self.holding.open(op.uid, definition, opened)

    def _is_in(self, stream: Stream, move: int) -> bool:
        return stream.replica is self and not stream.frozen and stream.move == move

    def _adopt(self, index: int, term: int, now_ns: int, op: Op, done: Callable[..., None]) -> None:
        """A stream has moved here: take the copy that this server has, or wait for it."""
        fields = json.loads(op.body)
        if not self.holding.known(fields["at"]):
            self._adopt_later(index, term, now_ns, op, done)
            return
        stream = self.holding.copy_of(op.uid)
        if not self.holding.wanted(op.uid, self.name) or (stream is not None and self._is_in(stream, fields["move"])):
            done(None, None)
        elif stream is None or not stream.frozen or stream.partial or stream.move != fields["move"]:
            if self.group.leader not in (None, self.group.node) and not (self._closed or self._held):
                # There was a copy before the move was agreed on; so it was lost since.
                self._busy = False
                self._entries.appendleft((index, term, ops.encode(now_ns, [op])))
                self._fetch(self, self.group.leader)
                return
            self._adopt_later(index, term, now_ns, op, done)
        else:

            def adopted(_stream: Stream, error: StoreError | None) -> None:
                if error is None:
                    (self.holding.arrived if self.leading else self.holding.laid_aside)(stream)
                    self.lead.opened(stream)
                done(stream, error)

            self.holding.adopt(stream, self, adopted)

    def _adopt_later(self, index: int, term: int, now_ns: int, op: Op, done: Callable[..., None]) -> None:
        if self._closed:
            return
        if self._held:  # the state that is being fetched may have it
            self._busy = False
            self._entries.appendleft((index, term, ops.encode(now_ns, [op])))
            return
        self.services.clock.call_later(RETRY_NS, lambda: self._adopt(index, term, now_ns, op, done))

    def drop(self, owner: Stream | Shelf, done: Callable[..., None]) -> None:
        """Remove a stream of the group from this node."""
        self.lead.gone(owner)

        def dropped(_owner: Stream | Shelf, error: StoreError | None) -> None:
            if error is None:
                self.owners.pop(owner.uid, None)
                self._judge()
            done(owner, error)

        self.holding.drop(owner, dropped)

    def close(self) -> None:
        """The server stops."""
        self._closed = True
        self.lead.close()
