"""The journal of small commits: what is found after it was cut, flipped, outlived or full."""

from __future__ import annotations

import queue
import random
import struct
import zlib
from collections import deque
from typing import TYPE_CHECKING, Literal

import pytest

from streamd import limits
from streamd._engine import Cipher, CorruptRecord, record_decode
from streamd.errors import StoreCorrupt, StoreFull
from streamd.store import Environment, StreamLog, Sync, TailCache, Work, Writer, recover
from streamd.store.directory import JOURNAL_FILE
from streamd.store.journal import Journal, small
from tests.store.conftest import Store, error_of, lone
from tests.store.flips import flip
from tests.store.records import record, records, sequence

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def synced(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "store", sync=Sync("always"))
    yield store
    store.environment.close()


def crash(store: Store) -> Store:
    """The process ends here; another opens what it left."""
    store.environment.close()
    return Store(store.environment.directory, sync=Sync("always"))


def numbers(values: list[bytes]) -> list[int]:
    return [sequence(value) for value in values]


def test_lone_commits_survive_a_crash(synced: Store) -> None:
    """Records, totals, message ids and consumers' states, and what LMDB had before them."""
    log = synced.create(1)
    work = Work()
    log.append(work, records(1, 101))
    log.of(work).ids = [b"first"]
    log.of(work).consumers[7] = b"{}"
    assert not small(work)
    synced.commit(work)
    for number in range(101, 111):
        work = lone(log, number)
        log.of(work).ids.append(b"id %d" % number)
        log.of(work).ids_drop = number == 105
        work.of(1).consumer_states[7] = b"state %d" % number
        synced.commit(work)
    assert len(synced.writer.journaled.logs[1].appends[0]) == 10

    again = crash(synced)
    (stored,) = recover(again.environment)
    assert numbers(again.log(1).read(0)) == list(range(1, 111))
    assert (stored.totals, stored.consumers[7].state) == (b"110", b"state 110")
    assert stored.ids == [b"id %d" % number for number in range(101, 111)]
    again.close()


def test_reads_join_lmdb_and_the_journal(synced: Store) -> None:
    """Whether the cache has it or not, nobody sees where a record lies."""
    log = synced.create(1)
    for number in range(1, 101):
        work = Work()
        log.append(work, records(number * 10, number * 10 + 10))
        if number % 10 == 0:  # this one goes to LMDB and takes the others along
            log.delete(work, [(5).to_bytes(8, "big")])
        synced.commit(work)
        if number % 7 == 0:
            synced.cache.forget(1)
        newest = number * 10 + 9
        assert numbers(log.read(0)) == list(range(10, newest + 1))
        assert numbers(log.read(newest - 14, 7)) == list(range(max(newest - 14, 10), max(newest - 14, 10) + 7))[:7]
        assert [value and sequence(value) for value in log.get_many([10, newest, newest + 1])] == [10, newest, None]
        assert log.count() == number * 10
        assert log.read(newest + 1) == []


@pytest.mark.parametrize("cached", [False, True])
def test_sealed_records_are_plain_above(synced: Store, cached: bool) -> None:
    """LMDB and the journal hold what only the cipher opens; whoever reads doesn't notice, nor which of them has a record."""
    cipher = Cipher(b"k" * 32, b"n" * 12, "AES")
    log = StreamLog(synced.environment, TailCache(1 << 20 if cached else 0), 1, cipher)
    work = Work()
    log.of(work).definition = b"{}"
    log.append(work, records(1, 11))  # to LMDB, as it defines something
    synced.commit(work)
    for number in range(11, 21):
        synced.commit(lone(log, number, b"payload"))
    plain = [record(number) for number in range(1, 11)] + [record(number, b"payload") for number in range(11, 21)]
    assert len(synced.writer.journaled.logs[1].appends[0]) == 10

    assert log.read(0) == plain
    assert log.get_many([1, 15, 21]) == [plain[0], plain[14], None]
    without = StreamLog(synced.environment, TailCache(0), 1)
    without.journaled = log.journaled
    assert without.read(0) != plain
    for value in without.read(0):
        with pytest.raises(CorruptRecord, match="its payload is encrypted"):
            record_decode(value)
    again = crash(synced)
    assert StreamLog(again.environment, again.cache, 1, cipher).read(0) == plain
    again.close()


