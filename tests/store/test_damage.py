"""Kills, flipped bits, and what recovery makes of them."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from streamd import _engine
from streamd._engine import CorruptRecord
from streamd.errors import StoreCorrupt, StreamCorrupt
from streamd.store import StreamLog, Sync, Work, layout, recover, recover_stream, recovery
from streamd.store.directory import DATA_FILE
from tests.store import flips, program
from tests.store.conftest import Store
from tests.store.records import Index, pair, record, records, sequence

if TYPE_CHECKING:
    from collections.abc import Callable

_ROOT = Path(__file__).parents[2]


def test_kill_loses_nothing_acked(tmp_path: Path) -> None:
    """`kill -9` at any moment, three times over the same store."""
    chance = random.Random(1)
    for _ in range(3):
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.store.program", "write", str(tmp_path / "store"), "always"],
            stdout=subprocess.PIPE,
            cwd=_ROOT,
        )
        assert process.stdout is not None
        acked = int(process.stdout.readline())
        time.sleep(chance.random() / 4)
        process.send_signal(signal.SIGKILL)
        for line in process.stdout.read().splitlines(keepends=True):
            acked = int(line) if line.endswith(b"\n") else acked
        process.wait()
        process.stdout.close()
        store = Store(tmp_path / "store")
        log = store.log(1)

        assert not store.environment.clean
        assert log.count() >= acked > 0
        assert [sequence(value) for value in log.read(0, 1 << 30, 1 << 30)] == list(range(1, log.count() + 1))
        store.environment.close()


@pytest.mark.parametrize("count", [1000, pytest.param(10_000, marks=pytest.mark.soak)])
@pytest.mark.timeout(900)
def test_flipped_bits_are_never_served(tmp_path: Path, count: int) -> None:
    """What is served is what was written, also when more is written, else an error says so; and no flip takes the
    process down or keeps it busy for ever."""
    program.write(tmp_path / "store", Sync("never"), 1000)
    shutil.copytree(tmp_path / "store", tmp_path / "whole")
    whole = json.loads(json.dumps(flips.serve_and_go_on(tmp_path / "whole")))
    assert "then" in whole
    outcomes = flips.campaign(tmp_path / "store", tmp_path / "copy", count, seed=count)

    assert [(bit, outcome) for bit, outcome in outcomes if "error" not in outcome and outcome != whole] == []
    errors = [outcome["error"] for _, outcome in outcomes if "error" in outcome]
    assert len(errors) > count // 3


def restore(store: Store, monkeypatch: pytest.MonkeyPatch) -> dict[int, Index | StreamCorrupt]:
    """Every stream's index, or why there is none."""
    monkeypatch.setattr(_engine, "StreamState", Index)
    found: dict[int, Index | StreamCorrupt] = {}
    for stored in recover(store.environment):
        log = StreamLog(store.environment, store.cache, stored.stream)
        try:
            state: object = recovery.restore_state(store.environment, stored, log)
            assert isinstance(state, Index)
            found[stored.stream] = state
        except StreamCorrupt as error:
            found[stored.stream] = error
    return found


def filled(store: Store, stream: int) -> StreamLog:
    """A checkpoint over 1..100, then 20 records and a removal more."""
    log = store.create(stream, f"S{stream}")
    index = Index()
    for low, high, checkpoint in ((1, 101, True), (101, 121, False)):
        work = Work()
        log.append(work, records(low, high))
        index.live |= set(range(low, high))
        part = log.of(work)
        part.totals = index.delta()
        if checkpoint:
            part.checkpoint = index.checkpoint()
        store.commit(work)
    index.live -= {7, 110}
    work = Work()
    log.delete(work, [pair(7)[0], pair(110)[0]])
    log.of(work).delta(index.delta(), b"7,110")
    log.of(work).ids = [b"ids"]
    log.of(work).consumers[3] = b"{}"
    log.of(work).consumer_states[3] = b"state"
    store.commit(work)
    return log


