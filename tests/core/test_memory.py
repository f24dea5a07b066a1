"""What the engine and Python share of memory stays as it is, whatever becomes of either."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamd._engine import Batch, CorruptRecord, Engine, Records, record_decode, record_key, unpack

if TYPE_CHECKING:
    from typing_extensions import Buffer

BIG = 64 << 10  # from here on a record that is alone isn't copied


def encoded(count: int) -> bytes:
    """A batch of messages, as an entry holds it."""
    engine = Engine()
    tap = engine.tap("A")
    engine.tap_add(tap, ">")
    for number in range(count):
        engine.publish("A", f"s.{number}", b"payload %d" % number)
    batch = engine.take(tap)
    assert batch is not None
    return batch.encode()


def said(batch: Batch) -> list[tuple[str, bytes]]:
    return [(batch[at].subject, batch[at].payload) for at in range(len(batch))]


@pytest.mark.parametrize("front", [b"", b"front"])
@pytest.mark.parametrize("behind", [b"", b"behind"])
def test_a_batch_is_decoded_where_it_lies(front: bytes, behind: bytes) -> None:
    """From bytes, from a view of a part of some, and from what must be copied, as it may change."""
    batch = encoded(20)
    whole = front + batch + behind
    part = slice(len(front), len(front) + len(batch))
    changing = bytearray(whole)
    scattered = bytearray(2 * len(batch))
    scattered[::2] = batch
    shapes: list[Buffer] = [
        batch,
        whole[part],
        memoryview(whole)[part],
        memoryview(memoryview(whole)[part]),
        memoryview(changing)[part],
        changing[part],
        memoryview(bytes(scattered))[::2],
    ]
    found = [Batch.decode(shape) for shape in shapes]
    wanted = [(f"s.{number}", b"payload %d" % number) for number in range(20)]
    changing[:] = bytes(len(changing))
    del whole, shapes, scattered
    gc.collect()
    for each in found:
        assert said(each) == wanted
        assert each.encode() == batch
        assert said(each.without([found[0]])) == []


@given(st.binary(max_size=200), st.integers(0, 20), st.integers(0, 20))
def test_any_view_is_a_batch_or_refused(data: bytes, front: int, behind: int) -> None:
    view = memoryview(data)[front : len(data) - behind]
    try:
        batch = Batch.decode(view)
    except ValueError:
        with pytest.raises(ValueError, match="not an encoded batch"):
            Batch.decode(bytes(view))
    else:
        assert batch.encode() == Batch.decode(bytes(view)).encode()


@pytest.mark.parametrize("size", [BIG - 28, BIG - 27, BIG, 1 << 20])
def test_a_big_record_is_what_it_was_when_it_was_handed_out(size: int) -> None:
    """However the records change while somebody holds it."""
    records = Records.entries((at, 7, bytes([at]) * size) for at in (1, 2, 3))
    wanted = records.read(1, 10)
    handed = list(records.packs(8_176))
    assert [key for key, _ in handed] == [record_key(at) for at in (1, 2, 3)]
    assert [isinstance(value, bytes) for _, value in handed] == [size + 27 < BIG] * 3
    records.discard([record_key(1)])
    records.extend(Records.entries([(4, 7, b"four")]))
    records.discard_range(3, 4)
    assert [record_decode(value).sequence for value in records.read(1, 10)] == [2, 4]
    del records
    gc.collect()
    assert [bytes(value) for _, value in handed] == wanted
    for _, value in handed:
        assert memoryview(value).readonly
        assert unpack([bytes(value)], 0) == [bytes(value)]


def test_records_one_by_one_are_bytes() -> None:
    records = Records.entries((at, 7, bytes(BIG)) for at in (1, 2))
    assert [type(value) for _, value in records] == [bytes, bytes]


def test_entries_ascend() -> None:
    with pytest.raises(ValueError, match="ascend"):
        Records.entries([(2, 7, b"a"), (2, 7, b"b")])
    with pytest.raises(CorruptRecord):
        record_decode(Records.entries([(2, 7, b"a")]).read(0, 1)[0][:-1])
