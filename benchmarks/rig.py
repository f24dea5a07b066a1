"""What a sampler gets: where it may write, how long it may take, and fresh servers. Guarantee:
every sample has a directory of its own, which is gone afterwards, on the same disk for both
servers."""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from benchmarks import crew
from benchmarks.roles import Span
from benchmarks.server import Server, Software, Streaming
from benchmarks.trio import Text, Trio, on_loopback, replicated

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@dataclass
class Rig:
    home: Path
    seconds: float  # of one throughput sample
    consumed: int  # messages of the consume rows
    recovered: int  # messages of the recovery rows
    idle_connections: int
    kills: int  # of the leader, for one median and one worst
    missed: int  # messages that a node of a cluster lacks when it comes back
    idle_streams: int
    idle_seconds: float
    pairs: int  # of stream and consumer, created one after another
    #: directories that serve several samples: (what, software) → path
    prepared: dict[tuple[str, str], Path] = field(default_factory=dict)
    #: figures that several rows are made of: (what, software) → figures
    known: dict[tuple[str, str], list[float]] = field(default_factory=dict)
    serial: int = 0

    @contextmanager
    def directory(self) -> Iterator[Path]:
        self.serial += 1
        path = self.home / f"sample{self.serial}"
        path.mkdir()
        # What the sample before left in the page cache must not reach the disk at this one's cost.
        os.sync()
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)

    @contextmanager
    def server(
        self,
        software: Software,
        *,
        jetstream: bool = False,
        sync: str | None = None,
        streaming: Streaming | None = None,
    ) -> Iterator[Server]:
        with (
            self.directory() as path,
            Server(software, path, jetstream=jetstream, sync=sync, streaming=streaming) as server,
        ):
            yield server

    @contextmanager
    def trio(self, software: Software, text: Text = replicated, *, streaming: bool = False) -> Iterator[Trio]:
        with self.directory() as path, Trio(software, on_loopback(path), text, streaming=streaming) as trio:
            yield trio

    def once(self, what: str, software: Software, measure: Callable[[], list[float]]) -> list[float]:
        """Figures that are measured once for all rows that show them."""
        key = (what, software.name)
        if key not in self.known:
            self.known[key] = measure()
        return self.known[key]

    def prepare(self, what: str, software: Software, fill: Callable[[Path], None]) -> Path:
        """A directory filled once for all samples of a row group."""
        key = (what, software.name)
        if key not in self.prepared:
            path = self.home / f"{what}-{software.name}"
            try:
                fill(path)
            except BaseException:
                shutil.rmtree(path, ignore_errors=True)
                raise
            self.prepared[key] = path
        return self.prepared[key]

    def release(self) -> None:
        """Removes what was prepared: the disk is needed for the next group."""
        for path in self.prepared.values():
            shutil.rmtree(path, ignore_errors=True)
        self.prepared.clear()


def rate(span: Span) -> float:
    return span.count / (span.end - span.start)


def alone(role: crew.Role) -> float:
    """Messages a second of one role that works by itself."""
    (span,) = crew.run(role)
    assert isinstance(span, Span)
    return rate(span)