def test_a_full_journal_is_taken_over(synced: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """It starts over from the front as often as need be, by size and by count."""
    monkeypatch.setattr(limits, "JOURNAL_ENTRIES_MAX", 9)
    log = synced.create(1)
    kept = set()
    for number in range(1, 200):
        synced.commit(lone(log, number, b"x" * 10_000))
        kept.add(len(synced.writer.journaled.logs[1].appends[0]) if synced.writer.journaled.logs else 0)
    assert kept == set(range(10))
    again = crash(synced)
    assert numbers(again.log(1).read(0, 1000, 1 << 30)) == list(range(1, 200))
    again.close()


def threaded(
    directory: Path, mode: Literal["always", "never"]
) -> tuple[Writer, StreamLog, queue.SimpleQueue[Callable[[], object]]]:
    """A writer with a thread, which is making stream 1, its log, and what it wants called by the loop."""
    environment = Environment.open(directory, sync=Sync(mode))
    calls: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
    writer = Writer(environment, notify=calls.put)
    log = StreamLog(environment, TailCache(), 1)
    first = Work()
    log.of(first).definition = b"{}"
    writer.submit(first, lambda outcome: None)
    return writer, log, calls


def test_it_is_taken_over_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether commits go on or stop, LMDB has all of them soon: a copy of its file is worth something."""
    monkeypatch.setattr(limits, "JOURNAL_SECONDS_MAX", 0.02)
    writer, log, calls = threaded(tmp_path, "always")
    for number in range(1, 4):
        calls.get(timeout=10)()
        writer.submit(lone(log, number), lambda outcome: None)
        calls.get(timeout=10)()
        assert writer.journaled.records == 1
        calls.get(timeout=10)()  # a while later, unasked
        assert writer.busy
    calls.get(timeout=10)()
    assert not writer.journaled.logs
    assert log.journaled is None
    assert log.count() == 3

    writer.submit(lone(log, 4), lambda outcome: None)
    calls.get(timeout=10)()
    with monkeypatch.context() as patch:
        patch.setattr("streamd.store.writer.time.monotonic", lambda: float(1 << 40))
        writer.submit(lone(log, 5), lambda outcome: None)
    while writer.journaled.logs:
        calls.get(timeout=10)()
    assert log.count() == 5
    writer.close()
    writer.environment.close()


def test_a_clean_stop_leaves_nothing_in_it(synced: Store) -> None:
    log = synced.create(1)
    synced.commit(lone(log, 1))
    synced.writer.close()
    assert synced.environment.journal is not None
    assert not synced.environment.journal.read().logs
    assert log.count() == 1


@pytest.mark.parametrize("mode", ["interval", "never"])
def test_what_was_synced_stays_synced_when_it_is_opened_relaxed(
    tmp_path: Path, mode: Literal["interval", "never"]
) -> None:
    """A relaxed store takes over what the other wrote, and goes on with a key of its own; and the other way round."""
    for number in range(1, 9):
        synced = bool(number % 2)
        store = Store(tmp_path, sync=Sync("always") if synced else Sync(mode, 10**9))
        if number == 1:
            store.create(1)
            store.commit(Work())
        assert store.log(1).count() == number - 1
        head = (tmp_path / JOURNAL_FILE).read_bytes()[:16]
        store.commit(lone(store.log(1), number))
        assert store.writer.journaled.records == 1
        store.environment.close()
        assert (tmp_path / JOURNAL_FILE).read_bytes()[:16] == head
        assert head.startswith(b"SDJ1" if synced else b"SDR1")


def test_what_a_power_cut_takes_of_a_relaxed_journal_is_no_damage(tmp_path: Path) -> None:
    """Any of its pages may be older than those behind; up to there it is read. Of a synced one that is refused."""
    for synced in (True, False):
        directory = tmp_path / str(synced)
        ends = entries(directory, 12, synced=synced)
        data = bytearray((directory / JOURNAL_FILE).read_bytes())
        data[ends[4] : ends[6]] = bytes(ends[6] - ends[4])
        (directory / JOURNAL_FILE).write_bytes(data)
        if synced:
            with pytest.raises(StoreCorrupt, match="entry 4, and there are more behind it"):
                found(directory)
        else:
            assert found(directory, synced=False) == 4
            assert found(directory, synced=True) == 4  # what is left of it when it is opened as another one


def test_a_relaxed_store_is_taken_over_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop's thread makes the commits, the other one says when they are to go to LMDB."""
    monkeypatch.setattr(limits, "JOURNAL_SECONDS_MAX", 0.02)
    writer, log, calls = threaded(tmp_path, "never")
    told: list[int] = []
    for number in range(1, 6):
        writer.submit(lone(log, number), lambda outcome: told.append(outcome.commit))
        assert told == [0] * number
        assert writer.journaled.records == 1
        while writer.journaled.logs:
            calls.get(timeout=10)()
        assert log.count() == number
    several = Work()
    log.append(several, records(6, 6 + limits.JOURNAL_LONE_RECORDS_MAX + 1))
    writer.submit(several, lambda outcome: None)
    assert not writer.journaled.logs  # these are quicker in LMDB
    writer.close()
    writer.environment.close()


def entries(directory: Path, count: int, *, synced: bool = True) -> list[int]:
    """Make a journal of so many entries that stands on commit 5; returns where the first begins and each ends."""
    directory.mkdir(exist_ok=True)
    journal = Journal.open(directory, 5, synced=synced)
    assert journal is not None
    ends = [limits.JOURNAL_HEAD_BYTES]
    for number in range(1, count + 1):
        work = Work()
        work.of(number % 3).appends = [records(number, number + 1, b"payload" * number)]
        entry = journal.entry([work])
        assert entry is not None
        journal.append(entry)
        ends.append(ends[-1] + len(entry))
    journal.close()
    return ends


def found(directory: Path, commit: int = 5, *, synced: bool = True) -> int:
    """How many records a journal holds. Errors: StoreCorrupt."""
    journal = Journal.open(directory, commit, synced=synced)
    assert journal is not None
    try:
        return sum(len(part) for log in journal.read().logs.values() for part in log.appends)
    finally:
        journal.close()


def test_a_torn_entry_is_the_last(tmp_path: Path) -> None:
    """Cut anywhere, the whole entries before are found; on another commit none is."""
    ends = entries(tmp_path, 12)
    data = (tmp_path / JOURNAL_FILE).read_bytes()
    assert found(tmp_path) == 12
    assert found(tmp_path, 4) == found(tmp_path, 6) == 0
    for cut in range(ends[0], ends[-1], 7):
        (tmp_path / JOURNAL_FILE).write_bytes(data[:cut] + bytes(len(data) - cut))
        assert found(tmp_path) == sum(end <= cut for end in ends[1:])


def test_damage_is_never_served_nor_passed_over(tmp_path: Path) -> None:
    """A flipped bit costs the last entry, which may have been cut short, or is told."""
    ends = entries(tmp_path, 12)
    chance = random.Random(3)
    for _ in range(300):
        bit = chance.randrange(8 * ends[0], 8 * ends[-1])
        flip(tmp_path / JOURNAL_FILE, bit)
        if bit // 8 >= ends[-2]:
            assert found(tmp_path) == 11
        else:
            with pytest.raises(StoreCorrupt, match="journal: entry"):
                found(tmp_path)
        flip(tmp_path / JOURNAL_FILE, bit)


def test_payloads_cannot_pose_as_entries(tmp_path: Path) -> None:
    """Whoever publishes knows the format and can guess commits: remains of a payload must not stop a later start."""
    journal = Journal.open(tmp_path, 5)
    assert journal is not None
    work = Work()
    work.of(1).appends = [records(1, 2)]
    forged = b""
    for number in range(1, 40):
        rest = struct.pack("<IQI", 4, 6, number) + b"left"
        forged += struct.pack("<I", zlib.crc32(rest)) + rest
    posing = Work()
    posing.of(1).appends = [records(1, 2, forged)]
    entry = journal.entry([posing])
    assert entry is not None
    assert forged in entry
    journal.append(entry)
    journal.close()

    assert found(tmp_path, 5) == 1
    assert found(tmp_path, 6) == 0


def test_two_journals_are_keyed_apart(tmp_path: Path) -> None:
    """What one file holds is no entry in another."""
    entries(tmp_path / "one", 3)
    entries(tmp_path / "two", 3)
    head = (tmp_path / "one" / JOURNAL_FILE).read_bytes()[:4096]
    with (tmp_path / "two" / JOURNAL_FILE).open("r+b") as file:
        file.write(head)
    assert found(tmp_path / "one") == 3
    assert found(tmp_path / "two") == 0


def test_a_damaged_head_is_told(tmp_path: Path) -> None:
    """Without it no entry can be told from remains; all zeros is a file that was never used."""
    entries(tmp_path, 3)
    for bit in range(0, 8 * 20, 3):
        flip(tmp_path / JOURNAL_FILE, bit)
        with pytest.raises(StoreCorrupt, match="journal: its head"):
            found(tmp_path)
        flip(tmp_path / JOURNAL_FILE, bit)
    assert found(tmp_path) == 3
    (tmp_path / JOURNAL_FILE).write_bytes(bytes(100))
    assert found(tmp_path) == 0


@pytest.mark.parametrize("what", ["state", "ids"])
def test_big_states_are_not_small(synced: Store, what: str) -> None:
    """A consumer with very many pending messages goes to LMDB, however few records come with it."""
    log = synced.create(1)
    synced.commit(lone(log, 1))
    work = lone(log, 2)
    big = b"x" * limits.JOURNAL_WORK_BYTES_MAX
    if what == "state":
        log.of(work).consumer_states[1] = big
    else:
        log.of(work).ids.append(big)
    assert not small(work)
    synced.commit(work)
    assert not synced.writer.journaled.logs


def test_many_streams_are_taken_over(synced: Store) -> None:
    """Each costs a take-over pages of its own, and room is held for so many."""
    logs = [synced.create(number) for number in range(1, limits.JOURNAL_STREAMS_MAX + 3)]
    held = []
    for log in logs:
        synced.commit(lone(log, 1))
        held.append(len(synced.writer.journaled.logs))
    assert max(held) == limits.JOURNAL_STREAMS_MAX
    assert held[-2:] == [0, 1]


@pytest.mark.parametrize("ending", ["stop", "crash"])
def test_a_take_over_may_need_a_bigger_map(tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the end of a run and at the start of the next as well as between."""
    # The room held makes the file longer, and with it the map of the next start.
    monkeypatch.setattr(Environment, "hold_room", lambda environment, need_bytes: True)
    store = Store(tmp_path, sync=Sync("always"), map_bytes=1 << 20)
    log = store.create(1)
    for number in range(1, 111):
        store.commit(lone(log, number, b"x" * 8_200))
    assert store.writer.journaled.records > 100
    if ending == "stop":
        store.close()
    else:
        store.environment.close()
    again = Store(tmp_path, sync=Sync("always"), map_bytes=1 << 20)
    assert again.environment.clean == (ending == "stop")
    assert again.log(1).count() == 110
    again.close()


def test_damaged_stream_keeps_what_the_journal_had(synced: Store) -> None:
    """LMDB can't take it over: it is laid aside, the other streams go on."""
    for log in [synced.create(number) for number in (1, 2)]:
        synced.commit(lone(log, 1))
    directory = synced.environment.directory
    synced.environment.close()
    open_again = Environment.open
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("streamd.store.environment._damaged", lambda directory, found: {1: "a page is damaged"})
        environment = open_again(directory)
    assert environment.databases.keys() == {2}
    assert StreamLog(environment, TailCache(), 2).count() == 1
    (kept,) = directory.glob(f"{JOURNAL_FILE}.*")
    environment.close()
    assert b"x" in kept.read_bytes()
    open_again(directory).close()


def test_full_disk_takes_nothing_from_the_journal(small_disk: Path) -> None:
    """There is room for the take-over; what was acked stays, what wasn't is refused, before and after a restart."""
    store = Store(small_disk, sync=Sync("always"))
    log = store.create(1)
    store.commit(lone(log, 1))
    with (small_disk / "lost+found").open("ab", buffering=0) as ballast, pytest.raises(OSError, match="No space"):
        deque(iter(lambda: ballast.write(b"x" * 4096), None))
    last = 1
    while not isinstance(error_of(lone(log, last + 1, b"x" * 200), store.writer), StoreFull):
        last += 1
    assert last > 2 * limits.JOURNAL_ENTRIES_MAX
    assert numbers(log.read(0, 1 << 20, 1 << 30)) == list(range(1, last + 1))
    again = crash(store)
    assert again.log(1).count() == last
    again.environment.close()


def test_without_room_for_a_take_over_there_is_no_journal(small_disk: Path) -> None:
    """Acked means that a start on this disk, full as it is, can have it."""
    (small_disk / "lost+found").write_bytes(bytes((8 << 20) - limits.JOURNAL_BYTES - limits.JOURNAL_ROOM_BYTES))
    store = Store(small_disk, sync=Sync("always"))
    log = store.create(1)
    last = 0
    while not isinstance(error_of(lone(log, last + 1, b"x" * 10_000), store.writer), StoreFull):
        last += 1
        assert not store.writer.journaled.logs
    again = crash(store)
    assert again.log(1).count() == last > 100
    again.environment.close()
