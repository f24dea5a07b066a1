"""A journal's conflicting tail is replaced in one transaction."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamd._engine import Records
from streamd.errors import StoreFull
from streamd.store import Environment, StreamLog, Sync, TailCache, Work, Writer
from streamd.store.journal import small
from tests.store import program
from tests.store.conftest import Store, error_of
from tests.store.forgetful import Forgetful
from tests.store.records import pair, records, sequence

if TYPE_CHECKING:
    from collections.abc import Callable


@settings(deadline=None, max_examples=60)
@given(
    steps=st.lists(
        st.tuples(st.integers(0, 30), st.integers(0, 20), st.integers(0, 10), st.integers(0, 900)), max_size=20
    ),
    cache=st.sampled_from([0, 3000, 1 << 20]),
)
def test_log_holds_what_the_model_holds(steps: list[tuple[int, int, int, int]], cache: int) -> None:
    """Truncations, appends and trims from below, with a cache of any size."""
    with tempfile.TemporaryDirectory() as directory:
        store = Store(Path(directory), sync=Sync("never"), cache=cache)
        log = store.create(1)
        model: dict[int, bytes] = {}
        last = first = 0
        for back, more, trim, size in steps:
            work = Work()
            if back:
                last = max(first, last - back)
                log.truncate_from(work, last + 1)
                model = {number: value for number, value in model.items() if number <= last}

                assert log.read(0) == [model[number] for number in sorted(model)]
            if more:
                new = records(last + 1, last + 1 + more, b"x" * size)
                log.append(work, new)
                model.update({sequence(value): value for _, value in new})
                last += more
            if trim and last > first:
                first = min(last, first + trim)
                log.keep_from(work, first)
                model = {number: value for number, value in model.items() if number >= first}
            store.commit(work)

            assert log.read(0) == [model[number] for number in sorted(model)]
            assert log.get_many(range(1, last + 2)) == [model.get(number) for number in range(1, last + 2)]
            assert log.count() == len(model)
        store.close()


def test_whole_log_is_replaced_by_one_record(store: Store) -> None:
    """As when a state is installed: everything goes, and the log begins again, above or below where it ended."""
    log = store.create(1)
    for begin in (100, 7, 300):
        work = Work()
        log.truncate_from(work, 1)
        log.append(work, records(begin, begin + 3))
        store.commit(work)

        assert [sequence(value) for value in log.read(0)] == [begin, begin + 1, begin + 2]
        assert log.count() == 3


def test_truncating_work_is_not_for_the_journal_of_small_commits() -> None:
    work = Work()
    work.of(1).appends.append(records(5, 6))

    assert small(work)

    work.of(1).truncate_from = 5

    assert not small(work)


@pytest.fixture
def synced(tmp_path: Path) -> Callable[[], tuple[Environment, Writer, StreamLog]]:
    def open_store() -> tuple[Environment, Writer, StreamLog]:
        environment = Environment.open(tmp_path / "store", sync=Sync("always"), map_bytes=1 << 26)
        return environment, Writer(environment), StreamLog(environment, TailCache(), 1)

    return open_store


def test_small_commits_around_a_truncation(synced: Callable[[], tuple[Environment, Writer, StreamLog]]) -> None:
    """What the journal holds is taken over before the truncation, and what follows it goes to the journal again."""
    environment, writer, log = synced()
    assert environment.journal is not None
    work = Work()
    log.of(work).definition = b'{"name": "S"}'
    assert error_of(work, writer) is None
    for low, payload in ((1, b"one"), (4, b"two")):
        work = Work()
        log.append(work, records(low, low + 3, payload))
        assert error_of(work, writer) is None
    journaled = writer.journaled
    assert journaled.logs
    work = Work()
    log.truncate_from(work, 5)
    log.append(work, Records([pair(5, b"three")]))
    assert error_of(work, writer) is None
    assert not writer.journaled.logs
    work = Work()
    log.append(work, Records([pair(6, b"four")]))
    assert error_of(work, writer) is None
    assert writer.journaled.logs
    values = log.read(0)
    # As after a kill: nobody takes over, nobody closes.
    environment.close()
    environment, writer, log = synced()

    assert log.read(0) == values
    assert [value[-3:] for value in values] == [b"one"] * 3 + [b"two", b"ree", b"our"]
    writer.close()
    environment.close()


def run_until_cut(store: Path, cut: Callable[[subprocess.Popen[bytes]], object], seconds: float) -> int:
    """Replace a log's tail until `cut` ends that. Returns the last round that was acked."""
    command = [sys.executable, "-m", "tests.store.program", "replace", os.fspath(store)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=Path(__file__).parents[2]
    )
    assert process.stdout is not None
    acked = int(process.stdout.readline())
    time.sleep(seconds)
    cut(process)
    for line in process.stdout.read().splitlines(keepends=True):
        acked = int(line) if line.endswith(b"\n") else acked
    process.stdout.close()
    process.wait()
    return acked


def test_kills_leave_one_tail_or_the_other(tmp_path: Path) -> None:
    chance = random.Random(5)
    for _ in range(4):
        acked = run_until_cut(tmp_path / "store", lambda process: process.kill(), chance.random() / 5)

        assert program.replaced(tmp_path / "store") in (acked, acked + 1)


@pytest.mark.usefixtures("fuse_mounts")
def test_power_cuts_leave_one_tail_or_the_other(tmp_path: Path) -> None:
    chance = random.Random(6)
    with Forgetful(tmp_path / "disk", tmp_path / "mount") as disk:
        for survivors in ("none", "some", "some"):
            store = disk.mount / "store"
            acked = run_until_cut(store, lambda process, how=survivors: disk.cut(how, 1), chance.random() / 5)  # type: ignore[misc]
            disk.start()

            assert program.replaced(disk.mount / "store") in (acked, acked + 1)


def test_failed_commit_truncates_nothing(
    synced: Callable[[], tuple[Environment, Writer, StreamLog]], monkeypatch: pytest.MonkeyPatch
) -> None:
    environment, writer, log = synced()
    work = Work()
    log.of(work).definition = b'{"name": "S"}'
    log.append(work, records(1, 9))
    assert error_of(work, writer) is None
    before = log.read(0)

    def no_room(txn: object) -> int:
        raise StoreFull(environment.directory)

    with monkeypatch.context() as patch:
        patch.setattr(environment, "commit", no_room)
        work = Work()
        log.truncate_from(work, 3)
        log.append(work, records(3, 5, b"other"))

        assert error_of(work, writer) is not None

    assert log.read(0) == before
    assert log.count() == 8
    environment.close()
