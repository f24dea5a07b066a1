"""Where a group's journal lies: a stream of the store, with an entry a record, and small states beside it.

record     sequence = index, timestamp = term, no subject, payload = kind byte and command
states     of "consumers", as the store calls them: term and vote, commit hint, applied, base
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

from streamd.tokens import token

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from streamd._engine import Records
    from streamd.raft.net import NodeId
    from streamd.store import LogWork, Outcome, Work
    from streamd.store.recovery import StoredStream

    #: Runs when no commit is under way: adds to the work, and returns who hears what became of it.
    Job = Callable[[Work], Callable[[Outcome], None] | None]

TERM_AND_VOTE: Final = 1
COMMIT: Final = 2
APPLIED: Final = 3  # written by the machine's owner, with the effects
BASE: Final = 4
_STATES: Final = (TERM_AND_VOTE, COMMIT, APPLIED, BASE)


def new_node(name: str) -> NodeId:
    """A Raft id for a server with an empty store: its name, and what tells two stores of one name apart."""
    return f"{name}#{token(12)}"


class EntryLog(Protocol):
    """What is needed of a `StreamLog`."""

    def of(self, work: Work) -> LogWork:
        """Its part of a work."""

    def append(self, work: Work, records: Records) -> None:
        """Stage records above all others."""

    def truncate_from(self, work: Work, sequence: int) -> None:
        """Stage the deletion of everything from a sequence on, before what the work appends."""

    def keep_from(self, work: Work, sequence: int) -> None:
        """Stage the deletion of everything below."""

    def read(self, from_seq: int, limit: int = ..., bytes_max: int = ...) -> list[bytes]:
        """Committed records."""


@dataclass(frozen=True, slots=True)
class Storage:
    """A group's part of the store, as found at start."""

    log: EntryLog
    states: Mapping[int, bytes] = field(default_factory=dict)

    @classmethod
    def found(cls, log: EntryLog, stored: StoredStream) -> Storage:
        """From what `recover` returns. Damage told there is the caller's to handle first."""
        states = {number: consumer.state for number, consumer in stored.consumers.items()}
        return cls(log, {number: state for number, state in states.items() if state is not None})


def define(work: Work, stream: int, group: str, **more: str) -> None:
    """Begin the journal of a new group in a stream of the store; `more` goes into its definition."""
    part = work.of(stream)
    part.definition = json.dumps({"name": group, "service": "raft", **more}).encode()
    for number in _STATES:
        part.consumers[number] = b"{}"
