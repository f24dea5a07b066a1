"""What every stream and consumer is given: the bus, the clock, the commits, and where to complain."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable
    from pathlib import Path

    from streamd._engine import StreamState
    from streamd.clock import Clock
    from streamd.core.bus import Bus
    from streamd.errors import StoreError
    from streamd.streams.advisories import Advisories
    from streamd.streams.changes import Changes
    from streamd.streams.commits import Commits
    from streamd.streams.consumer import Consumer
    from streamd.streams.counting import Counting
    from streamd.streams.replication.reads import Reads
    from streamd.streams.stream import Stream


@dataclass(frozen=True, slots=True)
class Services:
    """Shared by all streams of a server."""

    bus: Bus
    clock: Clock
    commits: Commits
    counting: Counting
    changes: Changes  # of what isn't replicated
    advisories: Advisories
    log: logging.Logger
    store_dir: Path
    #: Reads a stream's machine back from the store. Errors: StoreError.
    restore_state: Callable[[Stream], StreamState]
    #: Makes the consumers of a replicated stream from its rows.
    take_up: Callable[[Stream], None]
    #: Removes a consumer, and calls the last argument once that is durable.
    remove_consumer: Callable[[Stream, Consumer, Callable[[StoreError | None], None] | None], None]
    #: Linearizable reads, in a cluster.
    reads: Callable[[], Reads | None]
