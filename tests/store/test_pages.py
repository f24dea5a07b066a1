"""The look at an LMDB file before LMDB trusts it."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from streamd import _engine
from streamd.errors import StoreCorrupt
from streamd.store import Sync, Work, recover
from streamd.store.directory import DATA_FILE
from tests.store import program
from tests.store.conftest import Store
from tests.store.records import pair, records

if TYPE_CHECKING:
    from pathlib import Path

_PAGE = 4096


def verify(data: bytes | bytearray) -> list[tuple[bytes | None, str]]:
    return _engine.verify_pages(data, _PAGE, thorough=True)


def filled(directory: Path) -> bytearray:
    """A store with leaves, branches, overflow pages, packs, holes and a free list."""
    store = Store(directory, sync=Sync("never"))
    for stream in (1, 2, 3):
        log = store.create(stream)
        for start in range(1, 2000, 100):
            work = Work()
            if stream == 1:
                for number in range(start, start + 100):
                    log.append(work, records(number, number + 1, b"x" * 90))
            else:
                log.append(work, records(start, start + 100, b"x" * (9000 if stream == 2 else 90)))
            log.delete(work, [pair(start + 4)[0], pair(start + 5)[0]])
            log.keep_from(work, start - 300)
            store.commit(work)
    store.close()
    return bytearray((directory / DATA_FILE).read_bytes())


def test_any_bytes_get_an_answer(tmp_path: Path) -> None:
    """Neither flips nor torn pages nor noise can end the process or keep it busy."""
    whole = filled(tmp_path)
    assert verify(whole) == []
    chance = random.Random(3)
    found = 0
    for number in range(2000):
        data = bytearray(whole)
        for _ in range(chance.choice([1, 1, 5, 500])):
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        if number % 10 == 0:
            page = chance.randrange(len(data) // _PAGE)
            data[page * _PAGE : (page + 1) * _PAGE] = chance.randbytes(_PAGE)
        if number % 25 == 0:
            del data[chance.randrange(len(data)) :]
        found += bool(verify(data))

    assert found > 500
    for size in (0, 1, 100, _PAGE, 5 * _PAGE):
        assert verify(chance.randbytes(size)) != []


def test_record_under_the_sequence_of_another_is_found(tmp_path: Path) -> None:
    """Beside a hole the keys are still in order, and the record's own checksum is right."""
    data = filled(tmp_path)
    low, high = (number.to_bytes(8, "big") for number in (1905, 1904))
    at = data.index(pair(1907, b"x" * 90)[0] + pair(1907, b"x" * 90)[1])
    data[at : at + 8] = low
    assert [name for name, _ in verify(data)] == [b"s1"]
    data[at : at + 8] = high
    assert [name for name, _ in verify(data)] == [b"s1"]


def test_pack_with_another_count_is_found(tmp_path: Path) -> None:
    """Records are counted by the keys."""
    data = filled(tmp_path)
    at = data.rindex((2000).to_bytes(8, "big") + (34).to_bytes(2, "big")) + 8
    assert verify(data) == []
    data[at + 1] ^= 1
    assert [name for name, _ in verify(data)] == [b"s3"]


def test_page_that_is_in_use_and_free_refuses_the_store(tmp_path: Path) -> None:
    """LMDB would write over it; nobody can tell which of the two is wrong."""
    program.write(tmp_path, Sync("never"), 1000)
    data = bytearray((tmp_path / DATA_FILE).read_bytes())
    newest = max((0, _PAGE), key=lambda at: int.from_bytes(data[at + 144 : at + 152], "little"))
    root = int.from_bytes(data[newest + 80 : newest + 88], "little")
    leaf = root * _PAGE
    node = leaf + int.from_bytes(data[leaf + 16 : leaf + 18], "little")
    count = int.from_bytes(data[node + 16 : node + 24], "little")
    assert count > 0
    # The greatest number comes first: the order still holds when it is greater yet.
    greatest = int.from_bytes(data[node + 24 : node + 32], "little")
    used = next(
        page
        for page in range(len(data) // _PAGE - 1, greatest, -1)
        if verify(data[: node + 24] + page.to_bytes(8, "little") + data[node + 32 :]) != []
    )
    data[node + 24 : node + 32] = used.to_bytes(8, "little")
    (tmp_path / DATA_FILE).write_bytes(data)

    assert "two owners" in verify(data)[0][1]
    with pytest.raises(StoreCorrupt, match=r"two owners.*restore the directory from a backup"):
        Store(tmp_path)


def test_damage_in_several_streams_is_told_of_each(tmp_path: Path) -> None:
    """And an intact one goes on."""
    store = Store(tmp_path)
    for stream in (1, 2, 3):
        log = store.create(stream, f"S{stream}")
        work = Work()
        log.append(work, records(1, 500, b"%d" % stream * 99))
        store.commit(work)
    store.close()
    data = bytearray((tmp_path / DATA_FILE).read_bytes())
    for mark in (b"1" * 99, b"3" * 99):
        data[data.index(mark) // _PAGE * _PAGE + 10] ^= 0x20
    (tmp_path / DATA_FILE).write_bytes(data)
    store = Store(tmp_path)

    assert [stored.damage is None for stored in recover(store.environment)] == [False, True, False]
    store.close()
