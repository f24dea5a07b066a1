"""The log on disk: one LMDB environment, one writer, a log per stream.

In the walk:  below `state/` and `streams/`; above the file system.
Guarantee:    what a commit reported as done is there after a crash, and after a power cut when `sync` is
              always.
Not here:     what subjects mean, who may publish, Raft, asyncio.

    directory     lock, format, the first files
    environment   LMDB: transactions, growth
    work          what one commit contains
    writer        the thread that commits
    journal       small commits, until LMDB takes them over
    log, memory   the records of one stream, on disk or in RAM
    cache         the ends of logs that were just written
    recovery      what is found at start
    pages         whether the file may be handed to LMDB at all
"""

from streamd.store.cache import TailCache
from streamd.store.environment import Environment, Sync
from streamd.store.log import Log, StreamLog, sequence_of
from streamd.store.memory import MemoryLog
from streamd.store.recovery import (
    StoredConsumer,
    StoredStream,
    checkpoint_due,
    recover,
    recover_stream,
    restore_state,
)
from streamd.store.work import LogWork, Outcome, Work
from streamd.store.writer import Writer

__all__ = [
    "Environment",
    "Log",
    "LogWork",
    "MemoryLog",
    "Outcome",
    "StoredConsumer",
    "StoredStream",
    "StreamLog",
    "Sync",
    "TailCache",
    "Work",
    "Writer",
    "checkpoint_due",
    "recover",
    "recover_stream",
    "restore_state",
    "sequence_of",
]
