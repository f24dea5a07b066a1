"""A store in a process of its own, to be killed or to die of a damaged file.

write DIR SYNC      append for ever; print the last sequence after each ack
append DIR SYNC N   append so many records in one commit, print the last sequence after its ack, die
replace DIR         replace all but the first record for ever; print the number of each round after its ack
read DIR            print what is served: {"streams": {id: [first, last, count, crc of all]}}
                        or {"error": text}
"""

from __future__ import annotations

import json
import os
import queue
import sys
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from streamd._engine import CorruptRecord, record_decode
from streamd.errors import StoreError
from streamd.store import Environment, Outcome, StoredStream, StreamLog, Sync, TailCache, Work, Writer, recover
from tests.store.records import pair, records, sequence

if TYPE_CHECKING:
    from collections.abc import Callable


def tell(last: int) -> None:
    """One line an ack."""
    sys.stdout.write(f"{last}\n")
    sys.stdout.flush()


def write(directory: Path, sync: Sync, limit: int = 0, report: Callable[[int], object] = lambda last: None) -> None:
    """Two streams, one trimmed and thinned out; both go on where they ended."""
    calls: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
    environment = Environment.open(directory, sync=sync)
    writer = Writer(environment, notify=calls.put)
    cache = TailCache()
    logs = [StreamLog(environment, cache, number) for number in (1, 2)]
    first = Work()
    last = 0
    for log in logs:
        log.of(first).definition = b'{"name": "S%d"}' % log.stream
        if log.stream in environment.databases:
            last = max([last, *map(sequence, log.read(0, 1 << 40, 1 << 40)[-1:])])

    def done(outcome: Outcome) -> None:
        assert outcome.error is None, outcome.error
        report(outcome.work.logs[1].appends[-1].first_seq + 19)

    writer.submit(first, lambda outcome: None)
    start = last
    while not limit or last - start < limit:
        work = Work()
        for log in logs:
            log.append(work, records(last + 1, last + 21, b"%d" % log.stream * 50))
            log.of(work).totals = b"%d" % (last + 20)
        last += 20
        logs[1].delete(work, [pair(last - 5)[0]])
        logs[1].keep_from(work, last - 100)
        writer.submit(work, done)
        while not calls.empty() or (writer.busy and last % 100 == 0):
            calls.get()()
    while writer.busy:
        calls.get()()
    writer.close()
    environment.close()


def append(directory: Path, sync: Sync, count: int) -> None:
    """One stream, made if need be; a single record goes to the journal."""
    environment = Environment.open(directory, sync=sync)
    writer = Writer(environment)
    log = StreamLog(environment, TailCache(), 1)
    first = Work()
    log.of(first).definition = b'{"name": "S1"}'
    if 1 not in environment.databases:
        writer.submit(first, lambda outcome: None)
    last = log.count() + count
    work = Work()
    log.append(work, records(last + 1 - count, last + 1))
    log.of(work).totals = b"%d" % last
    outcomes: list[Outcome] = []
    writer.submit(work, outcomes.append)
    assert outcomes[0].error is None
    assert bool(outcomes[0].commit) == (count > 1)
    tell(last)
    os._exit(0)


def replace(directory: Path, report: Callable[[int], object]) -> None:
    """One stream of a record and a tail that is cut and appended anew in each commit, and names its round."""
    environment = Environment.open(directory, sync=Sync("always"))
    writer = Writer(environment)
    log = StreamLog(environment, TailCache(), 1)
    values = log.read(0) if environment.known(1) else []
    round_ = int(record_decode(values[-1]).payload.split(b" ")[0]) if values else 0
    if not values:
        work = Work()
        log.of(work).definition = b'{"name": "S1"}'
        log.append(work, records(1, 2, b"0 "))
        writer.submit(work, lambda outcome: None)
    while True:
        round_ += 1
        work = Work()
        log.truncate_from(work, 2)
        # Now longer than before, now shorter, in one page and in many.
        log.append(work, records(2, 3 + 37 * round_ % 90, b"%d " % round_ + b"x" * (round_ % 7 * 300)))
        outcomes: list[Outcome] = []
        writer.submit(work, outcomes.append)
        assert outcomes[0].error is None
        report(round_)


def replaced(directory: Path) -> int:
    """The round that a store holds, whole. Errors: StoreError, CorruptRecord, AssertionError."""
    environment = Environment.open(directory, sync=Sync("never"))
    try:
        found = [record_decode(value) for value in StreamLog(environment, TailCache(0), 1).read(1)]
    finally:
        environment.close()
    (round_,) = {int(record.payload.split(b" ")[0]) for record in found[1:]}
    assert [record.sequence for record in found] == list(range(1, 3 + 37 * round_ % 90))
    return round_


def serve(directory: Path) -> dict[str, Any]:
    """All that a server would hand out, or why it doesn't."""
    environment = None
    try:
        environment = Environment.open(directory, sync=Sync("never"))
        return {"streams": {stored.stream: _served(environment, stored) for stored in recover(environment)}}
    except (StoreError, CorruptRecord) as error:
        return {"error": f"{type(error).__name__}: {error}"}
    finally:
        if environment is not None:
            environment.close()


def _served(environment: Environment, stored: StoredStream) -> list[int]:
    """[first, last, count, crc of all] of a stream. Errors: StoreError, CorruptRecord."""
    if stored.damage is not None:
        raise stored.damage
    log = StreamLog(environment, TailCache(0), stored.stream)
    values: list[bytes] = []
    numbers: list[int] = []
    while step := log.read(numbers[-1] + 1 if numbers else 0):
        found = [record_decode(value).sequence for value in step]
        if numbers and found[0] <= numbers[-1]:
            raise CorruptRecord("a record came twice")
        numbers += found
        values += step
    if len(numbers) != log.count() or numbers != sorted(set(numbers)):
        raise CorruptRecord("records are missing")
    if int(stored.totals or 0) != numbers[-1]:
        raise CorruptRecord(f"totals {stored.totals!r} where the last is {numbers[-1]}")
    return [numbers[0], numbers[-1], len(numbers), zlib.crc32(b"".join(values))]


if __name__ == "__main__":
    modes: dict[str, Literal["always", "interval", "never"]] = {
        "always": "always",
        "interval": "interval",
        "never": "never",
    }
    if sys.argv[1] == "write":
        write(Path(sys.argv[2]), Sync(modes[sys.argv[3]]), report=tell)
    elif sys.argv[1] == "append":
        append(Path(sys.argv[2]), Sync(modes[sys.argv[3]]), int(sys.argv[4]))
    elif sys.argv[1] == "replace":
        replace(Path(sys.argv[2]), tell)
    else:
        sys.stdout.write(json.dumps(serve(Path(sys.argv[2]))))
