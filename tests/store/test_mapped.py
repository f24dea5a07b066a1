"""The map of the data file, and what of it counts as the process's memory."""

from __future__ import annotations

import queue
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest

from streamd import limits
from streamd.store import Environment, StreamLog, Sync, TailCache, Work, Writer
from streamd.store.directory import DATA_FILE
from streamd.store.mapped import give_back
from tests.store.records import records, sequence

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamd.store import Outcome
    from tests.store.conftest import Store

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the system has no /proc")


def mapped_bytes(data: Path) -> int:
    """Resident, of all maps of a file in this process."""
    lines = iter(Path("/proc/self/smaps").read_text().splitlines())
    return sum(
        int(next(line for line in lines if line.startswith("Rss:")).split()[1]) << 10
        for line in lines
        if line.endswith(f" {data}")
    )


def test_what_is_given_back_can_be_read_again(store: Store) -> None:
    store.cache.bytes_max = 0
    log = store.create(1)
    store.change(log, lambda part: part.appends.append(records(1, 1000, b"x" * 100)))
    data = store.environment.directory / DATA_FILE

    values = log.read(1)
    assert [sequence(value) for value in values] == list(range(1, 1000))
    assert mapped_bytes(data) > 100_000
    assert give_back(data)
    assert mapped_bytes(data) == 0
    assert log.read(1) == values


def test_a_store_stays_where_it_was_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when the process goes elsewhere, to a directory that is removed: the writer's thread ended there, and a server that
    was to stop waited for it."""
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(tmp_path)
    environment = Environment.open(Path("store"))
    monkeypatch.chdir(gone)
    gone.rmdir()
    with environment.read() as txn:
        assert txn.stat(environment.meta)["entries"]
    data = tmp_path / "store" / DATA_FILE
    assert mapped_bytes(data) > 0
    environment.give_back()
    assert mapped_bytes(data) == 0
    assert environment.hold_room(1 << 16)
    environment.close()


def test_quiet_writer_gives_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "STORE_LOOK_SECONDS", 0.01)
    given: queue.Queue[Path] = queue.Queue()

    def noted(data: Path) -> None:
        give_back(data)
        given.put(data)

    monkeypatch.setattr("streamd.store.environment.give_back", noted)
    environment = Environment.open(tmp_path / "store")
    data = environment.directory / DATA_FILE
    calls: queue.Queue[Callable[[], None]] = queue.Queue()
    writer = Writer(environment, notify=calls.put)
    log = StreamLog(environment, TailCache(0), 1)
    for _ in range(2):
        assert given.get(timeout=20) == data
        assert mapped_bytes(data) == 0
        work = Work()
        log.of(work).definition = b"{}"
        writer.submit(work, lambda outcome: None)
        writer.settle()
    assert given.get(timeout=20) == data
    with pytest.raises(queue.Empty):
        given.get(timeout=0.1)
    writer.close()
    environment.close()


@pytest.mark.parametrize("mode", ["always", "interval"])
def test_a_mistake_while_nothing_is_committed(
    tmp_path: Path,
    mode: Literal["always", "interval"],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is told, and the writer goes on: who submits something else, or closes, would wait for a thread that is no more."""
    monkeypatch.setattr(limits, "STORE_LOOK_SECONDS", 0.01)
    monkeypatch.setattr(limits, "JOURNAL_SECONDS_MAX", 0.01)
    tried: queue.Queue[Path] = queue.Queue()

    def wrong(data: Path) -> None:
        tried.put(data)
        raise ZeroDivisionError

    monkeypatch.setattr("streamd.store.environment.give_back", wrong)
    environment = Environment.open(tmp_path / "store", sync=Sync(mode, 10**9))
    calls: queue.Queue[Callable[[], None]] = queue.Queue()
    writer = Writer(environment, notify=calls.put)
    outcomes: list[Outcome] = []
    for number in range(2):
        tried.get(timeout=20)
        work = Work()
        StreamLog(environment, TailCache(0), 1).of(work).definition = b"{%d}" % number
        writer.submit(work, outcomes.append)
        writer.settle()
    writer.close()
    environment.close()
    assert [outcome.error for outcome in outcomes] == [None, None]
    assert "store.writer_failed" in caplog.text


def test_map_stays_where_it_is_while_it_is_given_back(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is mapped there next may be anybody's memory, and would be zeros. A read doesn't wait: in a large store that takes
    longer than clients should notice."""
    environment = store.environment
    store.cache.bytes_max = 0
    log = store.create(1)
    store.change(log, lambda part: part.appends.append(records(1, 3)))
    before = environment.used()[1]
    seen: list[int] = []
    grower = threading.Thread(target=environment.grow)

    def slow(_data: Path) -> None:
        seen.append(len(log.read(1)))
        grower.start()
        grower.join(0.2)
        seen.append(environment.used()[1])

    monkeypatch.setattr("streamd.store.environment.give_back", slow)
    environment.give_back()
    grower.join()
    assert seen == [2, before]
    assert environment.used()[1] == 2 * before
    assert len(log.read(1)) == 2


def test_no_map_of_that_name(tmp_path: Path) -> None:
    assert not give_back(tmp_path / "none")
