"""A store in a process of its own, to be killed or to die of a damaged file.

write DIR SYNC      append for ever; print the last sequence after each ack
read DIR            print what is served: {"streams": {id: [first, last, count, crc of all]}}
                        or {"error": text}
"""

from __future__ import annotations

import json
import queue
import sys
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
    if sys.argv[1] == "write":
        write(Path(sys.argv[2]), Sync(sys.argv[3]), report=tell)  # type: ignore[arg-type]
    else:
        sys.stdout.write(json.dumps(serve(Path(sys.argv[2]))))
