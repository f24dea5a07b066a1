"""What lies on the disks of a group, and what was committed: every write and commit is compared as it happens.

Guarantee:  the first entry that breaks a rule raises Violation, with nodes and places.
Rules:      log matching (equal index and term: equal entry and equal entries before); what was committed never changes; it is
            on a majority of disks when it is first committed; a node cuts it only for a leader of a term before that of the
            commit, and only if it had no part in that; a leader has all that was committed in terms before its own; one leader
            a term; terms and commits of a node never go back.
Source:     the Raft paper, figures 2 and 3.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from streamd._engine import record_decode
from streamd.raft.envelope import CONFIG
from streamd.raft.storage import BASE
from streamd.sim.violation import Violation

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterable

    from streamd.raft.net import NodeId
    from streamd.store import LogWork

#: What a log says of an entry: its term, and a checksum of the rest.
Entry = tuple[int, int]


@dataclass(slots=True)
class Shadow:
    """A log as it lies on one disk."""

    entries: dict[int, Entry] = field(default_factory=dict)
    first: int = 1
    last: int = 0

    def holds(self, index: int, term: int) -> bool:
        """Whether an entry is there, or was and has been compacted."""
        if index < self.first:
            return True
        entry = self.entries.get(index)
        return entry is not None and entry[0] == term


class Ledger:
    """One group."""

    def __init__(self, name: str, counts: Counter[str]) -> None:
        self.name = name
        self.disks: dict[NodeId, Shadow] = {}
        self.committed: dict[int, Entry] = {}
        self.committed_in: dict[int, int] = {}  # the term of who told of it first: that of the commit, or a later one
        self.chain: dict[int, int] = {0: 0}  # checksum of everything committed up to an index
        self.last_of_term: dict[int, int] = {}  # highest index that was committed of a term
        self.leaders: dict[int, NodeId] = {}
        self._terms: dict[NodeId, int] = {}
        self._cut_for: dict[tuple[NodeId, int, int], int] = {}  # (node, index, term) → the leader's term
        self._known: dict[Entry, tuple[int, int]] = {}  # (index, term) → checksum, term of the entry before
        self._counts = counts

    # disks

    def wrote(self, node: NodeId, part: LogWork) -> None:
        """A work has become durable. Errors: Violation."""
        disk = self.disks.setdefault(node, Shadow())
        values = [value for records in part.appends for _, value in records]
        if part.truncate_from == 1 and BASE in part.consumer_states:
            # The log begins anew, behind a state that was fetched; its first entry says only where.
            base = record_decode(values.pop(0))
            disk.entries = {base.sequence: (base.timestamp_ns, zlib.crc32(base.payload))}
            disk.first = disk.last = base.sequence
            self._counts["logs begun anew"] += 1
        elif part.truncate_from and part.truncate_from <= disk.last:
            self._truncate(node, disk, part.truncate_from)
        for value in values:
            self._append(node, disk, value)
        if part.keep_from > disk.first:
            self._counts["compactions"] += 1
            for index in range(disk.first, min(part.keep_from, disk.last + 1)):
                disk.entries.pop(index, None)
            disk.first = part.keep_from
            disk.last = max(disk.last, disk.first - 1)

    def cuts(self, node: NodeId, entries: Iterable[tuple[int, int]], leader_term: int) -> None:
        """A node takes these, as (index, term), out of its log in memory, for the leader of that term; its disk follows."""
        self._cut_for.update(((node, index, term), leader_term) for index, term in entries)

    def _truncate(self, node: NodeId, disk: Shadow, index: int) -> None:
        if index >= disk.first:
            self._counts["truncations"] += 1
        latest, _ = disk.entries.get(disk.last, (0, 0))
        for gone in range(max(index, disk.first), disk.last + 1):
            term, _ = disk.entries.pop(gone)
            committed, _ = self.committed.get(gone, (-1, 0))
            if term == committed and not self._may_cut(node, gone, term, latest):
                raise self._broken(
                    f"{node} cuts entry {gone} of term {term}, which is committed since term {self.committed_in[gone]}"
                )
        disk.last = index - 1

    def _may_cut(self, node: NodeId, index: int, term: int, latest: int) -> bool:
        """Whether Raft lets a node cut a committed entry. `latest`: the term of the last entry on its disk.

        A leader commits an entry of an earlier term with one of its own behind it. A leader of a term between the two needn't
        have the former, and a node that has heard of no later one follows it. Nobody else cuts such an entry: whoever counted
        for the commit has the one of the committing leader's term, and every leader from that term on has them both.
        """
        leader_term = self._cut_for.get((node, index, term))
        return leader_term is not None and max(leader_term, latest) < self.committed_in[index]

    def _append(self, node: NodeId, disk: Shadow, value: bytes) -> None:
        record = record_decode(value)
        index, term, crc = record.sequence, record.timestamp_ns, zlib.crc32(record.payload)
        if index != disk.last + 1:
            raise self._broken(f"{node} writes entry {index} behind entry {disk.last}")
        before = disk.entries.get(index - 1)
        known = self._known.get((index, term))
        if known is None:
            self._counts["configurations"] += record.payload[0] == CONFIG
            self._known[index, term] = (crc, before[0] if before is not None else -1)
        else:
            if known[0] != crc:
                raise self._broken(f"{node} writes another entry {index} of term {term} than others have")
            if before is not None:
                if known[1] == -1:
                    self._known[index, term] = (crc, before[0])
                elif known[1] != before[0]:
                    raise self._broken(
                        f"{node} has term {before[0]} before entry {index} of term {term}, others have term {known[1]}"
                    )
        if before is not None and before[0] > term:
            raise self._broken(f"{node} writes entry {index} of term {term} behind one of term {before[0]}")
        disk.entries[index] = (term, crc)
        disk.last = index

    def opened(self, node: NodeId, values: Iterable[bytes]) -> bool:
        """What the store gives after a start is what was written. False: the end is missing. Errors: Violation."""
        self._terms.pop(node, None)  # one that nobody was told of may be forgotten
        disk = self.disks.setdefault(node, Shadow())
        found: dict[int, Entry] = {}
        for value in values:
            record = record_decode(value)
            found[record.sequence] = (record.timestamp_ns, zlib.crc32(record.payload))
        if found == disk.entries:
            return True
        if len(found) < len(disk.entries) and all(
            found.get(index) == entry for index, entry in disk.entries.items() if index < disk.first + len(found)
        ):
            return False
        differ = sorted(
            index for index in found.keys() | disk.entries.keys() if found.get(index) != disk.entries.get(index)
        )
        raise self._broken(f"the store of {node} does not give back what was written: entries {differ[:5]}")

    # commits

    def commit(
        self, node: NodeId, index: int, term: int, command: bytes, voters: Iterable[NodeId], node_term: int
    ) -> None:
        """A node, which is in that term, hands an entry to its machine. Errors: Violation."""
        entry = (term, zlib.crc32(command))
        first = self.committed.get(index)
        if first is None:
            self.committed[index] = entry
            self.committed_in[index] = node_term
            self.last_of_term[term] = max(index, self.last_of_term.get(term, 0))
            self._on_majority(node, index, term, list(voters))
        elif first != entry:
            raise self._broken(f"{node} commits {entry} at {index}, where {first} was committed (term, checksum)")

    def _on_majority(self, node: NodeId, index: int, term: int, voters: list[NodeId]) -> None:
        there = [voter for voter in voters if voter in self.disks and self.disks[voter].holds(index, term)]
        if 2 * len(there) <= len(voters):
            raise self._broken(
                f"{node} commits entry {index} of term {term}, which is on the disks of {there} of {voters} only"
            )

    # leaders

    def term(self, node: NodeId, term: int) -> None:
        """A node is in a term. Errors: Violation."""
        if term < self._terms.get(node, 0):
            raise self._broken(f"{node} goes back from term {self._terms[node]} to {term}")
        self._terms[node] = term

    def elected(self, node: NodeId, term: int) -> None:
        """A node is leader, as its own log sees it. Errors: Violation."""
        other = self.leaders.setdefault(term, node)
        if other != node:
            raise self._broken(f"{node} and {other} both lead in term {term}")

    def leads(self, node: NodeId, term: int) -> None:
        """A leader serves: it has committed in its term. Errors: Violation."""
        self.elected(node, term)
        self._counts["elections"] += 1
        disk = self.disks.get(node, Shadow())
        for before, index in self.last_of_term.items():
            if before < term and not disk.holds(index, before):
                raise self._broken(f"{node} leads in term {term} without entry {index}, which term {before} committed")

    def _broken(self, text: str) -> Violation:
        return Violation(f"group {self.name}: {text}")
