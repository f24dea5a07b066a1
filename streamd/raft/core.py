"""The library, tamed: with `library` the only file that knows its inside.

In the walk:  `replica` calls, `Owner` is called back; the rules around it live in the other files of this room.

PySyncObj keeps: elections, votes, the follower's log matching, the commit rule, check-quorum.
Taken from it:   sending entries, applying, the network, the journal, time, randomness, snapshots, membership.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from streamd.raft.library import LogView, Moment, NoPoller, NoSnapshots, SyncObj, SyncObjConf, Wanted, Wire
from streamd.raft.node import PeerNode

if TYPE_CHECKING:
    import random
    from collections.abc import Iterable

    from streamd.raft.journal import Journal
    from streamd.raft.net import NodeId
    from streamd.raft.options import Options

_FOLLOWER, _CANDIDATE, _LEADER = 0, 1, 2
_LONG_AGO: Final = -1.0
_NEVER: Final = float("inf")
_HUGE: Final = 1 << 60


class Owner(Wanted, Protocol):
    """Who does what is taken from the library."""

    def send_entries(self) -> None:
        """Send what there is, and heartbeats."""

    def apply(self) -> None:
        """Hand over what is committed."""


class Core(SyncObj):  # type: ignore[misc]
    """One group's state machine of Raft. Times are seconds."""

    def __init__(
        self, node: NodeId, journal: Journal, owner: Owner, options: Options, rng: random.Random, now: float
    ) -> None:
        # Before the library's own: it draws the first timeout, and reads every attribute there is.
        self._owner = owner
        self._rng = rng
        self._nodes: dict[NodeId, PeerNode] = {}
        self._timeouts = options.election_min_ns / 1e9, options.election_max_ns / 1e9
        Moment.now = now
        conf = SyncObjConf(
            autoTick=False,
            journalFile=LogView(journal),
            appendEntriesPeriod=options.heartbeat_ns / 1e9,
            raftMinTimeout=self._timeouts[0],
            raftMaxTimeout=self._timeouts[1],
            leaderFallbackTimeout=options.quorum_timeout_ns / 1e9,
            connectionTimeout=self._timeouts[1],
            commandsWaitLeader=False,
            appendEntriesUseBatch=True,
            dynamicMembershipChange=False,
            fullDumpFile=None,
            useFork=False,
            logCompactionMinEntries=_HUGE,
            logCompactionMinTime=_HUGE,
        )
        super().__init__(self._node(node), [], conf=conf, transport=Wire(owner))
        self._poller = NoPoller()
        self._SyncObj__serializer = NoSnapshots()
        self._SyncObj__newAppendEntriesTime = _NEVER

    # --- what it is

    @property
    def leads(self) -> bool:
        """Whether it is the leader of its term."""
        state: int = self._SyncObj__raftState
        return state == _LEADER

    @property
    def follows(self) -> bool:
        """Whether it neither leads nor stands."""
        state: int = self._SyncObj__raftState
        return state == _FOLLOWER

    @property
    def stands(self) -> bool:
        """Whether it is a candidate."""
        state: int = self._SyncObj__raftState
        return state == _CANDIDATE

    @property
    def term(self) -> int:
        """The current term."""
        term: int = self._SyncObj__raftCurrentTerm
        return term

    @property
    def leader(self) -> NodeId | None:
        """The leader of the current term, as far as is known."""
        leader: PeerNode | None = self._SyncObj__raftLeader
        return leader.id if leader is not None else None

    @property
    def no_op(self) -> int:
        """The first entry of this leadership; only for a leader."""
        index: int = self._SyncObj__noopIDx
        return index

    @property
    def commit(self) -> int:
        """The commit index; the own disk may lack what it covers."""
        index: int = self._SyncObj__raftCommitIndex
        return index

    @property
    def applied(self) -> int:
        """What the machine was given, up to here."""
        index: int = self._SyncObj__raftLastApplied
        return index

    @applied.setter
    def applied(self, index: int) -> None:
        self._SyncObj__raftLastApplied = index

    @property
    def deadline(self) -> float:
        """When this follower may campaign."""
        moment: float = self._SyncObj__raftElectionDeadline
        return moment

    @deadline.setter
    def deadline(self, moment: float) -> None:
        self._SyncObj__raftElectionDeadline = moment

    # --- what it is told

    def tick(self, now: float, *, send: bool) -> None:
        """Look at what has changed: count acks, check the quorum, apply; send entries if asked to."""
        Moment.now = now
        if send:
            self._SyncObj__newAppendEntriesTime = _LONG_AGO
        self._onTick(0.0)

    def campaign(self, now: float) -> None:
        """Become a candidate of the next term; alone, its leader."""
        self.deadline = _LONG_AGO
        # With no peer at all reachable the library would wait; the grants are what makes this worth while.
        self._SyncObj__connectedNodes.update(self._SyncObj__otherNodes)
        self.tick(now, send=False)

    def configure(self, now: float, voters: Iterable[NodeId]) -> None:
        """Who decides from now on; the node itself is counted in any case."""
        before = self._SyncObj__otherNodes
        others = {self._node(node) for node in voters if node != self._SyncObj__selfNode.id}
        self._SyncObj__updateClusterConfiguration(others)
        for node in others - before:
            self._SyncObj__lastResponseTime[node] = now

    def append(
        self,
        now: float,
        sender: NodeId,
        term: int,
        prev: int,
        prev_term: int,
        entries: list[tuple[bytes, int, int]],
        commit: int,
    ) -> None:
        """An append of the current or a later term."""
        Moment.now = now
        self._receive(
            sender,
            {
                "type": "append_entries",
                "term": term,
                "commit_index": commit,
                "entries": entries,
                "prevLogIdx": prev,
                "prevLogTerm": prev_term,
            },
        )

    def follow(self, now: float, commit: int) -> None:
        """The leader that is followed already gave a sign of life; its entries, if any, are behind the last one here. What the
        library does then, without its dispatch and its looks at the log."""
        self._SyncObj__raftElectionDeadline = now + self._SyncObj__generateRaftTimeout()
        self._SyncObj__leaderCommitIndex = commit
        self._SyncObj__raftCommitIndex = max(self.commit, commit)
        self._SyncObj__raftLog.setRaftCommitIndex(self._SyncObj__raftCommitIndex)

    def answered(self, now: float, sender: NodeId, match: int | None) -> None:
        """A voter's answer to an append of this leadership: what it has, up to there; None: it refused."""
        Moment.now = now
        message = {
            "type": "next_node_idx",
            "reset": False,
            "success": match is not None,
            "next_node_idx": (match or 0) + 1,
        }
        self._receive(sender, message)

    def vote_asked(self, now: float, sender: NodeId, term: int, last: int, last_term: int) -> None:
        """A candidate wants a vote."""
        Moment.now = now
        message = {"type": "request_vote", "term": term, "last_log_index": last, "last_log_term": last_term}
        self._receive(sender, message)

    def voted(self, now: float, sender: NodeId, term: int) -> None:
        """A voter's grant; once a voter and term."""
        Moment.now = now
        self._receive(sender, {"type": "response_vote", "term": term})

    def adopt(self, now: float, term: int) -> None:
        """A later term was seen."""
        self._SyncObj__setCurrentTerm(term, None)
        self.step_down(now)

    def step_down(self, now: float) -> None:
        """Follow nobody for now."""
        self._SyncObj__setState(_FOLLOWER)
        self._SyncObj__raftLeader = None
        self.deadline = now + self._SyncObj__generateRaftTimeout()

    def forget_leader(self) -> None:
        """Nothing was heard of it for too long, and it may come back in this term."""
        self._SyncObj__raftLeader = None

    def skip_to(self, index: int) -> None:
        """The machine has the state at this entry."""
        self.applied = max(self.applied, index)
        self._SyncObj__raftCommitIndex = max(self.commit, index)

    def _receive(self, sender: NodeId, message: dict[str, object]) -> None:
        self._SyncObj__transport._onMessageReceived(self._node(sender), message)

    def _node(self, node: NodeId) -> PeerNode:
        known = self._nodes.get(node)
        if known is None:
            known = self._nodes[node] = PeerNode(node)
        return known

    # --- what is done in its place

    def _SyncObj__generateRaftTimeout(self) -> float:  # noqa: N802
        return self._rng.uniform(*self._timeouts)

    def _SyncObj__sendAppendEntries(self) -> None:  # noqa: N802
        self._SyncObj__newAppendEntriesTime = _NEVER
        self._owner.send_entries()

    def _SyncObj__applyLogEntries(self) -> bool:  # noqa: N802
        self._owner.apply()
        return False

    def _SyncObj__doApplyCommand(self, command: object) -> None:  # noqa: N802
        raise AssertionError("entries are applied by the owner")
