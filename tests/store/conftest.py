"""Stores for tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from streamd.store import Environment, LogWork, Outcome, StreamLog, Sync, TailCache, Work, Writer
from tests.store.records import records

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from streamd.errors import StoreError


class Store:
    """An open store with an in-line writer."""

    def __init__(
        self, directory: Path, *, cache: int = 1 << 20, sync: Sync | None = None, map_bytes: int = 1 << 30
    ) -> None:
        self.environment = Environment.open(directory, sync=sync, map_bytes=map_bytes)
        self.writer = Writer(self.environment)
        self.cache = TailCache(cache)

    def create(self, stream: int, name: str = "S") -> StreamLog:
        log = StreamLog(self.environment, self.cache, stream)
        work = Work()
        log.of(work).definition = b'{"name": "%s"}' % name.encode()
        self.commit(work)
        return log

    def log(self, stream: int) -> StreamLog:
        return StreamLog(self.environment, self.cache, stream)

    def change(self, log: StreamLog, step: Callable[[LogWork], object]) -> None:
        work = Work()
        step(log.of(work))
        self.commit(work)

    def commit(self, work: Work) -> Outcome:
        outcomes: list[Outcome] = []
        self.writer.submit(work, outcomes.append)
        (outcome,) = outcomes
        if outcome.error is not None:
            raise outcome.error
        return outcome

    def close(self) -> None:
        self.writer.close()
        self.environment.close()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path / "store", sync=Sync("never"))
    yield opened
    opened.close()


def error_of(work: Work, writer: Writer) -> StoreError | None:
    outcomes: list[Outcome] = []
    writer.submit(work, outcomes.append)
    return outcomes[0].error


def lone(log: StreamLog, number: int, payload: bytes = b"x") -> Work:
    """What one publish brings."""
    work = Work()
    log.append(work, records(number, number + 1, payload))
    log.of(work).totals = b"%d" % number
    return work
