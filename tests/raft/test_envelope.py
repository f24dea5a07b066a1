"""Frames: what is encoded is decoded, and nothing else raises."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streamd.raft.config import Config
from streamd.raft.envelope import CONFIG, NO_OP, NUMBER_MAX, REGULAR, Entry, Frame, Kind, Message, decode, encode

_names = st.sampled_from(["a", "n2#Zk3", "größe/1", "x" * 300])
_numbers = st.integers(0, NUMBER_MAX)
_configs = st.builds(Config, st.lists(_names, max_size=3).map(tuple), st.lists(_names, max_size=2).map(tuple))
_commands = st.one_of(
    st.binary(max_size=60).map(lambda command: bytes((REGULAR,)) + command),
    st.just(bytes((NO_OP,))),
    _configs.map(lambda config: bytes((CONFIG,)) + config.encode()),
)
_entries: st.SearchStrategy[tuple[Entry, ...]] = st.lists(st.tuples(_numbers, _commands), max_size=3).map(tuple)
_messages = st.builds(
    Message, st.sampled_from(Kind), _names, _numbers, _numbers, _numbers, _numbers, _numbers, _entries
)
_frames = st.builds(Frame, _names, _names, st.lists(_messages, max_size=3))


def encoded(frame: Frame) -> bytes:
    return encode(frame.sender, frame.receiver, [message.encode() for message in frame.messages])


@given(_frames)
def test_roundtrip(frame: Frame) -> None:
    assert decode(encoded(frame)) == frame


@given(_configs)
def test_config_roundtrip(config: Config) -> None:
    assert Config.decode(config.encode()) == config


@given(st.binary(max_size=400))
def test_random_bytes_are_no_frame(data: bytes) -> None:
    frame = decode(data)

    assert frame is None or encoded(frame) == data


@given(_frames, st.data())
def test_truncated_frame_is_none_or_shorter(frame: Frame, data: st.DataObject) -> None:
    """It may end between two messages: the others are lost, as frames may be."""
    whole = encoded(frame)
    part = decode(whole[: data.draw(st.integers(0, len(whole) - 1))])

    assert part is None or part == Frame(frame.sender, frame.receiver, frame.messages[: len(part.messages)])


@given(_frames, st.data())
def test_flipped_bit_never_raises(frame: Frame, data: st.DataObject) -> None:
    whole = bytearray(encoded(frame))
    at = data.draw(st.integers(0, 8 * len(whole) - 1))
    whole[at // 8] ^= 1 << at % 8
    found = decode(bytes(whole))

    assert found is None or encoded(found) == bytes(whole)


def test_other_versions_are_no_frames() -> None:
    data = encode("a", "b", [])

    assert decode(data) == Frame("a", "b", [])
    assert decode(bytes((data[0] + 1,)) + data[1:]) is None


def test_numbers_that_no_store_takes_are_refused() -> None:
    for message in (
        Message(Kind.APPEND, "g", NUMBER_MAX + 1),
        Message(Kind.APPEND, "g", 1, NUMBER_MAX + 1),
        Message(Kind.APPEND, "g", 1, entries=((NUMBER_MAX + 1, b"\0"),)),
    ):
        assert decode(encode("a", "b", [message.encode()])) is None


def test_entries_of_unknown_kind_are_refused() -> None:
    for command in (b"", b"\2", b"\3x", bytes((CONFIG,)) + b"\0"):
        message = Message(Kind.APPEND, "g", 1, entries=((1, command),))

        assert decode(encode("a", "b", [message.encode()])) is None
