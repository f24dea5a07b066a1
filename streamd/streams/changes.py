"""How what is durable of a stream changes: in the next commit of this server, or by way of its Raft group.

Place in the walk: API handlers, consumers, timers and services of other rooms → here → the commits; for a replicated stream the
group's log lies between, and every replica makes the same change.
Guarantee:  whoever asked hears of the outcome once it is as durable as promised.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from streamd.api.errors import MESSAGE_DELETE, ApiError

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamd._engine import AckOutcome
    from streamd.errors import StoreError
    from streamd.store import LogWork, Outcome, Work
    from streamd.streams.commits import Commits
    from streamd.streams.consumer import Consumer
    from streamd.streams.reader import Saved
    from streamd.streams.sources import Source
    from streamd.streams.stream import Stream

    #: Hears what became of a change; the error if nothing did.
    After = Callable[[StoreError | None], None]
    #: Runs when no commit is under way; writes rows and returns who hears of the outcome. Whoever writes none hears it too.
    Change = Callable[["Rows"], After | None]


class Shelved(Protocol):
    """A stream, or what a service keeps beside streams: rows are stored with it."""

    stream_id: int  # the store's number; 0: nothing is stored
    uid: int  # the cluster's number of what is replicated, else 0

    def part(self, work: Work) -> LogWork:
        """What a commit does to it."""


class Rows(Protocol):
    """The rows of streams and shelves: consumers, subscriptions, entries. Number 0 is kept in memory only."""

    def put(self, owner: Shelved, number: int, definition: bytes, state: bytes | None = None) -> None:
        """Put a row, with its state unless it has none."""

    def drop(self, owner: Shelved, number: int) -> None:
        """Take a row and its state away."""


class Changes(Protocol):
    """The way of changes."""

    def ready(self, source: Source) -> None:
        """Publishes wait."""

    def filling(self, source: Source) -> None:
        """So many of them wait that it is worth to see to them ahead of their turn."""

    def rows(self, change: Change) -> None:
        """Make a change of rows."""

    def save(self, saved: Saved) -> None:
        """Store a state soon."""

    def settle(self, saved: Saved, done: Callable[[], None]) -> None:
        """Call once the state as it is now is as durable as promised, or can't be any more."""

    def confirm(self, consumer: Consumer, outcome: AckOutcome) -> None:
        """Answer acks that ask for it once the consumer's state is durable."""

    def delete(self, stream: Stream, sequence: int, done: Callable[[ApiError | None], None]) -> None:
        """Delete one message."""

    def purge(
        self, stream: Stream, pattern: str | None, below: int, keep: int, done: Callable[[int, Exception | None], None]
    ) -> None:
        """Remove what matches (None: everything) below a sequence (0: no bound) but the last `keep`; `done` with how many."""

    def expire(self, stream: Stream, done: Callable[[], None]) -> None:
        """Remove what is too old."""


class WorkRows:
    """Rows of one commit."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self.stored = False  # whether any of it is

    def put(self, owner: Shelved, number: int, definition: bytes, state: bytes | None = None) -> None:
        """Put a row."""
        if owner.stream_id and number:
            self.stored = True
            owner.part(self._work).put_row(number, definition, state)

    def drop(self, owner: Shelved, number: int) -> None:
        """Take a row away."""
        if owner.stream_id and number:
            self.stored = True
            owner.part(self._work).drop_row(number)


class Local:
    """Changes of streams that this server alone has."""

    def __init__(self, commits: Commits) -> None:
        self._commits = commits

    def ready(self, source: Source) -> None:
        """Publishes wait."""
        self._commits.ready(source)

    def filling(self, source: Source) -> None:
        """While a commit is under way."""
        self._commits.filling(source)

    def rows(self, change: Change) -> None:
        """In the next commit."""

        def job(work: Work) -> Callable[[Outcome], None] | None:
            rows = WorkRows(work)
            after = change(rows)
            return None if after is None else lambda outcome: after(outcome.error if rows.stored else None)

        self._commits.at_rest(job)

    def save(self, saved: Saved) -> None:
        """With the next commit, or soon."""
        self._commits.save(saved)

    def settle(self, saved: Saved, done: Callable[[], None]) -> None:
        """At once: what one server alone tells it tells of itself."""
        done()

    def confirm(self, consumer: Consumer, outcome: AckOutcome) -> None:
        """With the next commit."""
        self._commits.confirm(consumer, outcome)

    def delete(self, stream: Stream, sequence: int, done: Callable[[ApiError | None], None]) -> None:
        """In the next commit."""

        def outcome(error: Exception | None) -> None:
            done(error if error is None or isinstance(error, ApiError) else MESSAGE_DELETE(err=str(error)))

        self._commits.at_rest(stream.retention.delete_job(sequence, outcome))

    def purge(
        self, stream: Stream, pattern: str | None, below: int, keep: int, done: Callable[[int, Exception | None], None]
    ) -> None:
        """In the next commits."""
        self._commits.at_rest(stream.retention.purge_job(pattern, below, done, keep=keep))

    def expire(self, stream: Stream, done: Callable[[], None]) -> None:
        """In the next commits."""
        self._commits.at_rest(stream.retention.trim_job(0, lambda _removed, _error: done()))
