"""The directory, the map, the disk."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Literal

import lmdb
import pytest

from streamd import Server, limits
from streamd.config.models import Config, JetStreamConfig
from streamd.errors import StoreError, StoreFailed, StoreForeign, StoreFull, StoreLocked, StoreNewer
from streamd.store import Environment, Outcome, StreamLog, Sync, Work, Writer
from streamd.store.directory import VERSION
from tests.store.conftest import Store, error_of
from tests.store.records import pair, record, records, sequence

_ROOT = Path(__file__).parents[2]
_OPEN = "import sys; from pathlib import Path; from streamd.store import *; Environment.open(Path(sys.argv[1]))"


def test_second_process_is_told_who_holds_the_directory(tmp_path: Path) -> None:
    """Two writers would tear the store."""
    store = Store(tmp_path)
    result = subprocess.run(
        [sys.executable, "-c", _OPEN, str(tmp_path)], capture_output=True, text=True, check=False, cwd=_ROOT
    )
    store.close()

    assert result.returncode == 1
    assert f"StoreLocked: store directory {tmp_path} is in use by process {os.getpid()}" in result.stderr


def test_same_process_may_not_open_twice(tmp_path: Path) -> None:
    """LMDB breaks if a file is opened twice in one process."""
    store = Store(tmp_path)
    with pytest.raises(StoreLocked):
        Store(tmp_path)
    store.close()
    Store(tmp_path).close()


@pytest.mark.parametrize("opened", ["store", "server"])
@pytest.mark.anyio
async def test_new_directories_are_durable_with_all_above_them(
    tmp_path: Path, flushed: list[Path], opened: str
) -> None:
    """A power cut may take a name that its directory was never flushed with, and all that is below it."""
    if opened == "store":
        Environment.open(tmp_path / "a" / "b" / "jetstream").close()
    else:
        async with Server(
            Config(host="127.0.0.1", port=-1, jetstream=JetStreamConfig(store_dir=str(tmp_path / "a" / "b")))
        ):
            pass
    made = [tmp_path, tmp_path / "a", tmp_path / "a" / "b"]

    assert [path for path in flushed if path in made] == made
    assert tmp_path / "a" / "b" / "jetstream" in flushed
    assert tmp_path.parent not in flushed
    flushed.clear()
    Environment.open(tmp_path / "a" / "b" / "jetstream").close()
    assert not set(made) & set(flushed)


def test_foreign_directories_are_refused_untouched(tmp_path: Path) -> None:
    """Pointing at the wrong directory must not cost its content."""
    (tmp_path / "lmdb").mkdir()
    lmdb.open(str(tmp_path / "lmdb"), lib_version=0).close()
    (tmp_path / "nats" / "jetstream").mkdir(parents=True)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "streamd.json").write_text("{")
    (tmp_path / "file").write_text("")
    for name, text in {
        "lmdb": "LMDB file of another program",
        "nats": "nats-server",
        "other": "thesis.tex",
        "broken": "can't be understood",
    }.items():
        before = sorted(os.listdir(tmp_path / name))
        with pytest.raises(StoreForeign, match=text):
            Environment.open(tmp_path / name)

        assert [entry for entry in sorted(os.listdir(tmp_path / name)) if entry != "lock"] == before
    with pytest.raises(StoreError, match="can't be used"):
        Environment.open(tmp_path / "file")


def test_newer_format_is_refused(tmp_path: Path) -> None:
    """A downgrade must not write what it doesn't understand."""
    Store(tmp_path).close()
    (tmp_path / "streamd.json").write_text(json.dumps({"store": "streamd", "version": VERSION + 1}))
    with pytest.raises(StoreNewer, match="run the newer streamd"):
        Environment.open(tmp_path)


