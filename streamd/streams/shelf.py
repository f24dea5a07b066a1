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
    from streamd.store import Outcome, StoredStream
    from streamd.streams.commits import Commits


class Shelf:
    """The entries of one service, and what it says of itself. Changes are durable when `done` is called."""

    def __init__(
        self,
        commits: Commits,
        stream_id: int,
        service: str,
        entries: dict[int, dict[str, Any]],
        about: dict[str, Any],
    ) -> None:
        """stream_id 0: nothing is stored, the entries live as long as this object."""
        self._commits = commits
        self._stream_id = stream_id
        self._service = service
        self.entries = entries
        self.about = about
        self._next = max(entries, default=0) + 1

    def describe(self, about: dict[str, Any]) -> None:
        """Say this as well of the service. It is durable on return, so this is for the start. Errors: StoreError."""
        if about.items() <= self.about.items():
            return
        self.about = {**self.about, **about}
        if self._stream_id:
            work = Work()
            work.of(self._stream_id).definition = _definition(self._service, self.about)
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
        self._change(lambda work: work.of(self._stream_id).consumers.update({number: value}), done)

    def drop(self, number: int, done: Callable[[StoreError | None], None]) -> None:
        """Take an entry away."""
        self.entries.pop(number, None)
        self._change(lambda work: work.of(self._stream_id).consumers_drop.append(number), done)

    def _change(self, change: Callable[[Work], object], done: Callable[[StoreError | None], None]) -> None:
        def job(work: Work) -> Callable[[Outcome], None]:
            if self._stream_id:
                change(work)
            return lambda outcome: done(outcome.error if self._stream_id else None)

        self._commits.at_rest(job)


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
