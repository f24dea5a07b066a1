"""One group on one node: the library in the middle, the rules of this room around it.

In the walk:  `host` brings messages and turns, `group` what the machine wants; `elections` and `replication` handle what
              comes, `core` and `journal` lie below.
Guarantee:    whatever comes in, in any order and number of times: one leader a term, and what was committed stays.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from streamd.raft.barrier import Barrier
from streamd.raft.core import Core
from streamd.raft.elections import Elections
from streamd.raft.envelope import REGULAR, Kind, Message
from streamd.raft.reads import Reads
from streamd.raft.replication import Replication
from streamd.raft.transfer import Transfer

if TYPE_CHECKING:
    import random

    from streamd.raft.envelope import Encoded
    from streamd.raft.journal import Journal
    from streamd.raft.net import NodeId
    from streamd.raft.options import Options
    from streamd.raft.sides import Events, Home

_NEVER: Final = float("inf")
#: A command that is longer isn't copied.
_COPIED_BYTES: Final = 64 << 10
#: Whoever sends these in an earlier term is told. A later one is adopted by the library, or by nobody until there are votes.
_OPENING: Final = frozenset((Kind.APPEND, Kind.VOTE, Kind.VOTE_FORCED, Kind.PREVOTE))


class Replica:
    """Everything of a group but its public face. Times are seconds."""

    def __init__(
        self,
        name: str,
        node: NodeId,
        journal: Journal,
        home: Home,
        events: Events,
        options: Options,
        rng: random.Random,
    ) -> None:
        self.name = name
        self.node = node
        self.journal = journal
        self.events = events
        self.can_lead = True
        self.behind = False  # what the log needs next is gone at the leader
        self.waiting_bytes = 0  # proposed and not committed
        self.term_before = 0  # of the last entry before the leadership
        self.closed = False
        self._home = home
        self._options = options
        self._barrier = Barrier(home.post)
        self.elections = Elections(self, options, rng)
        self.replication = Replication(self, home, options)
        self.transfer = Transfer(options)
        self.reads = Reads()
        self.led_term = 0  # the last one that this node led
        self.led_until = -_NEVER  # when this node ceased to lead last
        self._leads = False  # it did in the last turn
        self._beat = False
        self._news = True  # since the library looked: something may follow from it for a leader
        self._failing = False  # the journal was, when it was heard of last
        self._notice = False
        self._notice_at = _NEVER  # when followers are told the commit index, if nothing else tells them
        self._counted = 0  # commit index up to which waiting_bytes is right
        self._role: tuple[bool, NodeId | None, int, bool] = (False, None, 0, False)
        self.core = Core(node, journal, self, options, rng, home.now())
        self.config = journal.config
        self.core.configure(home.now(), self.config.voters)

    # --- what it is

    @property
    def leading(self) -> bool:
        """Whether it is the leader, and has applied all that came before."""
        return self.core.leads and self.core.applied >= self.core.no_op

    @property
    def leader(self) -> NodeId | None:
        """Who leads, as far as is known here; None while it can't be reached."""
        leader = self.core.leader
        return leader if leader == self.node or leader in self._home.linked else None

    @property
    def commit(self) -> int:
        """What is committed, and durable here."""
        return min(self.core.commit, self.journal.synced_index)

    @property
    def may_campaign(self) -> bool:
        """Whether it would make a leader."""
        return (
            self.node in self.config.voters
            and self.can_lead
            and not self.behind
            and not self.journal.failing
            and self.core.applied <= self.journal.terms.last
        )

    @property
    def deadline(self) -> float:
        """When it needs a turn, whatever happens or doesn't."""
        if self.core.leads:
            return min(self._notice_at, self.transfer.next)
        # One that may not campaign has to notice as well that there is no leader.
        return self.core.deadline if self.may_campaign or self.core.leader is not None else _NEVER

    # --- what comes in

    def receive(self, now: float, sender: NodeId, message: Message) -> bool:
        """A message of this group. Returns whether a turn is to follow. Errors: JournalDamaged."""
        kind = message.kind
        if message.term != self.core.term and self._options.fixes.term and not self._timely(now, sender, message):
            self._news = True
            return True
        if kind == Kind.APPENDED or kind == Kind.REJECTED:
            matters = self.replication.answered(now, sender, message)
            self._news = self._news or matters
            return matters
        self._news = True
        if kind == Kind.APPEND:
            self.replication.append(now, sender, message)
        elif kind == Kind.PREVOTE:
            self.elections.prevote_asked(now, sender, message)
        elif kind == Kind.PREVOTED:
            self.elections.prevoted(now, sender, message)
        elif kind == Kind.VOTE or kind == Kind.VOTE_FORCED:
            self.elections.vote_asked(now, sender, message)
        elif kind == Kind.VOTED:
            self.elections.voted(now, sender, message)
        elif kind == Kind.CAMPAIGN:
            self.elections.take_over(now, sender)
        elif kind == Kind.OFFER:
            self.replication.offer(sender, message)
        return True

    def _timely(self, now: float, sender: NodeId, message: Message) -> bool:
        """Whether a message of another term is still to be looked at."""
        if message.kind == Kind.PREVOTED:
            return True  # known by its round: who answers needn't have come to this term
        if message.term < self.core.term:
            if message.kind in _OPENING:
                self.say(sender, Kind.NOTICE)
            return False
        if message.kind not in _OPENING:
            self.core.adopt(now, message.term)
        return True

    def stored(self) -> None:
        """The journal: a commit ended."""
        if self.journal.failing:
            self._failing = True
            self.step_down()
            return
        self._barrier.release(self.journal.synced_seq)
        counts = self.replication.stored(self._home.now())
        core = self.core
        if counts or core.commit > core.applied or self._failing or (core.leads and len(self.config.voters) == 1):
            self._failing = False
            self._news = True
            self._home.wake(self)

    def link(self, node: NodeId, up: bool) -> None:
        """A peer came or went."""
        self._news = True
        if up:
            self.replication.sender.link(node)
            self.replication.eager = True
        if self.core.leader in (None, node):
            # There is none, or there may be none any more: whoever knows better will refuse.
            self.elections.hurry(self._home.now())
        self._home.wake(self)

    # --- turns

    def turn(self, now: float, *, beat: bool) -> None:
        """Act on all that has happened. `beat`: a leader's heartbeat is due. Errors: JournalDamaged."""
        core, send = self.core, False
        led = core.leads
        if led:
            self._step_transfer(now)
            self._beat = beat or self.reads.due
            self._notice = now >= self._notice_at
            send = self.replication.eager or self._beat or self._notice
        elif core.deadline <= now:
            self.elections.stand(now)
        self.replication.eager = False
        # What the library would do is nothing else, if no answer came and no time is over.
        if led and not (self._news or self._beat) and self.led_term == core.term:
            if send:
                self.send_entries()
        elif core.follows and core.deadline > now:
            self.apply()
        else:
            self._news = False
            core.tick(now, send=send)
        if core.leads:
            self._count(now)
            self.reads.settle(self.config, self.node)
            self._leads = True
        elif self._leads or led:
            if led:
                # The library left its deadline where it was before it led.
                core.step_down(now)
            self._leads = False
            self.led_until = now
            self._lead_no_more()
        role = (self.leading, self.leader, core.term, self.transfer.under_way)
        if role != self._role:
            self._role = role
            self.events.role()

    def _lead_no_more(self) -> None:
        self.waiting_bytes = 0
        self._notice_at = _NEVER
        self.reads.fail()
        self.transfer.end(success=True)

    def _count(self, now: float) -> None:
        """What is committed waits no longer, and followers will want to know."""
        commit = self.commit
        if commit > self._counted:
            first = max(self._counted, self.journal.terms.base) + 1
            self.waiting_bytes -= self.journal.size(first, commit)
            self._counted = commit
            self._notice_at = min(self._notice_at, now + self._options.commit_notice_ns / 1e9)

    def _step_transfer(self, now: float) -> None:
        to = self.transfer.step(now, self.replication.sender.peers.values(), self.journal.terms.last)
        if to is not None:
            self.say(to, Kind.CAMPAIGN)

    def reconfigure(self) -> None:
        """Follow the journal's configuration."""
        if self.journal.config is not self.config:
            self.config = self.journal.config
            self._news = True
            now = self._home.now()
            self.core.configure(now, self.config.voters)
            if self.core.leads:
                self.replication.sender.configure(self.config, self.node, now)

    def step_down(self) -> None:
        """Lead no more, and don't stand for it."""
        if self.core.leads or self.core.stands:
            self.core.step_down(self._home.now())
            self._home.wake(self)

    # --- what the library wants

    def ask_vote(self, node: NodeId) -> None:
        self.elections.ask_vote(node)

    def grant_vote(self, node: NodeId) -> None:
        self.elections.grant_vote(node)

    def answer_append(self, node: NodeId, *, success: bool) -> None:
        self.replication.answer(node, success=success)

    def send_entries(self) -> None:
        core, journal = self.core, self.journal
        if self.led_term != core.term:
            self.led_term = core.term
            self._lead_no_more()  # what waited for an earlier leadership
            self.transfer.succeeded = False
            self.term_before = journal.terms.at(core.no_op - 1)
            self.replication.begin(self._home.now())
            self._counted = max(self.commit, journal.terms.base)
            self.waiting_bytes = journal.size(self._counted + 1, journal.terms.last)
        told = self.replication.sender.send(
            core.term, self.commit, self.reads.round, beat=self._beat, notice=self._notice
        )
        if told or self._notice:
            self._notice_at = _NEVER
        self._beat = self._notice = False
        self.reads.sent()

    def apply(self) -> None:
        core = self.core
        upto = self.commit if self._options.fixes.applied_gate else core.commit
        index = core.applied
        if upto <= index:
            return
        for term, command in self.journal.entries(index + 1, self._options.apply_bytes, upto):
            index += 1
            core.applied = index
            if command[0] == REGULAR:
                self.events.commit(index, term, _rest(command))
        if index < upto:
            self._news = True
            self._home.wake(self)

    # --- what goes out

    def say(
        self,
        to: NodeId,
        kind: Kind,
        at: int = 0,
        at_term: int = 0,
        *,
        commit: int = 0,
        round_: int = 0,
        need: int | None = None,
    ) -> None:
        """Send a message once the journal's write number `need` is durable; by default all writes so far."""
        message = Message(kind, self.name, self.core.term, at, at_term, commit, round_).encode()
        self._post(to, message, self.journal.seq if need is None else need)

    def post_append(self, to: NodeId, message: Encoded) -> None:
        """Send an append: the leader's own entries needn't be durable first, as they count for nothing yet."""
        self._post(to, message, self.journal.meta_seq)

    def _post(self, to: NodeId, message: Encoded, need: int) -> None:
        if self.journal.failing and need > self.journal.synced_seq:
            return  # others ask again, and a full disk may stay full: held back, it would be more and more
        if self._options.fixes.barrier:
            self._barrier.post(to, message, need, self.journal.synced_seq)
        else:
            self._home.post(to, message)

    def close(self) -> None:
        """Say and do nothing more."""
        self.closed = True
        self._barrier.forget()
        self.journal.close()
        self.core.step_down(self._home.now())
        self.reads.fail()
        self.transfer.end(success=False)


def _rest(command: bytes) -> bytes:
    """A command without its first byte: a copy, or a view of one that is long."""
    return command[1:] if len(command) <= _COPIED_BYTES else cast("bytes", memoryview(command)[1:])