def test_index_comes_back_from_checkpoint_and_tail(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Removals since the checkpoint count; ids and consumers are there."""
    filled(store, 1)
    stored = recover(store.environment)[0]
    index = restore(store, monkeypatch)[1]

    assert isinstance(index, Index)
    assert index.live == set(range(1, 121)) - {7, 110}
    assert (stored.ids, stored.consumers[3].state, stored.name) == ([b"ids"], b"state", "S1")


def test_one_stream_is_found_by_its_own_keys(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """As among all others, and at no more cost for these."""
    for stream in (1, 2, 256, 3 << 40):
        filled(store, stream)
    read: list[bytes] = []
    unseal = layout.unseal

    def counted(key: bytes, value: bytes) -> bytes:
        read.append(key)
        return unseal(key, value)

    monkeypatch.setattr(layout, "unseal", counted)
    for stored in recover(store.environment):
        read.clear()
        assert recover_stream(store.environment, stored.stream) == stored
        assert {layout.ids(key)[0] for key in read} == {stored.stream}
    assert recover_stream(store.environment, 3) is None


def test_damage_is_told_of_one_stream_too(store: Store) -> None:
    """It is the reason that all of them would be searched for."""
    filled(store, 1)
    filled(store, 2)
    with store.environment.begin() as txn:
        name = layout.key(layout.CHECKPOINT, 2) + bytes(4)
        value = bytearray(txn.get(name, db=store.environment.meta) or b"")
        value[-1] ^= 4
        txn.put(name, bytes(value), db=store.environment.meta)
    told = [str(stored.damage) for stored in recover(store.environment)]
    found = [recover_stream(store.environment, stream) for stream in (1, 2)]
    assert [str(stored.damage) for stored in found if stored is not None] == told
    assert told[0] == "None"
    assert "checksum" in told[1]


def test_damaged_index_is_built_again_from_the_records(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint is a short cut, not the truth."""
    for text in (b"damaged", b"1,2,3"):
        log = filled(store, 1)
        store.change(log, lambda part, text=text: setattr(part, "checkpoint", text))  # type: ignore[misc]
        index = restore(store, monkeypatch)[1]

        assert isinstance(index, Index)
        assert index.live == set(range(1, 121)) - {7, 110}
        store.change(log, lambda part: setattr(part, "drop", True))


def test_missing_record_takes_one_stream_offline(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A record that is gone without a record of its deletion is damage; the other stream goes on."""
    filled(store, 1)
    filled(store, 2)
    with store.environment.begin() as txn:
        with txn.cursor(db=store.environment.databases[1]) as cursor:
            assert cursor.set_range(pair(50)[0])
            assert cursor.delete()
        store.environment.stamp(txn)
    found = restore(store, monkeypatch)

    assert isinstance(found[1], StreamCorrupt)
    assert "stream S1" in str(found[1])
    assert "delete stream S1 and create it again" in str(found[1])
    assert isinstance(found[2], Index)


def test_damaged_meta_value_is_tied_to_its_stream(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when the flip lies in the key and moves the entry to another stream."""
    for stream in (1, 2, 3):
        filled(store, stream)
    with store.environment.begin() as txn:
        key = b"P" + (2).to_bytes(8, "big") + (3).to_bytes(8, "big")
        moved = b"P" + (3).to_bytes(8, "big") + (3).to_bytes(8, "big")
        value = txn.pop(key, db=store.environment.meta)
        assert value is not None
        txn.put(moved, value, db=store.environment.meta)
        store.environment.stamp(txn)
    damages = {stored.stream: stored.damage for stored in recover(store.environment)}

    assert damages[1] is None
    assert damages[2] is not None
    assert damages[3] is None


def test_older_meta_page_is_not_taken_for_the_newest(tmp_path: Path) -> None:
    """LMDB's meta pages have no checksum: a flip in a number brings back the commit before the last."""
    store = Store(tmp_path)
    store.create(1)
    store.environment.close()
    data = tmp_path / DATA_FILE
    head = bytearray(data.read_bytes()[:8192])
    numbers = [int.from_bytes(head[page + 144 : page + 152], "little") for page in (0, 4096)]
    older = numbers.index(min(numbers))
    with data.open("r+b") as file:
        os.pwrite(file.fileno(), (max(numbers) + 1).to_bytes(8, "little"), older * 4096 + 144)
    with pytest.raises(StoreCorrupt, match="commit"):
        Store(tmp_path)


def test_damaged_pages_take_one_stream_offline(tmp_path: Path) -> None:
    """The others go on, the error names it, and removing it is possible without walking its pages."""
    store = Store(tmp_path)
    for stream in (1, 2, 3):
        log = store.create(stream, f"S{stream}")
        work = Work()
        log.append(work, records(1, 500, b"%d" % stream * 99))
        store.commit(work)
    store.close()
    data = (tmp_path / DATA_FILE).read_bytes()
    leaf = data.index(b"2" * 99) // 4096
    with (tmp_path / DATA_FILE).open("r+b") as file:
        os.pwrite(file.fileno(), b"\xff\xff", leaf * 4096 + 12)
    for removed in (False, True):
        store = Store(tmp_path)
        damages = {stored.name: stored.damage for stored in recover(store.environment)}

        assert damages["S1"] is damages["S3"] is None
        assert ("S2" in damages) is not removed
        assert store.log(1).count() == len(store.log(3).read(1)) == 499
        if not removed:
            assert "stream S2" in str(damages["S2"])
            work = Work()
            work.of(2).drop = True
            store.commit(work)
        store.close()


@pytest.mark.parametrize(("place", "value"), [("page", b"\x40\0"), ("node", b"\0\0"), ("root", b"\xff\xff")])
def test_pages_that_go_bad_while_it_is_open_are_the_stream_s_damage(store: Store, place: str, value: bytes) -> None:
    """LMDB has many words for them; whoever reads a stream hears that its data is damaged, as of a record. The others go on."""
    store.cache.bytes_max = 0
    for stream in (1, 2):
        log = store.create(stream)
        work = Work()
        for low in range(1, 1001, 10):
            log.append(work, records(low, low + 10, b"%d" % stream * 20))
        store.commit(work)
    path = store.environment.directory / DATA_FILE
    data = path.read_bytes()
    if place == "page":  # its kind
        places = [page + 10 for page in range(0, len(data), 4096) if b"2" * 20 in data[page : page + 4096]]
    else:  # where the stream's tree begins: flags, length of the name, the name, and behind 40 bytes its first page
        nodes = [match.start() for match in re.finditer(rb"\x02\0\x02\0s2", data)]
        places = nodes if place == "node" else [node + 6 + 40 for node in nodes]
    assert places
    with path.open("r+b") as file:
        for at in places:
            os.pwrite(file.fileno(), value, at)
    log = store.log(2)
    reads: list[Callable[[], object]] = [
        lambda: log.read(1),
        lambda: log.get(500),
        lambda: log.get_many([7, 9]),
        log.count,
    ]
    for read in reads:
        with pytest.raises(CorruptRecord, match=r"its pages are damaged \(mdb_cursor_get: "):
            read()

    assert store.log(1).count() == len(store.log(1).read(1)) == 1000
    assert store.log(1).get(500) == record(500, b"1" * 20)


def test_index_of_damaged_pages_takes_one_stream_offline(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where only the count of records comes upon them."""
    filled(store, 1)
    filled(store, 2)
    whole = StreamLog.count

    def count(log: StreamLog) -> int:
        if log.stream == 1:
            raise CorruptRecord("its pages are damaged (injected)")
        return whole(log)

    monkeypatch.setattr(StreamLog, "count", count)
    found = restore(store, monkeypatch)

    assert isinstance(found[1], StreamCorrupt)
    assert "its pages are damaged (injected)" in str(found[1])
    assert isinstance(found[2], Index)


def test_file_may_end_before_the_last_page(tmp_path: Path) -> None:
    """LMDB doesn't write pages that a commit took and gave back; such a store is sound."""
    for seed in range(12):
        chance = random.Random(seed)
        store = Store(tmp_path / str(seed), sync=Sync("never"), cache=0)
        log = store.create(1)
        last = 0
        while (tmp_path / str(seed) / DATA_FILE).stat().st_size >= store.environment.used()[0] and last < 6000:
            work = Work()
            count = chance.choice([1, 30, 300])
            log.append(work, records(last + 1, last + 1 + count, b"x" * chance.choice([10, 3000, 9000])))
            last += count
            log.keep_from(work, last - chance.randrange(50))
            store.commit(work)
        store.environment.close()
        Store(tmp_path / str(seed)).close()
