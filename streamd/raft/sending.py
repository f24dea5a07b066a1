"""What a leader sends to whom.

probe     where the logs part is not known: one message at a time, again at each heartbeat
stream    the peer has all up to `next`, or will: entries as they come, within a window
offer     the peer needs entries that are gone: at each heartbeat it is told to fetch the state
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from streamd.raft.envelope import CONFIG, Kind, Message

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Set as AbstractSet

    from streamd.raft.config import Config
    from streamd.raft.envelope import Encoded
    from streamd.raft.journal import Journal
    from streamd.raft.net import NodeId
    from streamd.raft.options import Options


class Progress:
    """How far a peer is, in this leadership."""

    __slots__ = ("asked", "commit", "flights", "flying", "heard", "match", "next", "node", "prev", "probing", "voter")

    def __init__(self, node: NodeId, voter: bool, next_: int) -> None:
        self.node = node
        self.voter = voter
        self.next = next_  # the entry to be sent next
        self.match = 0  # the peer's disk has all up to here
        self.commit = 0  # the last commit index that it was told
        self.heard = 0.0  # when it answered last
        self.probing = True
        self.asked = False  # a probe is under way
        self.prev = 0  # the entry before those of the last probe
        self.flights: deque[tuple[int, int]] = deque()  # (last entry, bytes) of messages that weren't answered yet
        self.flying = 0  # bytes of them

    def probe(self, next_: int) -> None:
        """Find out again where the logs part."""
        self.next = next_
        self.probing = True
        self.asked = False
        self.flights.clear()
        self.flying = 0


class Sender:
    """A leader's side of replication."""

    def __init__(
        self,
        group: str,
        journal: Journal,
        options: Options,
        linked: AbstractSet[NodeId],
        post: Callable[[NodeId, Encoded], None],
    ) -> None:
        """`linked`: kept up to date by its owner."""
        self.peers: dict[NodeId, Progress] = {}  # by id, ascending
        self._group = group
        self._journal = journal
        self._options = options
        self._linked = linked
        self._post = post
        self._encoded: tuple[Message, Encoded] | None = None

    def begin(self, config: Config, me: NodeId, now: float) -> None:
        """A leadership begins: its no-op is the last entry, and goes out with the first probe."""
        self.peers = {}
        self.configure(config, me, now)
        for peer in self.peers.values():
            peer.next = self._journal.terms.last

    def configure(self, config: Config, me: NodeId, now: float) -> None:
        """Send to those in this configuration."""
        before = self.peers
        self.peers = {}
        for node in sorted({*config.voters, *config.learners} - {me}):
            peer = before.get(node)
            if peer is None:
                peer = Progress(node, False, self._journal.terms.last + 1)
                peer.heard = now
            peer.voter = node in config.voters
            self.peers[node] = peer

    def send(self, term: int, commit: int, round_: int, *, beat: bool, notice: bool) -> bool:
        """Send everyone what may be sent. `beat`: a heartbeat is due; `notice`: so is the commit index. Returns whether
        everyone who can be reached was told that."""
        told = True
        for node, peer in self.peers.items():
            if node not in self._linked:
                continue
            if peer.next <= self._journal.terms.base:
                if beat:
                    self._offer(peer, term, commit, round_)
            elif peer.probing:
                if beat or not peer.asked:
                    peer.asked = True
                    peer.prev = peer.next - 1
                    self._append(peer, peer.next, term, commit, round_)
            elif not self._stream(peer, term, commit, round_) and (beat or (notice and peer.commit < commit)):
                self._append(peer, self._journal.terms.last + 1, term, commit, round_, peer.next - 1)
            told = told and peer.commit >= commit
        return told

    def _stream(self, peer: Progress, term: int, commit: int, round_: int) -> bool:
        last, window = self._journal.terms.last, self._options.window_bytes
        sent = False
        while peer.next <= last and peer.flying < window:
            end, size = self._append(peer, peer.next, term, commit, round_)
            peer.next = end + 1
            peer.flights.append((end, size))
            peer.flying += size
            sent = True
        return sent

    def _append(
        self, peer: Progress, first: int, term: int, commit: int, round_: int, prev: int | None = None
    ) -> tuple[int, int]:
        """An append of entries from `first` on, of none if there is none. Returns the last one, and their bytes."""
        journal = self._journal
        prev = first - 1 if prev is None else prev
        entries = journal.entries(first, self._options.batch_bytes) if first <= journal.terms.last else []
        message = Message(Kind.APPEND, self._group, term, prev, journal.terms.at(prev), commit, round_, tuple(entries))
        peer.commit = commit
        self._post(peer.node, self._encode(message))
        return prev + len(entries), sum(len(command) for _, command in entries)

    def _encode(self, message: Message) -> Encoded:
        """Peers that are equally far get the same bytes."""
        last = self._encoded
        if last is None or last[0][:7] != message[:7] or len(last[0].entries) != len(message.entries):
            self._encoded = last = (message, message.encode())
        return last[1]

    def _offer(self, peer: Progress, term: int, commit: int, round_: int) -> None:
        terms = self._journal.terms
        base, base_term = terms.base, terms.at(terms.base)
        config = (base_term, bytes((CONFIG,)) + self._journal.config_at(base).encode())
        offer = Message(Kind.OFFER, self._group, term, base, base_term, entries=(config,))
        self._post(peer.node, offer.encode())
        # Its answer tells that the peer is alive, and when it has the state.
        peer.prev = terms.base
        self._append(peer, terms.last + 1, term, commit, round_, terms.base)

    def appended(self, peer: Progress, index: int) -> bool:
        """A peer has all up to an entry. Returns whether there is more to send."""
        peer.match = max(peer.match, index)
        while peer.flights and peer.flights[0][0] <= index:
            peer.flying -= peer.flights.popleft()[1]
        peer.probing = False
        peer.next = max(peer.next, index + 1)
        return peer.next <= self._journal.terms.last

    def rejected(self, peer: Progress, index: int, hint: int) -> bool:
        """A peer lacks the entry before an append, or has another there. Returns whether to try again at once."""
        counts = index == peer.prev if peer.probing else index > peer.match
        if not counts:
            return False
        terms = self._journal.terms
        next_ = min(max(hint, peer.match + 1), terms.last + 1)
        if next_ <= terms.base and index != terms.base:
            # A hint lies before all that is in doubt: the logs may part only behind the base.
            next_ = terms.base + 1
        peer.probe(next_)
        # A peer that refuses what it has acknowledged has lost it: asking again and again wouldn't help.
        peer.asked = next_ > index
        return terms.base < next_ <= index

    def link(self, node: NodeId) -> None:
        """A peer can be reached again: what was under way is lost."""
        peer = self.peers.get(node)
        if peer is not None:
            peer.probe(peer.next if peer.probing else peer.match + 1)
