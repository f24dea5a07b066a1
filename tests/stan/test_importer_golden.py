"""Kept stores of a real server are read as that server itself described them."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from streamd.stan.importer.errors import ImportRefused
from streamd.stan.importer.in_use import refuse_if_changed, state_of
from streamd.stan.importer.report import checksum, report, text
from streamd.stan.importer.sealed import looks_sealed
from streamd.stan.importer.store import Options, read
from tests.stan.compare import differences, limits
from tests.stan.kept import KEY, Kept, unpack

if TYPE_CHECKING:
    from pathlib import Path


def options(kept: Kept, name: str, **given: Any) -> Options:
    """What has to be known to read a kept store."""
    if name == "sealed":
        given.setdefault("encryption_key", KEY)
    if name == "clustered":
        given.setdefault("raft_dir", kept.raft)
    return Options(**given)


@pytest.mark.parametrize("name", ["standalone", "sealed", "clustered"])
def test_a_store_is_read_as_its_server_described_it(name: str, tmp_path: Path) -> None:
    kept = unpack(name, tmp_path)

    store = read(kept.store, options(kept, name, limits=limits))

    assert differences(store, kept.facts) == []
    assert (store.cluster_id, store.node_id) == ("test", "a" if name == "clustered" else "")
    assert {client.conn_id for client in store.clients} == {b"conn-alpha", b"conn-beta"}
    assert {(one.protocol, one.ping_interval, one.ping_max_out) for one in store.clients} == {(1, 5, 3)}


def test_without_limits_what_they_had_dropped_is_read_from_the_files(tmp_path: Path) -> None:
    kept = unpack("standalone", tmp_path)

    channels = {channel.name: channel for channel in read(kept.store).channels}

    dropped = [message.sequence for message in channels["dropped"].messages()]
    assert dropped == list(range(dropped[0], 11))
    assert len(dropped) > 3
    assert (channels["expired"].first_seq, channels["expired"].last_seq) == (5, 5)


def test_reading_leaves_the_directory_as_it_is(tmp_path: Path) -> None:
    kept = unpack("clustered", tmp_path)
    for parent, directories, files in os.walk(tmp_path):
        for one in (*directories, *files):
            os.chmod(os.path.join(parent, one), 0o500)
    before = state_of(tmp_path)

    report(read(kept.store, options(kept, "clustered")))

    assert before
    refuse_if_changed(tmp_path, before)


@pytest.mark.parametrize(
    ("key", "text"), [(None, "name the key with --encryption-key"), ("wrong", "the key does not fit")]
)
def test_a_sealed_store_needs_its_key(key: str | None, text: str, tmp_path: Path) -> None:
    kept = unpack("sealed", tmp_path)

    with pytest.raises(ImportRefused, match=text):
        report(read(kept.store, options(kept, "sealed", encryption_key=key)))


def test_an_empty_key_takes_everything_as_it_is(tmp_path: Path) -> None:
    kept = unpack("sealed", tmp_path)

    store = read(kept.store, options(kept, "sealed", encryption_key=""))

    orders = next(channel for channel in store.channels if channel.name == "orders")
    assert {message.data[0] for message in orders.messages()} == {2}


def test_a_key_does_no_harm_to_a_plain_store(tmp_path: Path) -> None:
    kept = unpack("standalone", tmp_path)

    store = read(kept.store, options(kept, "standalone", encryption_key=KEY, limits=limits))

    assert differences(store, kept.facts) == []


def test_the_raft_files_are_found_where_they_usually_are(tmp_path: Path) -> None:
    kept = unpack("clustered", tmp_path)
    (tmp_path / "test").mkdir()
    kept.raft.rename(tmp_path / "test" / "a")

    assert differences(read(kept.store, Options(limits=limits)), kept.facts) == []


def test_a_clustered_store_without_its_raft_files_is_refused(tmp_path: Path) -> None:
    kept = unpack("clustered", tmp_path)

    with pytest.raises(ImportRefused, match=r"node a of a cluster.*name the cluster's log_path with --raft-dir"):
        read(kept.store)


def test_a_raft_directory_of_a_server_that_was_not_clustered_is_told(tmp_path: Path) -> None:
    kept = unpack("standalone", tmp_path)

    (notice,) = read(kept.store, Options(raft_dir=tmp_path)).notices
    assert notice == f"{tmp_path} is not read: this server was not clustered"


def test_a_queue_group_has_the_position_of_its_furthest_member(tmp_path: Path) -> None:
    (channel,) = (one for one in read(unpack("standalone", tmp_path).store).channels if one.name == "orders")
    members = [replace(channel.subscriptions[0], queue_group="g", last_sent=sent) for sent in (3, 7)]

    grouped = replace(channel, subscriptions=(*members, replace(members[0], queue_group="", last_sent=9)))

    assert [grouped.position(one) for one in grouped.subscriptions] == [7, 7, 9]


def test_the_report_counts_what_there_is(tmp_path: Path) -> None:
    kept = unpack("standalone", tmp_path)
    store = read(kept.store, Options(limits=limits))

    found = report(store)

    orders = next(channel for channel in found["channels"] if channel["name"] == "orders")
    (data,) = (channel for channel in store.channels if channel.name == "orders")
    assert orders["checksum"] == checksum(data.messages())
    assert checksum(list(data.messages())[1:]) != orders["checksum"]
    totals = {"messages": 17, "missing": 0, "data_bytes": 588, "clients": 2, "channels": 6, "subscriptions": 12}
    assert totals.items() <= found["totals"].items()
    shown = text(found)
    assert "    durable online of alpha, online: last sent 7, 5 pending (2, 4, 5, 6, 7)\n" in shown
    assert "    no messages, the next one is 6\n" in shown
    assert "    no messages, none was ever stored\n" in shown


@pytest.mark.parametrize(
    ("data", "sealed"),
    [
        (b"\x01rand" + (7).to_bytes(8, "big") + bytes(17), True),
        (b"\x02rand" + (7).to_bytes(8, "big") + bytes(17), True),
        (b"\x03rand" + (7).to_bytes(8, "big") + bytes(17), False),
        (b"\x01rand" + (7).to_bytes(8, "big") + bytes(15), False),
        (b"\x01rand" + (0).to_bytes(8, "big") + bytes(17), False),
        (b"\x01rand" + (5000).to_bytes(8, "big") + bytes(17), False),
        (b"\x01 begins like it, and is a text of some length", False),
        (b"", False),
    ],
)
def test_what_looks_encrypted(data: bytes, sealed: bool) -> None:
    assert looks_sealed(data, 7) is sealed
