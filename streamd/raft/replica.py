"""One group on one node: the library in the middle, the rules of this room around it.

In the walk:  `host` brings messages and turns, `group` what the machine wants; below are `core` and `journal`.
Guarantee:    whatever comes in, in any order and number of times: one leader a term, and what was committed stays.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from streamd.raft.barrier import Barrier
from streamd.raft.core import Core
from streamd.raft.envelope import REGULAR, Kind, Message
from streamd.raft.guard import Append, Clip, follower, unguarded
from streamd.raft.prevote import PreVote
from streamd.raft.reads import Reads
from streamd.raft.sending import Sender
from streamd.raft.transfer import Transfer

if TYPE_CHECKING:
    import random
    from collections.abc import Set as AbstractSet

    from streamd.raft.journal import Journal
    from streamd.raft.net import NodeId
    from streamd.raft.options import Options

_NEVER: Final = float("inf")
#: A later term in these is adopted by the library, or by nobody until there are votes.
_TERM_APART: Final = frozenset((Kind.APPEND, Kind.VOTE, Kind.VOTE_FORCED, Kind.PREVOTE, Kind.PREVOTED))
#: Whoever sends these in an earlier term is told.
_TOLD: Final = frozenset((Kind.APPEND, Kind.VOTE, Kind.VOTE_FORCED, Kind.PREVOTE))


class Home(Protocol):
    """The host, as a replica needs it."""

    @property
    def linked(self) -> AbstractSet[NodeId]:
        """Who can be reached, kept up to date."""

    def now(self) -> float:
        """Seconds."""

    def post(self, to: NodeId, data: bytes) -> None:
        """Send a message with the next frame to that node."""

    def wake(self, replica: Replica) -> None:
        """Give it a turn soon."""


class Events(Protocol):
    """The group, as a replica needs it."""

    def commit(self, index: int, term: int, command: bytes) -> None:
        """A committed entry."""

    def behind(self, leader: NodeId) -> None:
        """The entries needed here are gone at the leader."""

    def role(self) -> None:
        """Leading, leader or term changed."""


class Replica:
    """Everything of a group but its public face."""

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
        self.transfer = Transfer(options)
        self.reads = Reads()
        self.can_lead = True
        self.behind = False  # what the log needs next is gone at the leader
        self.waiting_bytes = 0  # proposed and not committed
        self.eager = False  # there is something to send at once
        self.closed = False
        self._home = home
        self._events = events
        self._options = options
        self._fixes = options.fixes
        self._guard = follower if options.fixes.guard else unguarded
        self._prevote = PreVote(options, rng)
        self._barrier = Barrier(home.post)
        self._clip = Clip()
        self.sender = Sender(name, journal, options, home.linked, self._post_append)
        self._leading_term = 0  # in which `sender` began
        self._votes: set[NodeId] = set()
        self._forced = False  # the campaign is at the leader's wish
        self._answering: tuple[Message, Append] | None = None
        self._beat = False
        self._notice = False
        self._notice_at = _NEVER
        self._counted = 0  # commit index up to which waiting_bytes is right
        self._role: tuple[bool, NodeId | None, int] = (False, None, 0)
        self.core = Core(node, journal, self, options, rng)
        self._config = journal.config
        self.core.configure(home.now(), self._config.voters)

    # --- what it is

    @property
    def leading(self) -> bool:
        """Whether it is the leader, and has applied all that came before."""
        return self.core.leads and self.core.applied >= self.core.no_op

    @property
    def commit(self) -> int:
        """What is committed, and durable here."""
        return min(self.core.commit, self.journal.synced_index)

    @property
    def may_campaign(self) -> bool:
        """Whether it would make a leader."""
        return (
            self.node in self._config.voters
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
        return self.core.deadline if self.may_campaign else _NEVER

    # --- turns

    def turn(self, now: float, *, beat: bool) -> None:
        """Act on all that has happened. `beat`: a leader's heartbeat is due."""
        core = self.core
        if core.leads:
            self._step_transfer(now)
            self._beat = beat or self.reads.due
            self._notice = now >= self._notice_at
            send = self.eager or self._beat or self._notice
        else:
            send = False
            if core.deadline <= now:
                self._stand(now)
        self.eager = False
        led = core.leads
        core.tick(now, send=send)
        self._settle(now, led)

    def _settle(self, now: float, led: bool) -> None:
        """Tell everybody what has become of it."""
        core = self.core
        if led and not core.leads:
            # The library leaves the deadline of long ago.
            core.step_down(now)
        if core.leads:
            self._count()
            self.reads.settle(self._config, self.node)
        else:
            self.waiting_bytes = 0
            self._notice_at = _NEVER
            self.reads.fail()
            self.transfer.end(success=True)
        role = (self.leading, core.leader, core.term)
        if role != self._role:
            self._role = role
            self._events.role()

    def _count(self) -> None:
        commit = self.commit
        if commit > self._counted:
            first = max(self._counted, self.journal.terms.base) + 1
            self.waiting_bytes -= self.journal.size(first, commit)
            self._counted = commit
            self._notice_at = min(self._notice_at, self._home.now() + self._options.commit_notice_ns / 1e9)

    def _step_transfer(self, now: float) -> None:
        to = self.transfer.step(now, self.sender.peers.values(), self.journal.terms.last)
        if to is not None:
            self._say(to, Kind.CAMPAIGN)

    def reconfigure(self) -> None:
        """Follow the journal's configuration."""
        if self.journal.config is not self._config:
            self._config = self.journal.config
            now = self._home.now()
            self.core.configure(now, self._config.voters)
            if self.core.leads:
                self.sender.configure(self._config, self.node, now)

    # --- elections

    def _stand(self, now: float) -> None:
        """The deadline passed: ask whether to campaign."""
        if not self.may_campaign:
            self.core.deadline = _NEVER if self.node not in self._config.voters else now + self._prevote.again()
        elif self._fixes.sticky:
            self.core.deadline = now + self._prevote.again()
            round_ = self._prevote.begin(self.node)
            if self._config.quorum == 1:
                self._campaign(now)
            else:
                terms = self.journal.terms
                for voter in self._config.voters:
                    if voter != self.node:
                        self._say(voter, Kind.PREVOTE, terms.last, terms.last_term, round_=round_)
        else:
            self._votes.clear()

    def _campaign(self, now: float, *, forced: bool = False) -> None:
        pause = self._prevote.campaign()
        self._votes.clear()
        self._forced = forced
        self.core.campaign(now)
        self._forced = False
        if not self.core.leads:
            self.core.deadline = now + pause

    def hurry(self) -> None:
        """There is certainly no leader."""
        if not self.core.leads:
            self._prevote.lose()
            self.core.deadline = self._home.now() + self._prevote.hasty()

    def step_down(self) -> None:
        """Lead no more."""
        if self.core.leads:
            self.core.step_down(self._home.now())
            self._home.wake(self)

    # --- what comes in

    def receive(self, now: float, sender: NodeId, message: Message) -> None:
        """A message of this group; a turn follows."""
        kind, term = message.kind, self.core.term
        if self._fixes.term and message.term != term:
            if message.term < term:
                if kind in _TOLD:
                    self._say(sender, Kind.NOTICE)
                return
            if kind not in _TERM_APART:
                led = self.core.leads
                self.core.adopt(now, message.term)
                self._settle(now, led and False)
        if kind == Kind.APPEND:
            self._appended_to(now, sender, message)
        elif kind == Kind.APPENDED or kind == Kind.REJECTED:
            if self.core.leads:
                self._answered(now, sender, message)
        elif kind == Kind.PREVOTE:
            self._prevote_asked(now, sender, message)
        elif kind == Kind.PREVOTED:
            self._prevoted(now, sender, message)
        elif kind == Kind.VOTE or kind == Kind.VOTE_FORCED:
            self._vote_asked(now, sender, message)
        elif kind == Kind.VOTED:
            self._voted(now, sender, message)
        elif kind == Kind.CAMPAIGN:
            if sender == self.core.leader and self.may_campaign and not self.core.leads:
                self._campaign(now, forced=True)
        elif kind == Kind.OFFER and not self.core.leads and message.at > self.journal.terms.last:
            self._prevote.see(now)
            self.behind = True
            self._events.behind(sender)

    def _appended_to(self, now: float, sender: NodeId, message: Message) -> None:
        if self.core.leads and message.term == self.core.term:
            return
        self._prevote.see(now)
        append = self._guard(self.journal, message, self.core.commit)
        self._answering = (message, append)
        self.core.append(now, sender, message.term, append.prev, append.prev_term, append.entries, append.commit)
        self._answering = None
        self.reconfigure()

    def answer_append(self, node: NodeId, *, success: bool) -> None:
        assert self._answering is not None
        message, append = self._answering
        if not success:
            self._say(node, Kind.REJECTED, message.at, commit=append.hint, round_=message.round)
        elif message.entries:
            self.behind = False
            self._say(node, Kind.APPENDED, append.end, round_=message.round)
        else:
            # A sign of life needn't wait for entries that are still being written.
            self.behind = False
            synced = self.journal.synced_index if self._fixes.barrier else append.end
            need = self.journal.meta_seq
            self._say(node, Kind.APPENDED, min(append.end, synced), round_=message.round, need=need)

    def _answered(self, now: float, node: NodeId, message: Message) -> None:
        peer = self.sender.peers.get(node)
        if peer is None or message.at > self.journal.terms.last:
            return
        peer.heard = now
        self.reads.heard(node, message.round)
        if message.kind == Kind.REJECTED:
            self.eager |= self.sender.rejected(peer, message.at, message.commit)
            if peer.voter:
                self.core.answered(now, node, None)
            return
        self.eager |= self.sender.appended(peer, message.at)
        if peer.voter:
            index = message.at
            if self._fixes.clip:
                index = self._clip.take(node, self.core.term, index, self.journal.synced_index)
            self.core.answered(now, node, index)

    def _prevote_asked(self, now: float, sender: NodeId, message: Message) -> None:
        if self.core.leads or self._prevote.leader_alive(now):
            return
        terms = self.journal.terms
        mine, theirs = (terms.last_term, terms.last), (message.at_term, message.at)
        if theirs < mine:
            return
        self._say(sender, Kind.PREVOTED, round_=message.round)
        if (*mine, self.node) < (*theirs, sender):
            self.core.deadline = max(self.core.deadline, now + self._prevote.give_way())

    def _prevoted(self, now: float, sender: NodeId, message: Message) -> None:
        if sender not in self._config.voters or not self.may_campaign or self.core.leads:
            return
        if self._prevote.granted(message.round, sender) >= self._config.quorum:
            self._campaign(now)

    def _vote_asked(self, now: float, sender: NodeId, message: Message) -> None:
        if self._fixes.sticky and message.kind == Kind.VOTE and (self.core.leads or self._prevote.leader_alive(now)):
            return
        led = self.core.leads
        self.core.vote_asked(now, sender, message.term, message.at, message.at_term)
        if led and not self.core.leads:
            self.core.deadline = now + self._prevote.campaign()

    def _voted(self, now: float, sender: NodeId, message: Message) -> None:
        if sender not in self._config.voters or not self.core.stands:
            return
        if self._fixes.dedupe and sender in self._votes:
            return
        self._votes.add(sender)
        self.core.voted(now, sender, message.term)

    def stored(self) -> None:
        """The journal: a commit ended."""
        if self.closed:
            return
        journal = self.journal
        if journal.failing:
            self.step_down()
            return
        self._barrier.release(journal.synced_seq)
        if self.core.leads:
            now = self._home.now()
            for node, index in self._clip.due(self.core.term, journal.synced_index):
                peer = self.sender.peers.get(node)
                if peer is not None and peer.voter:
                    self.core.answered(now, node, index)
        self._home.wake(self)

    # --- what the library wants

    def ask_vote(self, node: NodeId) -> None:
        terms = self.journal.terms
        self._say(node, Kind.VOTE_FORCED if self._forced else Kind.VOTE, terms.last, terms.last_term)

    def grant_vote(self, node: NodeId) -> None:
        self._say(node, Kind.VOTED)

    def send_entries(self) -> None:
        core = self.core
        if self._leading_term != core.term:
            self._leading_term = core.term
            self.reads.fail()
            self.sender.begin(self._config, self.node, self._home.now())
            self._counted = max(self.commit, self.journal.terms.base)
            self.waiting_bytes = self.journal.size(self._counted + 1, self.journal.terms.last)
        if self._notice:
            self._notice_at = _NEVER
        self.sender.send(core.term, self.commit, self.reads.round, beat=self._beat, notice=self._notice)
        self._beat = self._notice = False
        self.reads.sent()

    def apply(self) -> None:
        core = self.core
        upto = self.commit if self._fixes.applied_gate else core.commit
        index = core.applied
        if upto <= index:
            return
        for term, command in self.journal.entries(index + 1, self._options.apply_bytes, upto):
            index += 1
            core.applied = index
            if command[0] == REGULAR:
                self._events.commit(index, term, command[1:])
        if index < upto:
            self._home.wake(self)

    # --- what goes out

    def _say(
        self,
        to: NodeId,
        kind: Kind,
        index: int = 0,
        log_term: int = 0,
        *,
        commit: int = 0,
        round_: int = 0,
        need: int | None = None,
    ) -> None:
        journal = self.journal
        data = Message(kind, self.name, self.core.term, index, log_term, commit, round_).encode()
        if not self._fixes.barrier:
            self._home.post(to, data)
        else:
            self._barrier.post(to, data, journal.seq if need is None else need, journal.synced_seq)

    def _post_append(self, to: NodeId, data: bytes) -> None:
        if self._fixes.barrier:
            # The leader's own entries needn't be durable before others get them, as they count for nothing yet.
            self._barrier.post(to, data, self.journal.meta_seq, self.journal.synced_seq)
        else:
            self._home.post(to, data)

    # --- links and the end

    def link(self, node: NodeId, up: bool) -> None:
        """A peer came or went."""
        if up:
            self.sender.link(node)
            self.eager = True
            self._home.wake(self)
        elif node == self.core.leader:
            self.hurry()
            self._home.wake(self)

    def close(self) -> None:
        """Say and do nothing more."""
        self.closed = True
        self._barrier.forget()
        self.journal.close()
        self.reads.fail()
        self.transfer.end(success=False)
