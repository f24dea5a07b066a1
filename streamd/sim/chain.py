"""The machine of a simulated group: a checksum over all that was committed, with the index it stands at.

Guarantee:  every entry and every state is compared with what all other replicas have; its state is durable with the index,
            late and seldom, so that a start replays and a laggard has to fetch.
"""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, Final

from streamd.sim.clock import MS
from streamd.sim.violation import Violation

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamd.raft.group import Group
    from streamd.raft.net import NodeId
    from streamd.sim.ledger import Ledger
    from streamd.sim.raft_node import RaftNode
    from streamd.store import Outcome, Work

    #: Hears where a proposal was committed (index, term); None: nobody knows whether it will be.
    Heard = Callable[[tuple[int, int] | None], None]

#: index, its term, checksum
_STATE: Final = struct.Struct("<QQI")
#: What the machine's state is kept as in the group's pseudo stream.
APPLIED: Final = 3
SAVE_EVERY: Final = 40
FETCH_NS: Final = 400 * MS


class Chain:
    """One replica."""

    group: Group

    def __init__(self, node: RaftNode, name: str, stream: int, ledger: Ledger, stored: bytes | None) -> None:
        self.name = name
        self.index, self.term, self.value = _STATE.unpack(stored) if stored else (0, 0, 0)
        self.leading = False
        self._node = node
        self._stream = stream
        self._ledger = ledger
        self._waiting: dict[
            int, tuple[int, Callable[[tuple[int, int] | None], None]]
        ] = {}  # proposals by index: term, who hears
        self._saved = self.index
        self._stored = self.index  # what the store has, or will have by the commits under way
        self._saving = False
        self._fetching = False
        self._compare()

    # what the group calls

    def committed(self, index: int, term: int, command: bytes) -> None:
        """The next entry."""
        if index <= self.index:
            raise Violation(f"{self._node.node} is given entry {index} again, it stands at {self.index}")
        self.index, self.term = index, term
        self.value = zlib.crc32(command, zlib.crc32(b"%d" % index, self.value))
        self._compare()
        waiting = self._waiting.pop(index, None)
        if waiting is not None:
            waiting[1]((index, term) if waiting[0] == term else None)
        if index >= self._saved + SAVE_EVERY:
            self.save()

    def role_changed(self) -> None:
        """Leadership came or went."""
        self.leading = self.group.leading
        if not self.leading:
            waiting, self._waiting = self._waiting, {}
            for _, heard in waiting.values():
                heard(None)

    def behind(self, leader: NodeId) -> None:
        """Fetch the leader's state."""
        if self._fetching:
            return
        self._fetching = True
        self._node.net.call(leader, f"state.{self.name}", b"", self._fetched, timeout_ns=FETCH_NS)

    # proposals

    def propose(self, command: bytes, heard: Heard) -> None:
        """`heard`: its index and term once it is committed, None if its fate is unknown. Errors: those of `Group.propose`."""
        index = self.group.propose(command)
        if self._node.eager:
            heard((index, self.group.term))
            return
        if index in self._waiting:
            self._waiting.pop(index)[1](None)
        self._waiting[index] = (self.group.term, heard)

    # state

    def save(self) -> None:
        """Make the state durable, so that entries may be compacted."""
        if not self._saving:
            self._saving = True
            self._node.at_rest(self._save)

    def _save(self, work: Work) -> Callable[[Outcome], None] | None:
        index = self.index
        if index <= self._stored:
            # A fetched state is on its way to the disk, and this one is behind it.
            self._saving = False
            return None
        self._stored = index
        work.of(self._stream).consumer_states[APPLIED] = _STATE.pack(self.index, self.term, self.value)

        def done(outcome: Outcome) -> None:
            self._saving = False
            if outcome.error is not None:
                self._stored = self._saved
                self._node.clock.call_later(100 * MS, self.save)
            else:
                self._saved = max(self._saved, index)
                self.group.applied(index)

        return done

    def state(self) -> bytes:
        """For a replica that is behind."""
        return _STATE.pack(self.index, self.term, self.value)

    def _fetched(self, answer: bytes | None) -> None:
        if answer is None or _STATE.unpack_from(answer)[0] <= self.index:
            self._fetching = False
            return
        self._node.at_rest(lambda work: self._install(work, answer))

    def _install(self, work: Work, answer: bytes) -> Callable[[Outcome], None] | None:
        state = _STATE.unpack_from(answer)
        if state[0] <= max(self.index, self._stored):
            self._fetching = False
            return None
        self._stored = state[0]
        work.of(self._stream).consumer_states[APPLIED] = _STATE.pack(*state)

        def done(outcome: Outcome) -> None:
            self._fetching = False
            if outcome.error is not None:
                self._stored = self._saved
            elif state[0] > self.index:
                self._node.world.counts["states installed"] += 1
                self.index, self.term, self.value = state
                self._saved = self.index
                self._compare()
                self._node.installed(self, answer[_STATE.size :])

        return done

    def _compare(self) -> None:
        known = self._ledger.chain.setdefault(self.index, self.value)
        if known != self.value:
            raise Violation(f"group {self.name}: {self._node.node} differs from others at {self.index}")
