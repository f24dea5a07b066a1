"""How entries get from a leader to a follower, and the answers back: what goes to the library passes the guards here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamd.raft import guard
from streamd.raft.config import Config
from streamd.raft.envelope import CONFIG, Kind
from streamd.raft.sending import Sender

if TYPE_CHECKING:
    from streamd.raft.envelope import Message
    from streamd.raft.guard import Append
    from streamd.raft.net import NodeId
    from streamd.raft.options import Options
    from streamd.raft.replica import Replica
    from streamd.raft.sides import Home


class Replication:
    """Both sides of one group's, on one of its nodes."""

    def __init__(self, replica: Replica, home: Home, options: Options) -> None:
        self._replica = replica
        self._fixes = options.fixes
        self._check = guard.follower if options.fixes.guard else guard.unguarded
        self._clip = guard.Clip()
        self._answering: tuple[Message, Append] | None = None
        self.sender = Sender(replica.name, replica.journal, options, home.linked, replica.post_append)
        self.eager = False  # there is something to send at once

    # --- a follower

    def append(self, now: float, sender: NodeId, message: Message) -> None:
        """The leader's entries, or its sign of life."""
        replica = self._replica
        core = replica.core
        if core.leads and message.term == core.term:
            return
        replica.elections.see_leader(now)
        if self._fixes.guard and self._next(sender, message):
            self._take(now, sender, message)
            return
        append = self._check(replica.journal, message, core.commit)
        self._answering = (message, append)
        core.append(now, sender, message.term, append.prev, append.prev_term, append.entries, append.commit)
        self._answering = None
        replica.reconfigure()

    def _next(self, sender: NodeId, message: Message) -> bool:
        """Whether an append is what nearly all of them are: of the leader that is followed, and right behind the last entry."""
        core, terms = self._replica.core, self._replica.journal.terms
        return (
            message.at == terms.last
            and message.at_term == terms.last_term
            and message.term == core.term
            and core.follows
            and core.leader == sender
        )

    def _take(self, now: float, sender: NodeId, message: Message) -> None:
        """The next entries: no question for the library."""
        replica, journal = self._replica, self._replica.journal
        for term, command in message.entries:
            journal.add(command, term)
        end = journal.terms.last
        replica.core.follow(now, min(message.commit, end))
        self._accept(sender, message, end)
        replica.reconfigure()

    def answer(self, node: NodeId, *, success: bool) -> None:
        """The library has an answer to what it was given."""
        assert self._answering is not None
        message, append = self._answering
        replica = self._replica
        if not success:
            replica.say(node, Kind.REJECTED, message.at, commit=append.hint, round_=message.round)
            return
        self._accept(node, message, append.end)

    def _accept(self, node: NodeId, message: Message, end: int) -> None:
        """The log is the sender's up to there."""
        replica = self._replica
        replica.behind = False
        if message.entries or not self._fixes.barrier:
            replica.say(node, Kind.APPENDED, end, round_=message.round)
        else:
            # A sign of life needn't wait for entries that are still being written: it speaks of the others.
            end = min(end, replica.journal.synced_index)
            replica.say(node, Kind.APPENDED, end, round_=message.round, need=replica.journal.meta_seq)

    def offer(self, sender: NodeId, message: Message) -> None:
        """The leader lacks what this log needs next: it begins behind an entry that this log doesn't have."""
        replica = self._replica
        core, journal = replica.core, replica.journal
        if core.leads or message.at <= core.commit or journal.holds(message.at, message.at_term):
            return
        if message.at > core.applied:
            replica.behind = True
            replica.events.behind(sender)
        elif message.entries and message.entries[0][1][0] == CONFIG:
            # The machine has that state. A crash came before the journal could follow it.
            journal.rebase(message.at, message.at_term, Config.decode(message.entries[0][1][1:]))
            core.skip_to(message.at)
            replica.reconfigure()

    # --- a leader

    def begin(self, now: float) -> None:
        """A leadership begins."""
        self.sender.begin(self._replica.config, self._replica.node, now)

    def answered(self, now: float, node: NodeId, message: Message) -> bool:
        """A peer's answer to an append. Returns whether anything may follow from it now: a lone publish is committed by the
        first answer, and the others come late."""
        replica = self._replica
        peer = self.sender.peers.get(node)
        if not replica.core.leads or peer is None or message.at > replica.journal.terms.last:
            return False
        peer.heard = now
        replica.reads.heard(node, message.round)
        if message.kind == Kind.REJECTED:
            self.eager |= self.sender.rejected(peer, message.at, message.commit)
            if peer.voter:
                replica.core.answered(now, node, None)
            return True
        self.eager |= self.sender.appended(peer, message.at)
        if peer.voter:
            index = message.at
            if self._fixes.clip:
                index = self._clip.take(node, replica.core.term, index, replica.journal.synced_index)
            replica.core.answered(now, node, index)
        waits = self.eager or replica.reads.waiting or replica.transfer.under_way
        return waits or replica.core.commit < min(message.at, replica.journal.synced_index)

    def stored(self, now: float) -> bool:
        """The leader's own disk caught up: acks that waited for it count now. Returns whether there were any."""
        core, counts = self._replica.core, False
        for node, index in self._clip.due(core.term, self._replica.journal.synced_index):
            peer = self.sender.peers.get(node)
            if core.leads and peer is not None and peer.voter:
                core.answered(now, node, index)
                counts = True
        return counts
