"""Snapshots and log entries of a clustered server, in the cases that a short run of a real one does not give."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

import pytest

from streamd.stan.importer import raft
from streamd.stan.importer.errors import ImportRefused
from streamd.stan.importer.replay import (
    CLOSE,
    CONNECT,
    DELETE_CHANNEL,
    DISCONNECT,
    PUBLISH,
    SENT_AND_ACKED,
    SUBSCRIBE,
    UNSUBSCRIBE,
    Ahead,
    Replay,
)
from streamd.stan.importer.slices import Extent
from streamd.stan.importer.wire import Message
from tests.stan.kept import unpack
from tests.stan.stan_peer import Value, encode, varint

if TYPE_CHECKING:
    from pathlib import Path

SEQUENCE_START = 3


def replay(ids: dict[str, int] | None = None, **last: int) -> Replay:
    """Channels with files, and their last sequence."""
    return Replay({name: Extent(1, end, end, 0) for name, end in last.items()}, ids or {}, print)


def apply(machine: Replay, kind: int, **fields: Value) -> None:
    """One operation; fields are named f and their number."""
    numbered: dict[int, Value] = {int(name[1:]): value for name, value in fields.items()}
    machine.apply(Message(encode({1: kind, **numbered})))


def connect(machine: Replay, client: str, *, refresh: int = 0, inbox: str = "hb") -> None:
    apply(machine, CONNECT, f7=encode({1: encode({1: client, 2: inbox, 4: b"id"}), 2: refresh}))


def subscribe(
    machine: Replay, client: str, number: int, *, group: str = "", durable: str = "", start: int = 1, channel: int = 0
) -> None:
    """Under the ack inbox ack.NUMBER, to channel c."""
    request: dict[int, Value] = {1: client, 2: "c", 3: group, 4: f"in.{number}", 5: 10, 6: 30, 7: durable}
    request |= {10: SEQUENCE_START, 11: start}
    apply(machine, SUBSCRIBE, f3=encode({1: encode(request), 2: f"ack.{number}", 3: number}), f10=channel)


def report(machine: Replay, number: int, sent: list[int], acked: list[int] | None = None) -> None:
    packed = [b"".join(varint(one) for one in some or []) for some in (sent, acked)]
    apply(machine, SENT_AND_ACKED, f5=encode({1: "c", 2: f"ack.{number}", 3: packed[0], 4: packed[1]}))


def leave(machine: Replay, kind: int, client: str, number: int) -> None:
    apply(machine, kind, f4=encode({1: client, 2: "c", 3: f"ack.{number}"}))


def positions(machine: Replay) -> list[tuple[str, str, int, tuple[int, ...]]]:
    return [
        (one.durable_name or one.queue_group, one.client_id, one.last_sent, one.pending)
        for one in machine.subscriptions("c")
    ]


def test_a_client_that_comes_again_replaces_itself_and_suspends_its_durables() -> None:
    machine = replay(c=9)
    connect(machine, "a", inbox="old")
    subscribe(machine, "a", 1, durable="d")
    subscribe(machine, "a", 2)
    report(machine, 1, [1, 2, 3], [2])
    connect(machine, "a", inbox="ignored")
    assert machine.clients["a"].hb_inbox == "old"
    connect(machine, "a", inbox="new", refresh=1)

    assert machine.clients["a"].hb_inbox == "new"
    assert positions(machine) == [("d", "a", 3, (1, 3))]
    assert machine.subscriptions("c")[0].is_closed

    subscribe(machine, "a", 3, durable="d", start=9)
    report(machine, 3, [4], [1])
    assert positions(machine) == [("d", "a", 4, (3, 4))]
    assert machine.subscriptions("c")[0].is_offline is False
    subscribe(machine, "a", 4, durable="d")
    assert len(machine.subscriptions("c")) == 1


def test_start_positions_are_those_of_the_channel() -> None:
    machine = replay(c=5)
    connect(machine, "a")
    for number, start in enumerate((0, 1, 3, 6, 99), 1):
        subscribe(machine, "a", number, start=start)

    assert [one.last_sent for one in machine.subscriptions("c")] == [0, 0, 2, 5, 5]


def test_a_queue_group_keeps_its_position_when_members_leave() -> None:
    machine = replay(c=9)
    connect(machine, "a")
    connect(machine, "b")
    subscribe(machine, "a", 1, group="g", durable="d")
    subscribe(machine, "b", 2, group="g", durable="d")
    report(machine, 1, [1, 2])
    report(machine, 2, [3])
    leave(machine, CLOSE, "b", 2)
    assert positions(machine) == [("d:g", "a", 3, (1, 2))]

    report(machine, 1, [3], [1])
    apply(machine, DISCONNECT, f8=encode({1: "a"}))
    assert positions(machine) == [("d:g", "", 3, (2, 3))]
    assert machine.subscriptions("c")[0].is_shadow

    subscribe(machine, "b", 4, group="g", durable="d")
    assert positions(machine) == [("d:g", "b", 3, (2, 3))]
    leave(machine, UNSUBSCRIBE, "b", 4)
    assert positions(machine) == []


def test_a_plain_group_ends_with_its_last_member() -> None:
    machine = replay(c=9)
    connect(machine, "a")
    subscribe(machine, "a", 1, group="g")
    report(machine, 1, [1, 2])
    leave(machine, CLOSE, "a", 1)
    subscribe(machine, "a", 2, group="g", start=5)

    assert positions(machine) == [("g", "a", 4, ())]


def test_strangers_change_nothing() -> None:
    machine = replay(c=9)
    subscribe(machine, "nobody", 1)
    leave(machine, CLOSE, "nobody", 1)
    report(machine, 1, [1])
    apply(machine, DISCONNECT, f8=encode({1: "nobody"}))
    apply(machine, DELETE_CHANNEL, f9="unknown", f10=1)

    assert positions(machine) == []
    machine.finish()


def test_entries_of_a_deleted_channel_say_nothing_of_its_successor() -> None:
    machine = replay({"c": 7}, c=2)
    connect(machine, "a")
    apply(machine, PUBLISH, f2=encode({1: encode({1: 50, 2: "c"})}), f10=3)
    subscribe(machine, "a", 1, channel=3)
    apply(machine, DELETE_CHANNEL, f9="c", f10=3)
    apply(machine, PUBLISH, f2=encode({1: encode({1: 2, 2: "c"})}), f10=7)
    apply(machine, PUBLISH, f2=encode({1: encode({1: 1, 2: "gone"})}), f10=1)
    apply(machine, DELETE_CHANNEL, f9="gone", f10=1)

    assert positions(machine) == []
    machine.finish()


@pytest.mark.parametrize(
    ("kind", "fields", "text"),
    [
        (PUBLISH, {2: encode({1: encode({1: 3, 2: "c"})}), 10: 7}, "message 3 of channel c"),
        (PUBLISH, {2: encode({1: encode({1: 1, 2: "c"})}), 10: 8}, "the replacement of channel c"),
        (PUBLISH, {2: encode({1: encode({1: 1, 2: "new"})}), 10: 8}, "the creation of channel new"),
        (DELETE_CHANNEL, {9: "c", 10: 7}, "the deletion of channel c"),
    ],
)
def test_a_log_ahead_of_the_store_is_noticed(kind: int, fields: dict[int, Value], text: str) -> None:
    machine = replay({"c": 7}, c=2)

    def run() -> None:
        machine.apply(Message(encode({1: kind, **fields})))
        machine.finish()

    with pytest.raises(Ahead, match=text):
        run()


def test_an_unknown_operation_is_an_error() -> None:
    with pytest.raises(ValueError, match="operation type 5"):
        apply(replay(), 5)


STATES: list[dict[int, Value]] = [
    {1: 1, 2: "a", 4: "in.1", 5: "ack.1", 6: 5, 7: 30, 8: "on", 9: 4, 10: 1},
    {1: 2, 2: "z", 5: "ack.2", 8: "off", 9: 3, 10: 1, 11: 1},
    {1: 3, 3: "d:g", 5: "ack.3", 9: 5, 10: 1},
    {1: 4, 2: "z", 3: "d:h", 5: "ack.4", 9: 5, 10: 1},
    {1: 5, 2: "z", 5: "ack.5"},
]


def snapshot(last: int = 5) -> bytes:
    """A RaftSnapshot: client a; channel c with id 7 and the states above, of which each has 2 and 3 pending."""
    subs = b"".join(encode({4: encode({1: encode(state), 2: b"\x02\x03"})}) for state in STATES)
    channel = encode({1: "c", 2: 1, 3: last}) + subs + encode({6: 7})
    gone = encode({1: "gone", 2: 1, 3: 9, 6: 6})
    return encode({1: encode({1: "a", 2: "hb"})}) + encode({2: channel}) + encode({2: gone})


def test_a_snapshot_is_where_the_log_goes_on() -> None:
    machine = replay({"c": 7}, c=5)
    machine.restore(Message(snapshot()))
    # A member of a durable queue group, and a plain subscription, without their client are not taken up.
    expected = [("on", "a", 4, (2, 3)), ("off", "z", 3, (2, 3)), ("d:g", "", 5, (2, 3))]
    assert positions(machine) == expected

    report(machine, 1, [5], [2])
    subscribe(machine, "a", 9, group="g", durable="d")
    assert positions(machine) == [("on", "a", 5, (3, 5)), expected[1], ("d:g", "a", 5, (2, 3))]


def test_a_snapshot_ahead_of_the_store_is_noticed() -> None:
    with pytest.raises(Ahead, match="message 6 of channel c"):
        replay({"c": 7}, c=5).restore(Message(snapshot(6)))


def test_a_snapshot_knows_where_an_expired_channel_goes_on() -> None:
    """A member that joined after all messages had expired has no files with messages."""
    machine = replay({"c": 7}, c=0)
    machine.restore(Message(encode({2: encode({1: "c", 2: 6, 3: 5, 6: 7})})))

    assert machine.extent("c", Extent(0, 0, 0, 0)) == Extent(6, 5, 0, 0)
    assert replay(c=5).extent("c", Extent(3, 5, 3, 9)) == Extent(3, 5, 3, 9)


def place_snapshot(directory: Path, name: str, state: bytes, index: int) -> Path:
    """A snapshot as Raft keeps it."""
    home = directory / "snapshots" / name
    home.mkdir(parents=True)
    content = len(state).to_bytes(4, "little") + state
    (home / "state.bin").write_bytes(content)
    crc = base64.b64encode(raft.crc64(content).to_bytes(8, "big")).decode()
    (home / "meta.json").write_text(json.dumps({"Version": 1, "Term": 2, "Index": index, "CRC": crc}))
    return home


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """The directory of a real raft.log, whose channels have no files here."""
    return unpack("clustered", tmp_path).raft / "test"


def test_the_newest_snapshot_counts_and_the_log_is_read_behind_it(log: Path) -> None:
    place_snapshot(log, "2-9-1", snapshot(), 9)
    place_snapshot(log, "2-500-2", snapshot(), 500)
    place_snapshot(log, "2-900-3.tmp", b"", 900)

    found = raft.read(log, {"c": Extent(1, 5, 5, 0)}, None, print)

    assert list(found.clients) == ["a"]
    assert [one.id for one in found.subscriptions("c")] == [1, 2, 3]


def test_a_damaged_snapshot_is_refused(log: Path) -> None:
    home = place_snapshot(log, "2-500-2", snapshot(), 500)
    (home / "state.bin").write_bytes((home / "state.bin").read_bytes()[:-1])

    with pytest.raises(ImportRefused, match=r"state.bin is damaged .*import the directory of another node"):
        raft.read(log, {}, None, print)


def test_a_damaged_meta_file_is_refused(log: Path) -> None:
    home = place_snapshot(log, "2-500-2", snapshot(), 500)
    (home / "meta.json").write_text("{}")

    with pytest.raises(ImportRefused, match=r"meta.json is damaged"):
        raft.read(log, {}, None, print)


def test_a_log_whose_store_is_behind_is_refused_with_the_way_out(log: Path) -> None:
    with pytest.raises(
        ImportRefused, match=r"raft.log has entries that never reached the store .*start this cluster once more"
    ):
        raft.read(log, {}, None, print)


@pytest.mark.parametrize("content", [b"", b"not a database" * 10000])
def test_what_is_no_raft_log_is_refused(log: Path, content: bytes) -> None:
    (log / "raft.log").write_bytes(content)

    with pytest.raises(ImportRefused, match=r"raft.log can't be read as a Raft log"):
        raft.read(log, {}, None, print)