def test_store_without_packs_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As format 1 left it, one entry a record; what comes is packed, and an older version would refuse it."""
    monkeypatch.setattr(limits, "PACK_BYTES", 0)
    store = Store(tmp_path)
    log = store.create(1)
    work = Work()
    log.append(work, records(1, 101, b"x" * 50))
    store.commit(work)
    store.close()
    (tmp_path / "streamd.json").write_text(json.dumps({"store": "streamd", "version": 1}))
    monkeypatch.undo()

    store = Store(tmp_path)
    log = StreamLog(store.environment, store.cache, 1)
    work = Work()
    log.append(work, records(101, 201, b"x" * 50))
    log.delete(work, [pair(number)[0] for number in (100, 101, 150)])
    log.keep_from(work, 11)
    store.commit(work)

    kept = [number for number in range(11, 201) if number not in (100, 101, 150)]
    assert list(map(sequence, log.read(1))) == kept
    found = log.get_many([11, 10, 99, 100, 101, 102])
    assert found == [record(n, b"x" * 50) if n in (11, 99, 102) else None for n in (11, 10, 99, 100, 101, 102)]
    assert log.count() == len(kept)
    with store.environment.read() as txn:
        assert txn.stat(store.environment.databases[1])["entries"] == 89 + 2
    assert json.loads((tmp_path / "streamd.json").read_text())["version"] == VERSION
    store.close()


def test_map_grows_while_records_come(tmp_path: Path) -> None:
    """Nobody restarts a server because a number was too small."""
    store = Store(tmp_path, map_bytes=1 << 20, sync=Sync("never"))
    log = store.create(1)
    for start in range(1, 20_000, 1000):
        work = Work()
        log.append(work, records(start, start + 1000, b"x" * 300))
        store.commit(work)

    assert store.environment.used()[1] > 4 << 20
    assert log.count() == 20_000
    store.cache.forget(1)
    assert [sequence(value) for value in log.read(19_990)] == list(range(19_990, 20_001))
    store.close()


def test_threaded_writer_reports_in_order_and_closes_clean(tmp_path: Path) -> None:
    """Every work is told once, in order, on the thread that runs the calls; close waits for all."""
    environment = Environment.open(tmp_path, sync=Sync("always"))
    calls: list[object] = []
    writer = Writer(environment, notify=calls.append)
    told: list[int] = []

    def tell(number: int) -> None:
        work = Work()
        if number == 0:
            work.of(1).definition = b"{}"
        work.of(1).appends = [records(number + 1, number + 2)]

        def done(outcome: Outcome) -> None:
            assert outcome.error is None
            told.append(number)

        writer.submit(work, done)

    for number in range(200):
        tell(number)
        while calls and number % 3 == 0:
            call = calls.pop()
            assert callable(call)
            call()
    writer.close()

    assert told == list(range(200))
    assert writer.commits < 200
    environment.close()
    again = Environment.open(tmp_path)
    assert again.clean
    again.close()


@pytest.mark.parametrize("mode", ["interval", "never"])
def test_relaxed_writer_commits_in_line(tmp_path: Path, mode: Literal["interval", "never"]) -> None:
    """No thread stands between a publish and its ack when no fsync does."""
    environment = Environment.open(tmp_path, sync=Sync(mode, 10**6))
    syncs: list[None] = []
    real_flush = environment.flush
    environment.flush = lambda: (real_flush(), syncs.append(None))[1]  # type: ignore[method-assign,func-returns-value]
    writer = Writer(environment, notify=lambda call: pytest.fail("the loop is not called"))
    told: list[int] = []
    for number in range(200):
        work = Work()
        work.of(1).definition = b"{}"
        work.of(1).appends = [records(number + 1, number + 2)]
        writer.submit(work, lambda outcome: told.append(outcome.commit))

        assert len(told) == number + 1
    deadline = time.monotonic() + 10
    while mode == "interval" and not syncs:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    assert told == sorted(set(told))
    assert bool(syncs) == (mode == "interval")
    writer.close()
    environment.close()


@pytest.mark.parametrize("mode", ["always", "interval", "never"])
def test_dead_writer_fails_what_comes(
    tmp_path: Path, mode: Literal["always", "interval", "never"], caplog: pytest.LogCaptureFixture
) -> None:
    """A bug while it commits must not look like a slow disk."""
    environment = Environment.open(tmp_path, sync=Sync(mode, 10**9))
    calls: list[object] = []
    writer = Writer(environment, notify=calls.append)
    errors: list[str] = []
    work = Work()
    work.of(5).appends = [records(1, 2)]  # a stream that was never made
    writer.submit(work, lambda outcome: errors.append(str(outcome.error)))
    writer.submit(Work(), lambda outcome: errors.append(str(outcome.error)))
    writer.close()
    writer.submit(Work(), lambda outcome: errors.append(str(outcome.error)))

    assert len([text for text in errors if "isn't there" in text]) == 3
    assert "store.writer_failed" in caplog.text
    environment.close()
    again = Environment.open(tmp_path)
    assert again.clean  # nothing was ever written
    again.close()


def test_a_sync_that_fails_for_no_known_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What was acked before may be lost: nothing more is accepted."""
    environment = Environment.open(tmp_path, sync=Sync("interval", 10**6))

    def wrong() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(environment, "flush", wrong)
    writer = Writer(environment, notify=lambda call: None)
    outcomes: list[Outcome] = []
    deadline = time.monotonic() + 10
    while not outcomes or outcomes[-1].error is None:
        assert time.monotonic() < deadline
        work = Work()
        work.of(1).definition = b"{}"
        writer.submit(work, outcomes.append)
    assert isinstance(outcomes[-1].error, StoreFailed)
    assert "ZeroDivisionError" in str(outcomes[-1].error)
    assert "store.writer_failed" in caplog.text
    monkeypatch.undo()
    writer.close()
    environment.close()


def test_unclean_end_is_noticed(tmp_path: Path) -> None:
    """`clean` tells recovery how much to doubt."""
    store = Store(tmp_path)
    assert store.environment.clean
    store.create(1)
    store.environment.close()
    again = Store(tmp_path)
    assert not again.environment.clean
    again.close()


def test_full_disk_fails_the_commit_and_nothing_else(small_disk: Path) -> None:
    """Publishers hear of it, readers don't, and writing resumes when there is room again."""
    ballast = small_disk.parent / "disk" / "lost+found"
    ballast.write_bytes(b"x" * (3 << 20))
    store = Store(small_disk)
    log, other = store.create(1), store.create(2)
    stored = 0
    for start in range(1, 100_000, 500):
        work = Work()
        log.append(work, records(start, start + 500, b"x" * 200))
        other.append(work, records(start, start + 500))
        if isinstance(error_of(work, store.writer), StoreFull):
            break
        stored += 500

    assert stored > 1000
    assert log.count() == other.count() == stored == len(log.read(1, 10**6, 1 << 30))
    with pytest.raises(StoreFull, match="no space left"):
        store.commit(work_of(store, 1, stored))
    ballast.unlink()
    store.commit(work_of(store, 1, stored))
    assert log.count() == stored + 500
    store.close()
    again = Store(small_disk)
    assert again.log(1).count() == stored + 500
    assert [sequence(value) for value in again.log(1).read(stored + 499)] == [stored + 499, stored + 500]
    again.close()


def work_of(store: Store, stream: int, stored: int) -> Work:
    """500 records more."""
    work = Work()
    store.log(stream).append(work, records(stored + 1, stored + 501, b"x" * 200))
    return work


def test_full_disk_at_the_first_start(small_disk: Path) -> None:
    """No room for the first commit."""
    (small_disk / "lost+found").write_bytes(b"x" * ((8 << 20) - 8192))
    with pytest.raises(StoreFull):
        Store(small_disk)
