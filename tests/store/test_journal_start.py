"""The journal at a start: what a new run makes of the file of the last one."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from streamd import limits
from streamd.errors import StoreCorrupt
from streamd.store import Environment, Sync, Work
from streamd.store.directory import DATA_FILE, JOURNAL_FILE
from streamd.store.journal import Journal
from tests.store.conftest import Store, lone
from tests.store.records import records

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.mark.parametrize("then", ["lone", "big"])
def test_remains_never_fit_again(tmp_path: Path, then: str) -> None:
    """A power cut takes a relaxed store back by commits, whose numbers come again: what the journal holds of them, ahead of
    LMDB or behind its own first entry, is no part of the new ones."""
    store = Store(tmp_path, sync=Sync("never"))
    log = store.create(1)
    older = (tmp_path / DATA_FILE).read_bytes()
    for number in range(1, 7):
        store.commit(lone(log, number, b"old"))
    store.commit(Work())
    store.commit(lone(log, 7, b"old"))
    assert store.writer.journaled.records == 1
    store.environment.close()
    (tmp_path / DATA_FILE).write_bytes(older)

    store = Store(tmp_path, sync=Sync("never"))
    log = store.log(1)
    assert log.count() == 0
    if then == "lone":
        for number in range(1, 4):
            store.commit(lone(log, number, b"new"))
        assert store.writer.journaled.records == 3
    else:
        work = Work()
        log.append(work, records(1, 101, b"new"))
        store.commit(work)
    new = log.read(0)
    assert len(new) == (3 if then == "lone" else 100)
    store.environment.close()
    store = Store(tmp_path, sync=Sync("never"))
    assert store.log(1).read(0) == new
    store.close()


def test_its_head_is_replaced_once_lmdb_has_all_it_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A start that ends at any moment, by a power cut even, leaves every acked record in one of the two files."""
    store = Store(tmp_path / "store", sync=Sync("always"))
    log = store.create(1)
    store.commit(lone(log, 1))
    store.environment.close()
    steps: list[str] = []

    def noted(name: str) -> Callable[..., object]:
        step: Callable[..., object] = getattr(Environment if name == "flush" else Journal, name)

        def call(*arguments: object) -> object:
            steps.append(name)
            shutil.copytree(tmp_path / "store", tmp_path / name)
            return step(*arguments)

        return call

    monkeypatch.setattr(Environment, "flush", noted("flush"))
    monkeypatch.setattr(Journal, "renew", noted("renew"))
    Store(tmp_path / "store", sync=Sync("never")).environment.close()
    assert steps == ["flush", "renew"]
    monkeypatch.undo()
    for name in ("flush", "renew", "store"):
        store = Store(tmp_path / name, sync=Sync("always"))
        assert store.log(1).count() == 1
        store.close()


def test_a_store_without_its_data_file_is_no_new_one(tmp_path: Path) -> None:
    """A journal that was used proves that there was one; a store whose first start was cut short is made to the end."""
    store = Store(tmp_path, sync=Sync("always"))
    log = store.create(1)
    store.commit(lone(log, 1))
    store.close()
    data = (tmp_path / DATA_FILE).read_bytes()
    (tmp_path / DATA_FILE).unlink()
    before = (tmp_path / JOURNAL_FILE).read_bytes()
    for _ in range(2):
        with pytest.raises(
            StoreCorrupt, match=r"data\.mdb is missing.*restore the directory from a backup, or move it away"
        ):
            Environment.open(tmp_path)
    assert not (tmp_path / DATA_FILE).exists()
    assert (tmp_path / JOURNAL_FILE).read_bytes() == before
    (tmp_path / DATA_FILE).write_bytes(data)
    store = Store(tmp_path, sync=Sync("always"))
    assert store.log(1).count() == 1
    store.close()

    (tmp_path / DATA_FILE).unlink()
    for left in (b"", bytes(limits.JOURNAL_BYTES)):
        (tmp_path / JOURNAL_FILE).write_bytes(left)
        Store(tmp_path, sync=Sync("always")).close()
        (tmp_path / DATA_FILE).unlink()
