"""What may reach the library of appends and of their answers.

Why:  the library cuts its log behind the entry before an append, whatever stands there, and believes every answer. Log
      matching says that equal index and term mean equal entries, up to there: nothing that a log has already needs to be
      touched, and nothing beyond what a message verified may be acknowledged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from streamd.raft.envelope import Message
    from streamd.raft.journal import Journal
    from streamd.raft.net import NodeId


class Append(NamedTuple):
    """An append as it goes to the library, and what to answer."""

    prev: int
    prev_term: int
    entries: list[tuple[bytes, int, int]]  # (command, index, term)
    commit: int
    end: int  # on success: the log is the sender's up to here
    hint: int  # on failure: where the sender should try next


def follower(journal: Journal, message: Message, commit: int) -> Append:
    """Only what is new in an append, behind the last entry or where the logs part. `commit`: the follower's."""
    terms = journal.terms
    prev, entries = message.at, message.entries
    end, last, base = prev + len(entries), terms.last, terms.base
    if prev > last:
        return _refused(last, last + 1)
    skip = 0
    if prev < base:
        # What the base stands for is committed, so the sender has the same.
        skip = min(base, end) - prev
    elif terms.at(prev) != message.at_term:
        return _refused(last, max(terms.first_of(prev), commit + 1))
    while skip < len(entries) and prev + skip < last and terms.at(prev + skip + 1) == entries[skip][0]:
        skip += 1
    if skip == len(entries):
        # Nothing new: behind the last entry there is nothing to cut.
        return Append(last, terms.last_term, [], min(message.commit, end), end, 0)
    at = prev + skip
    assert at >= commit, f"group {journal.group}: entry {at + 1} is committed, and the leader has another"
    fresh = [(command, at + number, term) for number, (term, command) in enumerate(entries[skip:], 1)]
    return Append(at, terms.at(at), fresh, min(message.commit, end), end, 0)


def unguarded(journal: Journal, message: Message, commit: int) -> Append:
    """As the library would have it."""
    prev, entries = message.at, message.entries
    last = journal.terms.last
    numbered = [(command, prev + number, term) for number, (term, command) in enumerate(entries, 1)]
    return Append(prev, message.at_term, numbered, message.commit, prev + len(entries), min(last + 1, max(prev, 1)))


def _refused(last: int, hint: int) -> Append:
    """An append that the library refuses without a look at entries."""
    return Append(last + 1, 0, [], 0, 0, hint)


class Clip:
    """Acks of entries that the leader's own disk doesn't have yet: the library counts the leader itself, so they wait."""

    def __init__(self) -> None:
        self._waiting: dict[NodeId, tuple[int, int]] = {}  # term and index

    def take(self, node: NodeId, term: int, index: int, synced: int) -> int:
        """How much of an ack counts now."""
        if index > synced:
            self._waiting[node] = max(self._waiting.get(node, (0, 0)), (term, index))
            return synced
        return index

    def due(self, term: int, synced: int) -> list[tuple[NodeId, int]]:
        """What counts since the leader's disk caught up."""
        if not self._waiting:
            return []
        waiting, self._waiting = self._waiting, {}
        now = []
        for node, (of_term, index) in waiting.items():
            if of_term == term:
                now.append((node, min(index, synced)))
                if index > synced:
                    self._waiting[node] = (of_term, index)
        return now
