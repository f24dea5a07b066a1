"""A place in the store for what a service of another room has to remember: numbered entries without a log.

In the store it is a stream without messages, whose consumers are the entries.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from streamd.store import Work

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from streamd.errors import StoreError
    from streamd.store import LogWork, StoredStream
    from streamd.streams.changes import After, Changes, Rows
    from streamd.streams.commits import Commits
    from streamd.streams.replication.replica import Replica


class Shelf:
    """The entries of one service, and what it says of itself. Changes are durable when `done` is called."""

    def __init__(
        self,
        commits: Commits,
        changes: Changes,
        stream_id: int,
        service: str,
        entries: dict[int, dict[str, Any]],
        about: dict[str, Any],
    ) -> None:
        """stream_id 0: nothing is stored, the entries live as long as this object."""
        self._commits = commits
        self.changes = changes
        self.stream_id = stream_id
        self._service = service
        self.uid = 0
        self.group = ""
        self.replica: Replica | None = None
        self.rows: dict[int, tuple[bytes, bytes | None]] = {}  # what a replica has of the entries
        self.closed = self.frozen = False
        self.offline: str | None = None
        self.entries = entries
        self.about = about
        self._next = max(entries, default=0) + 1

    def describe(self, about: dict[str, Any]) -> None:
        """Say this as well of the service. It is durable on return, so this is for the start. Errors: StoreError."""
        if about.items() <= self.about.items():
            return
        self.about = {**self.about, **about}
        if self.stream_id:
            work = Work()
            work.of(self.stream_id).definition = _definition(self._service, self.about)
            self._commits.at_once(work)

    def add(self, entry: dict[str, Any], done: Callable[[StoreError | None], None]) -> int:
        """Put one more entry; returns its number."""
        number, self._next = self._next, self._next + 1
        self.put(number, entry, done)
        return number

    def put(self, number: int, entry: dict[str, Any], done: Callable[[StoreError | None], None]) -> None:
        """Put an entry in a place."""
        self.entries[number] = entry
        value = json.dumps({"service": self._service, **entry}).encode()
        self._change(lambda rows: rows.put(self, number, value), done)

    def drop(self, number: int, done: Callable[[StoreError | None], None]) -> None:
        """Take an entry away."""
        self.entries.pop(number, None)
        self._change(lambda rows: rows.drop(self, number), done)

    def definition(self) -> bytes:
        """What is stored of it beside its entries."""
        return _definition(self._service, self.about)

    def part(self, work: Work) -> LogWork:
        """What a commit does to it."""
        return work.of(self.stream_id)

    # its life in a Raft group, as a stream has one

    def stand_by(self) -> None:
        """Nothing of it is served by replicas."""

    def park(self) -> None:
        """Nobody publishes to it."""

    def unlisten(self) -> None:
        """Nobody publishes to it."""

    def take_up(self) -> None:
        """This server leads its group now."""
        self.entries = {number: json.loads(definition) for number, (definition, _) in self.rows.items()}
        self._next = max(self.entries, default=0) + 1

    def lay_down(self, _status: str) -> None:
        """Another server leads it."""
        self.entries = {}

    def _change(self, write: Callable[[Rows], None], done: After) -> None:
        def change(rows: Rows) -> After:
            write(rows)
            return done

        self.changes.rows(change)


def take_shelves(
    found: Iterable[StoredStream], shelves: dict[str, tuple[StoredStream, dict[str, Any]]]
) -> list[tuple[StoredStream, dict[str, Any]]]:
    """Put what services have stored into `shelves`, by service, with what they say of themselves.

    Returns the streams, with their definitions.
    """
    streams = []
    for stored in found:
        definition: dict[str, Any] = json.loads(stored.definition) if stored.definition else {"name": stored.name}
        if "service" in definition and stored.damage is None:
            about = {name: value for name, value in definition.items() if name not in ("name", "service")}
            shelves[definition["service"]] = stored, about
        else:
            streams.append((stored, definition))
    return streams


def _definition(service: str, about: dict[str, Any]) -> bytes:
    """The stored form of the shelf itself."""
    return json.dumps({"name": service, "service": service, **about}).encode()
