"""Torn, damaged, foreign and busy directories, made from a store that a real server wrote."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import google_crc32c
import pytest

from streamd.stan.importer.errors import ImportRefused, StoreDamaged
from streamd.stan.importer.in_use import refuse_if_changed, state_of
from streamd.stan.importer.records import checksum_of, records
from streamd.stan.importer.report import report
from streamd.stan.importer.store import Options, read
from tests.stan.kept import unpack

if TYPE_CHECKING:
    from pathlib import Path

    from streamd.stan.importer.model import ChannelData, StanStore

CASTAGNOLI = 0x82F63B78


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """The directory of a kept store: channel orders has messages 1–4, 5–8 and 9–10 in its files."""
    return unpack("standalone", tmp_path).store


def orders(found: StanStore) -> ChannelData:
    return next(channel for channel in found.channels if channel.name == "orders")


def sequences(found: StanStore) -> list[int]:
    return [message.sequence for message in orders(found).messages()]


def flip(path: Path, offset: int) -> None:
    """One bit of one byte; negative offsets count from the end."""
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)


def cut(path: Path, count: int) -> None:
    path.write_bytes(path.read_bytes()[:-count])


@pytest.mark.parametrize("count", [1, 20])
def test_a_torn_last_message_is_left_out_and_told(store: Path, count: int) -> None:
    path = store / "orders" / "msgs.3.dat"
    cut(path, count)

    found = read(store)

    assert sequences(found) == list(range(1, 10))
    assert (orders(found).last_seq, orders(found).count) == (9, 9)
    assert any(f"{path}: the last record, at byte" in notice for notice in found.notices)


def test_a_torn_header_is_a_torn_record(store: Path) -> None:
    path = store / "orders" / "msgs.3.dat"
    whole = path.read_bytes()
    path.write_bytes(whole + b"\x01\x02\x03")
    path.with_suffix(".idx").unlink()

    found = read(store)

    assert sequences(found) == list(range(1, 11))
    assert f"{path}: the last record, at byte {len(whole)}, is torn; its 3 bytes are left out" in found.notices


def test_a_torn_last_record_of_clients_and_subscriptions_is_left_out_and_told(store: Path) -> None:
    before = read(store)
    cut(store / "clients.dat", 1)
    cut(store / "orders" / "subs.dat", 1)

    found = read(store)

    # The torn records: that gone was deleted, and that its durable was closed.
    assert {client.id for client in found.clients} == {"alpha", "beta", "gone"}
    assert len(orders(found).subscriptions) >= len(orders(before).subscriptions)
    assert [notice.split(":")[0] for notice in found.notices] == [
        str(store / "clients.dat"),
        str(store / "orders" / "subs.dat"),
    ]


@pytest.mark.parametrize("indexed", [True, False])
def test_a_flipped_byte_in_the_middle_names_file_and_offset(store: Path, indexed: bool) -> None:
    path = store / "orders" / "msgs.2.dat"
    second = list(records(path, checksum_of(), print, typed=False))[1].offset
    flip(path, second + 12)
    if not indexed:
        path.with_suffix(".idx").unlink()

    with pytest.raises(StoreDamaged, match=f"msgs.2.dat is damaged at byte {second} .checksum.*restore it") as caught:
        report(read(store))

    assert (caught.value.path, caught.value.offset) == (path, second)


@pytest.mark.parametrize("name", ["server.dat", "clients.dat", "orders/subs.dat"])
def test_a_flipped_byte_in_a_small_file_is_an_error(store: Path, name: str) -> None:
    flip(store / name, 14)

    with pytest.raises(StoreDamaged, match=f"{name} is damaged at byte 4 "):
        read(store)


@pytest.mark.parametrize("name", ["server.dat", "clients.dat", "orders/subs.dat", "orders/msgs.1.dat"])
def test_another_version_is_refused(store: Path, name: str) -> None:
    path = store / name
    path.write_bytes(b"\x02" + path.read_bytes()[1:])

    with pytest.raises(ImportRefused, match=f"{name} has format version 2, known is 1"):
        report(read(store))


def test_an_unknown_kind_of_record_is_an_error(store: Path) -> None:
    flip(store / "clients.dat", 4 + 3 + 0)
    data = bytearray((store / "clients.dat").read_bytes())
    data[7] = 9
    (store / "clients.dat").write_bytes(data)

    with pytest.raises(StoreDamaged, match="record type 9"):
        read(store)


def test_zeros_behind_the_last_record_are_no_record(store: Path) -> None:
    for name in ("clients.dat", "orders/subs.dat", "orders/msgs.3.dat", "orders/msgs.3.idx"):
        with (store / name).open("ab") as file:
            file.write(bytes(100))

    found = read(store)

    assert sequences(found) == list(range(1, 11))
    assert found.notices == ()


@pytest.mark.parametrize("fault", ["torn", "checksum", "version of nothing", "gone", "empty"])
def test_a_faulty_index_is_not_needed(store: Path, fault: str) -> None:
    path = store / "orders" / "msgs.2.idx"
    if fault == "torn":
        cut(path, 5)
    elif fault == "checksum":
        flip(path, 10)
    elif fault == "version of nothing":
        path.write_bytes(path.read_bytes()[:4])
    elif fault == "gone":
        path.unlink()
    else:
        path.write_bytes(b"")

    found = read(store)

    assert sequences(found) == list(range(1, 11))
    assert [notice for notice in found.notices if "is not used" in notice] == (
        [notice for notice in found.notices if str(path) in notice] if fault in ("torn", "checksum") else []
    )
    assert len(found.notices) == (fault in ("torn", "checksum"))


def test_records_behind_the_index_were_never_acked_and_do_not_count(store: Path) -> None:
    """A crash between the write of the data and that of the index."""
    index = store / "orders" / "msgs.3.idx"
    cut(index, 32)

    assert sequences(read(store)) == list(range(1, 10))


def test_of_two_messages_with_one_sequence_the_later_counts(store: Path) -> None:
    """After such a crash the sequence is given again."""
    path = store / "orders" / "msgs.3.dat"
    path.with_suffix(".idx").unlink()
    first, second = records(path, checksum_of(), print, typed=False)
    raw = path.read_bytes()
    path.write_bytes(raw + raw[first.offset :])

    found = read(store)

    assert sequences(found) == list(range(1, 11))
    assert orders(found).count == 10
    assert orders(found).log.slices[-1].superseded == {first.offset, second.offset}


def test_an_index_of_other_data_is_noticed(store: Path) -> None:
    """Its last entry does not fit; or, where only an inner one is wrong, the message itself tells."""
    path = store / "orders" / "msgs.2.idx"
    path.write_bytes((store / "orders" / "msgs.1.idx").read_bytes())

    found = read(store)

    assert sequences(found) == list(range(1, 11))
    assert any("is not used" in notice for notice in found.notices)


def test_a_missing_slice_is_counted(store: Path) -> None:
    for name in ("msgs.2.dat", "msgs.2.idx"):
        (store / "orders" / name).unlink()

    found = read(store)

    (told,) = (one for one in report(found)["channels"] if one["name"] == "orders")
    assert sequences(found) == [1, 2, 3, 4, 9, 10]
    assert (told["messages"], told["missing"]) == (6, 4)


def test_slices_that_overlap_are_refused(store: Path) -> None:
    (store / "orders" / "msgs.4.dat").write_bytes((store / "orders" / "msgs.1.dat").read_bytes())

    with pytest.raises(ImportRefused, match=r"msgs.4.dat begins with message 1, but msgs.3.dat before it ends with 10"):
        read(store)


def test_a_message_file_with_another_name_is_refused(store: Path) -> None:
    (store / "orders" / "msgs.x.dat").write_bytes(b"")

    with pytest.raises(ImportRefused, match=r"msgs.x.dat is no message file"):
        read(store)


def test_what_is_not_a_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImportRefused, match=r"is not the store directory .* it has no server.dat"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("content", "text"), [(b"", "is empty"), (b"\x01\0\0\0", "is empty"), (b"\x01", "within its version")]
)
def test_a_server_file_without_a_record_is_refused(store: Path, content: bytes, text: str) -> None:
    (store / "server.dat").write_bytes(content)

    with pytest.raises(ImportRefused, match=text):
        read(store)


def test_a_server_file_holds_one_record(store: Path) -> None:
    with (store / "server.dat").open("ab") as file:
        file.write(b"more")

    with pytest.raises(StoreDamaged, match="something follows its only record"):
        read(store)


def test_a_directory_that_is_no_channel_is_told(store: Path) -> None:
    (store / "lost+found").mkdir()

    found = read(store)

    assert "lost+found" not in {channel.name for channel in found.channels}
    assert [notice for notice in found.notices if "lost+found is left out" in notice] == list(found.notices)


def test_another_polynomial_has_to_be_named(store: Path) -> None:
    with pytest.raises(StoreDamaged, match=r"server.dat .*checksum"):
        read(store, Options(crc_poly=CASTAGNOLI))
    with pytest.raises(ImportRefused, match="not a CRC polynomial"):
        read(store, Options(crc_poly=0))
    for data in (b"", b"a", bytes(range(256)) * 3):
        assert checksum_of(CASTAGNOLI)(data) == google_crc32c.value(data)


HOLD = """
import fcntl, sys
file = open(sys.argv[1], "ab")
if sys.argv[2] == "lock":
    fcntl.lockf(file, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize(
    ("name", "how", "text"), [(".rootdir.lck", "lock", "has it locked"), ("clients.dat", "open", "by process")]
)
def test_a_directory_in_use_is_refused(store: Path, name: str, how: str, text: str) -> None:
    command = [sys.executable, "-c", HOLD, str(store / name), how]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        try:
            with pytest.raises(ImportRefused, match=f"is in use.*{text}.*stop the nats-streaming-server first"):
                read(store)
        finally:
            holder.communicate()

    assert orders(read(store)).count == 10


def test_a_lock_that_nobody_holds_does_no_harm(store: Path) -> None:
    (store / ".rootdir.lck").write_bytes(b"")

    assert orders(read(store)).count == 10


def test_files_that_change_meanwhile_are_noticed(store: Path) -> None:
    before = state_of(store)
    refuse_if_changed(store, before)
    with (store / "orders" / "msgs.3.dat").open("ab") as file:
        file.write(b"x")

    with pytest.raises(ImportRefused, match=r"msgs.3.dat has changed while it was read"):
        refuse_if_changed(store, before)


def test_a_directory_whose_name_is_not_utf8_is_refused(store: Path) -> None:
    (store / "not utf-8: \udcff").mkdir()

    with pytest.raises(ImportRefused, match="is no channel's name"):
        read(store)
