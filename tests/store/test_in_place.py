"""Which commits the loop's thread makes itself, and in which order all are told."""

from __future__ import annotations

import queue
from typing import TYPE_CHECKING

import pytest

from streamd import limits
from streamd.store import Environment, Outcome, StreamLog, Sync, TailCache, Work, Writer
from streamd.store.journal import Journal
from tests.store.records import records, sequence

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


class Told:
    """A writer with a thread, whose disk takes as long as a test says."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.flush_seconds = self._now = 0.0
        self.calls: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
        self.told: list[int] = []
        append = Journal.append

        def slow(journal: Journal, entry: bytes) -> None:
            append(journal, entry)
            self._now += self.flush_seconds

        monkeypatch.setattr(Journal, "append", slow)
        environment = Environment.open(directory, sync=Sync("always"))
        self.writer = Writer(environment, notify=self.calls.put, seconds=lambda: self._now)
        self.log = StreamLog(environment, TailCache(), 1)
        first = Work()
        self.log.of(first).definition = b"{}"
        self.writer.submit(first, lambda outcome: None)
        self.land()

    def publish(self, first: int, count: int = 1, then: Callable[[], object] = lambda: None) -> None:
        work = Work()
        self.log.append(work, records(first, first + count, b"x"))

        def done(outcome: Outcome) -> None:
            assert outcome.error is None
            self.told.append(first)
            then()

        self.writer.submit(work, done)

    def land(self) -> None:
        """The loop's turn: what the thread has to say."""
        self.calls.get(timeout=10)()

    def close(self) -> None:
        self.writer.close()
        self.writer.environment.close()


@pytest.fixture
def threaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Told]:
    writer = Told(tmp_path / "store", monkeypatch)
    yield writer
    writer.close()


def test_lone_commits_are_made_in_place_while_the_disk_is_quick(threaded: Told) -> None:
    """The thread makes the first one, whose time counts for the take-over, those of several at once, and all on a slow disk."""
    quick, slow = limits.JOURNAL_QUICK_SECONDS / 2, limits.JOURNAL_QUICK_SECONDS * 2
    threaded.flush_seconds = quick
    for number, in_place, takes in [
        (1, False, quick),
        (2, True, quick),
        (3, True, slow),
        (4, False, quick),
        (5, True, quick),
    ]:
        threaded.flush_seconds = takes
        threaded.publish(number)

        assert (threaded.told == [*range(1, number + 1)]) == in_place == (not threaded.writer.busy)
        if not in_place:
            threaded.land()
    threaded.publish(6, limits.JOURNAL_LONE_RECORDS_MAX + 1)
    assert threaded.writer.busy
    threaded.land()
    assert threaded.told == [*range(1, 7)]
    assert [sequence(value) for value in threaded.log.read(1)] == [*range(1, 7 + limits.JOURNAL_LONE_RECORDS_MAX)]


def test_news_are_told_in_the_order_of_the_commits(threaded: Told) -> None:
    """Who hears of one and submits the next hears of that one after all others have heard of the first."""
    threaded.publish(1)
    threaded.land()
    threaded.publish(2, 10)
    threaded.publish(12, then=lambda: threaded.publish(14))
    threaded.publish(13)
    threaded.land()
    threaded.land()
    assert threaded.told == [1, 2, 12, 13]
    threaded.land()
    assert threaded.told == [1, 2, 12, 13, 14]
