"""A replicated group, as a machine sees it."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from streamd.raft.config import Config
from streamd.raft.envelope import CONFIG, REGULAR
from streamd.raft.errors import ChangeRefused, JournalDamaged, NotLeader, Overloaded
from streamd.raft.journal import Journal
from streamd.raft.membership import refusal
from streamd.raft.replica import Replica

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterable

    from streamd.clock import Clock
    from streamd.raft.net import NodeId
    from streamd.raft.options import Options
    from streamd.raft.sides import Home, Machine
    from streamd.raft.storage import Job, Storage

_log = logging.getLogger(__name__)
#: What a command has in front of it in the log.
PREFIX: Final = bytes((REGULAR,))
_CONFIG = bytes((CONFIG,))


@dataclass(frozen=True, slots=True)
class PeerStatus:
    """A peer as its leader sees it."""

    node: NodeId
    match: int  # its disk has the entries up to here
    lag: int  # and so many not
    active_ns: int  # since it answered last
    connected: bool
    learner: bool


class Group:
    """One group on this node."""

    def __init__(
        self,
        name: str,
        storage: Storage,
        machine: Machine,
        applied: int,
        *,
        home: Home,
        node: NodeId,
        clock: Clock,
        rng: random.Random,
        at_rest: Callable[[Job], None],
        options: Options,
        closed: Callable[[Group], None],
    ) -> None:
        """Use `Host.open`."""
        self.name = name
        self.node = node
        self.failed: JournalDamaged | None = None  # what ended it
        self._machine = machine
        self._home = home
        self._clock = clock
        self._options = options
        self._closed = closed
        self._journal = Journal(name, storage, at_rest, clock, options, lambda: self.replica.stored())
        if applied < self._journal.terms.base:
            base = self._journal.terms.base
            raise JournalDamaged(name, f"it begins at {base}, and what was applied ends at {applied}")
        self.replica = Replica(name, node, self._journal, home, self, options, rng)
        self.replica.core.applied = applied
        # If there is a leader, those who hear it will refuse.
        self.replica.elections.hurry(home.now())

    # --- what it is

    @property
    def term(self) -> int:
        """The current term."""
        return self.replica.core.term

    @property
    def leading(self) -> bool:
        """Whether this node leads, and has applied everything before its leadership."""
        return self.replica.leading

    @property
    def accepts(self) -> bool:
        """Whether this node takes proposals: it leads, and isn't handing that over."""
        return self.replica.leading and not self.replica.transfer.under_way

    @property
    def leader(self) -> NodeId | None:
        """Who leads, as far as is known here; None while it can't be reached."""
        return self.replica.leader

    @property
    def last_term(self) -> int:
        """The term of the last entry."""
        return self._journal.terms.last_term

    @property
    def term_before(self) -> int:
        """The term of the last entry before this leadership: that of the last leader before it that could commit anything."""
        return self.replica.term_before

    @property
    def led_term(self) -> int:
        """The last term that this node has led since it started, be it the current one or not; 0 if it led none."""
        return self.replica.led_term

    def led_within(self, ns: int) -> bool:
        """Whether this node leads now, or did so long ago at most."""
        return self.replica.core.leads or self._home.now() - self.replica.led_until < ns / 1e9

    @property
    def handed_over(self) -> bool:
        """Whether this node's last leadership ended by a transfer."""
        return self.replica.transfer.succeeded

    @property
    def was_asked(self) -> bool:
        """Whether this node is the leader of its term because the one before wished it."""
        return self.replica.core.leads and self.replica.elections.asked_term == self.term

    @property
    def first_index(self) -> int:
        """The first entry that is kept."""
        return self._journal.terms.base + 1

    @property
    def last_index(self) -> int:
        """The last entry, be it committed or not."""
        return self._journal.terms.last

    @property
    def commit_index(self) -> int:
        """The last entry known to be committed, and durable here."""
        return self.replica.commit

    @property
    def config(self) -> Config:
        """The configuration in force, be it committed or not."""
        return self._journal.config

    def status(self) -> list[PeerStatus]:
        """The peers, for a leader; nothing else knows them."""
        if not self.replica.core.leads:
            return []
        now, last = self._home.now(), self.last_index
        return [
            PeerStatus(
                peer.node,
                peer.match,
                last - peer.match,
                int((now - peer.heard) * 1e9),
                peer.node in self._home.linked,
                not peer.voter,
            )
            for peer in self.replica.replication.sender.peers.values()
        ]

    def read(self, from_index: int, bytes_max: int) -> list[tuple[int, int, bytes]]:
        """(index, term, command) of committed commands from an index on, `first_index` at least; one more than fits at most,
        none at the end.

        Errors: JournalDamaged.
        """
        index = max(from_index, self.first_index)
        found: list[tuple[int, int, bytes]] = []
        last = self.commit_index
        while index <= last and (bytes_max > 0 or not found):
            for term, command in self._journal.entries(index, bytes_max, last):
                if command[0] == REGULAR:
                    found.append((index, term, command[1:]))
                index += 1
                bytes_max -= len(command)
        return found

    def at(self, index: int) -> tuple[int, Config]:
        """The term of an entry, and the configuration in force there: what `installed` elsewhere needs beside the state. The
        entry is kept, or the last one that was dropped."""
        return self._journal.terms.at(index), self._journal.config_at(index)

    # --- what the machine wants

    def bootstrap(self, voters: Iterable[NodeId], *, leader: NodeId | None = None) -> None:
        """Begin a new group: every voter does the same. `leader`: who is to lead, if it can: the others let it go first.

        Errors: ChangeRefused.
        """
        if self.last_index:
            raise ChangeRefused(self.name, "it has begun already")
        self._journal.add(_CONFIG + Config(tuple(sorted(voters))).encode(), 0)
        self.replica.reconfigure()
        self.replica.elections.hurry(self._home.now(), second=leader not in (None, self.node))
        self._home.wake(self.replica)

    def propose(self, *pieces: bytes) -> int:
        """Append a command, in one or more pieces; it is committed when `committed` gets it, at this index and in this term.

        Errors: NotLeader, Overloaded.
        """
        return self.propose_whole(b"".join((PREFIX, *pieces)))

    def propose_whole(self, command: bytes) -> int:
        """As `propose`, for a command that has PREFIX in front of it already: a long one isn't copied."""
        assert command[0] == REGULAR
        replica = self.replica
        if not replica.leading or replica.transfer.under_way:
            raise NotLeader(self.name, None if replica.transfer.under_way else self.leader)
        if replica.waiting_bytes and replica.waiting_bytes + len(command) > self._options.proposed_bytes_max:
            raise Overloaded(self.name, replica.waiting_bytes)
        return self._add(command)

    def _add(self, command: bytes) -> int:
        index = self._journal.add(command, self.term)
        self.replica.waiting_bytes += len(command)
        self.replica.replication.eager = True
        self._home.wake(self.replica)
        return index

    def add_learner(self, node: NodeId) -> None:
        """Send entries to a node that doesn't vote. Errors: ChangeRefused."""
        if node in self.config.voters:
            raise ChangeRefused(self.name, f"{node} is a voter")
        self._change(self.config.with_learner(node))

    def promote(self, node: NodeId, lag: int = 0) -> None:
        """Make a learner a voter that has caught up but for so many entries, as under load it always lacks the last ones.

        Errors: ChangeRefused."""
        peer = self.replica.replication.sender.peers.get(node)
        if node not in self.config.learners or peer is None:
            raise ChangeRefused(self.name, f"{node} is no learner")
        if peer.match + lag < self.commit_index:
            raise ChangeRefused(self.name, f"{node} lacks {self.commit_index - peer.match} entries")
        self._change(self.config.with_voter(node))

    def remove(self, node: NodeId) -> None:
        """Take a node out, voter or learner. It isn't told. Errors: ChangeRefused."""
        if node not in self.config.voters and node not in self.config.learners:
            raise ChangeRefused(self.name, f"{node} is no member")
        self._change(self.config.without(node))

    def _change(self, new: Config) -> None:
        replica = self.replica
        if not replica.leading or replica.transfer.under_way:
            raise ChangeRefused(self.name, "this node doesn't lead it")
        if self._options.fixes.one_at_a_time and self._journal.configs[-1][0] > replica.core.applied:
            raise ChangeRefused(self.name, "the change before isn't committed yet")
        alive_since = self._home.now() - self._options.quorum_timeout_ns / 1e9
        alive = {
            node for node, peer in replica.replication.sender.peers.items() if peer.match and peer.heard > alive_since
        }
        reason = refusal(self.config, new, self.node, alive)
        if reason is not None:
            raise ChangeRefused(self.name, reason)
        if new != self.config:
            self._add(_CONFIG + new.encode())
            replica.reconfigure()

    def transfer(self, to: NodeId | None, done: Callable[[bool], None]) -> None:
        """Hand the leadership over, to a node or to whoever is furthest. `done` hears whether this node leads no more;
        proposals are refused until then."""
        replica = self.replica
        if not replica.leading or replica.transfer.under_way or (to is not None and to not in self.config.voters):
            done(False)
            return
        replica.transfer.begin(self._home.now(), to, done)
        self._home.wake(replica)

    def turn(self, call: Callable[[], None]) -> None:
        """Send at once what is proposed in a call, and have it stored; else that comes once everything that is ready has
        run."""
        self._home.turn(call)

    def after_turn(self, call: Callable[[], None]) -> None:
        """Call once the turn is over in which the machine was told something, in the same callback."""
        self._home.after(call)

    def confirm(self, done: Callable[[bool], None]) -> None:
        """Make sure that this node still leads: all that was committed anywhere before is then handed to `committed`."""
        if not self.leading:
            done(False)
            return
        self.replica.reads.ask(done)
        self._home.wake(self.replica)

    def applied(self, index: int) -> None:
        """The machine's effects up to an entry are durable: it won't be needed here any more."""
        self._journal.trim(min(index, self.commit_index))

    def installed(self, index: int, term: int, config: Config) -> None:
        """The machine has fetched the state at an entry, and it is durable."""
        replica, journal = self.replica, self._journal
        if index <= journal.terms.base:
            return
        if not journal.holds(index, term):
            assert index > replica.core.commit, (
                f"group {self.name}: entry {index} is committed, in another term than {term}"
            )
            journal.rebase(index, term, config)
            replica.reconfigure()
        replica.core.skip_to(index)
        replica.behind = False
        self._home.wake(replica)

    def can_lead(self, yes: bool) -> None:
        """False: never campaign, and give a leadership up."""
        self.replica.can_lead = yes
        if not yes:
            self.replica.step_down()
        self._home.wake(self.replica)

    def close(self) -> None:
        """Take no further part; what is stored stays."""
        self.replica.close()
        self._closed(self)

    # --- what the replica tells

    def commit(self, index: int, term: int, command: bytes) -> None:
        self._machine.committed(index, term, command)

    def behind(self, leader: NodeId) -> None:
        self._machine.behind(leader)

    def role(self) -> None:
        self._machine.role_changed()

    def fail(self, error: JournalDamaged) -> None:
        """The journal can't be read: end it, and tell the machine by a change of role."""
        _log.critical("%s", error)
        self.failed = error
        self.close()
        self._machine.role_changed()
