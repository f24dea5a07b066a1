"""The decoders take any bytes: what they are made for, or a ValueError."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from streamd.stan.importer.bolt import Bolt, fnv1a
from streamd.stan.importer.errors import ImportRefused
from streamd.stan.importer.packed import unpack_map
from streamd.stan.importer.raft import crc64
from streamd.stan.importer.records import HEADER, checksum_of, records
from streamd.stan.importer.slices import survey
from streamd.stan.importer.wire import Message, fields, varint
from tests.stan.kept import unpack
from tests.stan.stan_peer import encode
from tests.stan.stan_peer import varint as encode_varint

NUMBERS = st.integers(1, (1 << 29) - 1)
VALUES = st.one_of(st.integers(1, (1 << 64) - 1), st.binary(min_size=1))


@given(st.dictionaries(NUMBERS, VALUES))
def test_what_was_encoded_comes_back(message: dict[int, int | bytes]) -> None:
    found = [(number, value) for number, _, value in fields(encode(dict(message)))]

    assert found == list(message.items())


@given(st.binary())
@example(b"\x0b")
@example(b"\x00\x00")
@example(b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01")
@example(b"\xff" * 11)
def test_any_bytes_are_fields_or_a_value_error(data: bytes) -> None:
    with suppress(ValueError):
        list(fields(data))
    with suppress(ValueError):
        message = Message(data)
        for read in (message.number, message.signed, message.text, message.raw, message.messages, message.numbers):
            with suppress(ValueError):
                read(1)


@given(st.dictionaries(NUMBERS, VALUES, min_size=1), st.data())
def test_a_message_that_is_cut_off_is_an_error_or_has_fewer_fields(
    message: dict[int, int | bytes], data: st.DataObject
) -> None:
    whole = encode(dict(message))
    end = data.draw(st.integers(0, len(whole) - 1))

    with suppress(ValueError):
        found = list(fields(whole[:end]))
        assert len(found) < len(message)


@given(st.integers(0, (1 << 64) - 1))
def test_numbers(value: int) -> None:
    raw = encode_varint(value)

    assert varint(raw, 0) == (value, len(raw))
    assert Message(b"\x08" + raw).signed(1) == (value if value < 1 << 63 else value - (1 << 64))


def test_repeated_numbers_are_packed_or_not() -> None:
    assert Message(b"\x08\x01\x08\x02\x0a\x02\x03\x04").numbers(1) == [1, 2, 3, 4]


@pytest.mark.parametrize("call", ["text", "raw", "messages"])
def test_a_number_where_bytes_were_expected(call: str) -> None:
    with pytest.raises(ValueError, match="field 1 is not"):
        getattr(Message(b"\x08\x01"), call)(1)


@given(st.binary())
@example(b"\x81\xa1a\xc9\xff\xff\xff\xff")
def test_any_bytes_are_a_map_or_a_value_error(data: bytes) -> None:
    with suppress(ValueError):
        unpack_map(data)


def test_maps() -> None:
    data = b"\x87\xa1a\x07\xa1b\xc0\xa1c\xcd\x01\x00\xa1d\xd0\xff\xa1e\xda\x00\x02xy\xa1f\xd6\xff1234\xa1g\xc4\x01z"

    expected = {"a": 7, "b": None, "c": 256, "d": -1, "e": b"xy", "f": b"\xff1234", "g": b"z"}
    assert unpack_map(data) == expected


def test_check_values_of_the_checksums() -> None:
    """The catalogue's values for the nine digits, and FNV's for one letter."""
    assert crc64(b"123456789") == 0x995DC9BBDF1939FA
    assert fnv1a(b"a") == 0xAF63DC4C8601EC8C
    assert checksum_of()(b"123456789") == 0xCBF43926


@given(st.binary(), st.booleans())
@example(b"\x01\0\0\0" + HEADER.pack(0xFFFFFFFF, 1), False)
def test_any_file_is_records_or_refused(data: bytes, typed: bool) -> None:
    told: list[str] = []
    with TemporaryDirectory() as home, suppress(ImportRefused):
        path = Path(home) / "msgs.1.dat"
        path.write_bytes(data)
        list(records(path, checksum_of(), told.append, typed=typed))
        path.with_suffix(".idx").write_bytes(data)
        survey(path, checksum_of(), told.append)


@given(st.data())
def test_a_raft_log_with_any_change_is_read_or_a_value_error(data: st.DataObject) -> None:
    changed = bytearray(RAFT_LOG)
    for _ in range(data.draw(st.integers(1, 5))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    changed = changed[: data.draw(st.integers(1, len(changed)))] if data.draw(st.booleans()) else changed
    with TemporaryDirectory() as home, suppress(ValueError):
        path = Path(home) / "raft.log"
        path.write_bytes(changed)
        bolt = Bolt(path)
        try:
            for name in (b"logs", b"channels", b"conf"):
                list(bolt.bucket(name))
        finally:
            bolt.close()


def _raft_log() -> bytes:
    with TemporaryDirectory() as home:
        return (unpack("clustered", Path(home)).raft / "test" / "raft.log").read_bytes()


RAFT_LOG = _raft_log()


def test_the_raft_log_is_read_from_its_last_whole_transaction(tmp_path: Path) -> None:
    """With either meta page damaged the other one counts; with both it is refused."""
    path = tmp_path / "raft.log"

    def entries(*damaged: int) -> int:
        changed = bytearray(RAFT_LOG)
        for offset in damaged:
            changed[offset + 40] ^= 1
        path.write_bytes(changed)
        bolt = Bolt(path)
        try:
            return sum(1 for _ in bolt.bucket(b"logs"))
        finally:
            bolt.close()

    whole = entries()
    assert whole > 40
    assert {entries(0), entries(4096)} <= {whole - 1, whole}
    with pytest.raises(ValueError, match="no valid meta page"):
        entries(0, 4096)
