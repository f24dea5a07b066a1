"""All groups of a node: one timer, one frame a peer and turn.

In the walk:  frames, links and the timer come in here; groups say that they need a turn. A frame is followed by a turn at once;
              else it runs once everything that is ready has run, so that what comes together is handled together. Behind it,
              in the same callback, the store gets to commit what was written, and machines to apply what was committed.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from streamd.raft import envelope
from streamd.raft.errors import JournalDamaged
from streamd.raft.group import Group
from streamd.raft.options import Options

if TYPE_CHECKING:
    import logging
    import random
    from collections.abc import Callable

    from streamd.clock import Clock, Timer
    from streamd.raft.envelope import Encoded, Message
    from streamd.raft.net import Data, Net, NodeId
    from streamd.raft.replica import Replica
    from streamd.raft.sides import Machine
    from streamd.raft.storage import Job, Storage

_NEVER: Final = float("inf")
#: What follows from a turn at once is done in the same callback, so many times.
TURNS_MAX: Final = 4


class Host:
    """The groups of one node."""

    def __init__(
        self,
        net: Net,
        clock: Clock,
        rng: random.Random,
        at_rest: Callable[[Job], None],
        *,
        options: Options | None = None,
        settle: Callable[[], None] | None = None,
        log: logging.Logger,
    ) -> None:
        """`at_rest` must not run a job before it returns; `settle` has those run that may run now, and is called soon
        after."""
        self.node = net.node
        self.groups: dict[str, Group] = {}
        self.linked: set[NodeId] = set(net.linked())
        self.malformed = 0  # frames that were none
        self.strays = 0  # frames for another node, or that came when their link was gone
        self.unknown = 0  # messages for groups that aren't open
        self._net = net
        self._clock = clock
        self._rng = rng
        self._at_rest = at_rest
        self._options = options or Options()
        self._log = log
        self._ready: dict[Replica, None] = {}
        self._planned = False
        self._turning = False  # a turn is under way, or will be before whatever is under way returns
        self._settle = settle
        self._staged = False  # a journal has something for the store
        self._afters: list[Callable[[], None]] = []
        self._outbox: dict[NodeId, list[Encoded]] = {}
        self._heads: dict[NodeId, bytes] = {}  # of frames
        self._period = self._options.heartbeat_ns / 1e9
        self._beat = 0.0  # when heartbeats are due
        self._timer: Timer | None = None
        self._timer_at = _NEVER
        self._closed = False
        net.on_frame(self._frame)
        net.on_link(self._link)

    def open(self, name: str, storage: Storage, machine: Machine, applied: int, *, prompt: bool = False) -> Group:
        """Take part in a group. `applied`: what the machine has already, durably. `prompt`: followers act on what is committed,
        so they are told at once. Errors: JournalDamaged."""
        assert name not in self.groups, f"group {name} is open"
        group = self.groups[name] = Group(
            name,
            storage,
            machine,
            applied,
            home=self,
            node=self.node,
            clock=self._clock,
            rng=self._rng,
            at_rest=self._stage,
            options=replace(self._options, commit_notice_ns=0) if prompt else self._options,
            closed=self._forget,
        )
        self.wake(group.replica)
        return group

    def close(self) -> None:
        """Take part in nothing."""
        self._closed = True
        for group in list(self.groups.values()):
            group.close()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _forget(self, group: Group) -> None:
        self.groups.pop(group.name, None)
        self._ready.pop(group.replica, None)

    # --- for replicas

    def now(self) -> float:
        # The library takes 0 for long ago.
        return self._clock.monotonic_ns() / 1e9 + 1.0

    def post(self, to: NodeId, message: Encoded) -> None:
        waiting = self._outbox.get(to)
        if waiting is None:
            self._outbox[to] = [message]
        else:
            waiting.append(message)
        self._plan()

    def wake(self, replica: Replica) -> None:
        self._ready[replica] = None
        self._plan()

    def turn(self, call: Callable[[], None]) -> None:
        """Have a turn at once behind what a call does, if that left anything to do; unless one is under way."""
        if self._turning or self._closed:
            call()
            return
        self._turning = True
        try:
            call()
        finally:
            self._turning = False
            if self._waiting:
                self._turn()

    def _stage(self, job: Job) -> None:
        """Have a job run when this turn is over, or soon."""
        self._at_rest(job)
        if self._settle is not None:
            self._staged = True
            self._plan()

    def after(self, call: Callable[[], None]) -> None:
        """Call once the turn is over that is under way."""
        if self._turning:
            self._afters.append(call)
        else:
            self._clock.call_soon(call)

    # --- what comes in

    def _frame(self, data: Data) -> None:
        frame = envelope.decode(data)
        if frame is None:
            self.malformed += 1
            return
        sender = frame.sender
        if frame.receiver != self.node or sender not in self.linked:
            # Late data of a broken link would pass for a sign of life.
            self.strays += 1
            return
        self.turn(lambda: self._receive(sender, frame.messages))

    def _receive(self, sender: NodeId, messages: list[Message]) -> None:
        now = self.now()
        for message in messages:
            group = self.groups.get(message.group)
            if group is None:
                self.unknown += 1
                continue
            try:
                if group.replica.receive(now, sender, message):
                    self._ready[group.replica] = None
            except JournalDamaged as error:
                group.fail(error)

    def _link(self, node: NodeId, up: bool) -> None:
        if up:
            self.linked.add(node)
        else:
            self.linked.discard(node)
            self._outbox.pop(node, None)
            self._heads.pop(node, None)
        for group in list(self.groups.values()):
            group.replica.link(node, up)

    # --- turns

    @property
    def _waiting(self) -> bool:
        """Whether a turn has anything to do."""
        return bool(self._ready or self._outbox or self._afters or self._staged)

    def _plan(self) -> None:
        if not (self._planned or self._turning or self._closed):
            self._planned = True
            self._clock.call_soon(self._planned_turn)

    def _planned_turn(self) -> None:
        if self._planned:
            self._turn()

    def _turn(self) -> None:
        self._turning = True
        try:
            for _ in range(TURNS_MAX):
                self._planned = False
                if self._closed:
                    return
                self._once()
                # What is to be said once it is stored comes first: somebody waits for that, and for nothing of the rest.
                if self._staged and self._settle is not None:
                    self._staged = False
                    self._settle()
                    if self._outbox:
                        self._flush()
                        self._net.flush()
                afters, self._afters = self._afters, []
                for call in afters:
                    call()
                if not (self._ready or self._outbox or self._staged):
                    break
        finally:
            self._turning = False
        if self._waiting:
            self._plan()
        afters, self._afters = self._afters, []
        for call in afters:
            self._clock.call_soon(call)

    def _once(self) -> None:
        now = self.now()
        ready, self._ready = self._ready, {}
        if beat := now >= self._beat:
            self._beat = now + self._period
            ready.update((group.replica, None) for group in self.groups.values() if group.replica.core.leads)
        due = _NEVER
        for replica in ready:
            if not replica.closed:
                self._run(replica, now, beat)
                due = min(due, self._due(replica))
        self._flush()
        if due < self._timer_at:
            self._arm(now, due)

    def _run(self, replica: Replica, now: float, beat: bool) -> None:
        try:
            replica.turn(now, beat=beat)
        except JournalDamaged as error:
            self.groups[replica.name].fail(error)

    def _flush(self) -> None:
        if not self._outbox:
            return
        outbox, self._outbox = self._outbox, {}
        limit = self._options.frame_bytes
        for node, messages in outbox.items():
            head = self._heads.get(node)
            if head is None:
                head = self._heads[node] = envelope.head(self.node, node)
            frame, size = [head], 0
            for message in messages:
                if size and size + message.size > limit:
                    self._net.send(node, *frame)
                    frame, size = [head], 0
                frame += message.parts
                size += message.size
            self._net.send(node, *frame)

    # --- the timer

    def _due(self, replica: Replica) -> float:
        if replica.closed:
            return _NEVER
        return min(replica.deadline, self._beat) if replica.core.leads else replica.deadline

    def _arm(self, now: float, due: float) -> None:
        """Be called at `due`, sooner than planned so far."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = due
        self._timer = self._clock.call_later(max(0, int((due - now) * 1e9) + 1), self._tick)

    def _tick(self) -> None:
        self._timer = None
        self._timer_at = _NEVER
        now = self.now()
        for group in self.groups.values():
            if self._due(group.replica) <= now:
                self._ready[group.replica] = None
        if self._ready:
            self._turn()
        due = min((self._due(group.replica) for group in self.groups.values()), default=_NEVER)
        if due < self._timer_at:
            self._arm(now, due)
