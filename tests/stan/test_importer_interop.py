"""Stores that the real nats-streaming-server writes now, and what it makes of them itself at its next start."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from benchmarks.peer_stan import build
from benchmarks.wire import BenchError
from streamd.stan.importer.errors import ImportRefused
from streamd.stan.importer.records import checksum_of
from streamd.stan.importer.report import report
from streamd.stan.importer.store import Options, read
from tests.stan.compare import differences, limits
from tests.stan.kept import CLUSTER, KEY, in_raft_log, sealed, written
from tests.stan.scenario import STREAMING, until
from tests.stan.stan_peer import Peer, Stan

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.interop


@pytest.fixture(scope="module")
def program() -> Path:
    """The built server."""
    try:
        return build()
    except (BenchError, OSError, subprocess.CalledProcessError) as error:
        pytest.fail(f"nats-streaming-server of benchmarks/stan_peer/go.mod can't be built: {error}")


@pytest.mark.parametrize(
    "settings",
    ["", sealed("AES"), sealed("CHACHA"), CLUSTER, f"{CLUSTER}\n{sealed('AES')}"],
    ids=["plain", "AES", "CHACHA", "clustered", "clustered and AES"],
)
def test_a_fresh_store_is_read_as_its_server_described_it(settings: str, program: Path, tmp_path: Path) -> None:
    kept = written(program, tmp_path, settings)

    store = read(kept.store, Options(encryption_key=KEY, raft_dir=kept.raft, limits=limits))

    assert differences(store, kept.facts) == []


@pytest.mark.parametrize("settings", ["", CLUSTER], ids=["standalone", "clustered"])
def test_a_running_server_is_noticed_and_its_next_start_agrees(settings: str, program: Path, tmp_path: Path) -> None:
    """A durable on a channel with a limit: the second start reads what we read, with the messages that were dropped."""
    settings = f"{STREAMING}\n{settings}"
    with Peer(program, tmp_path, settings) as peer:
        client = Stan(peer.port, "one")
        for number in range(9):
            client.publish("dropped", b"%d" % number)
        durable = client.subscribe("dropped", durable="d")
        assert client.receive(durable, 3) == [7, 8, 9]
        client.ack(durable, 8)
        until(lambda: peer.channel("dropped")["subscriptions"][0]["pending_count"] == 2)
        client.close()
        with pytest.raises(ImportRefused, match="is in use by process"):
            read(peer.store)
    found = read(peer.store, Options(raft_dir=tmp_path / "raft", limits=limits))
    with Peer(program, tmp_path, settings) as peer:
        told = peer.channel("dropped")
        (sub,) = told["subscriptions"]

    (channel,) = found.channels
    (one,) = channel.subscriptions
    assert (channel.count, channel.first_seq, channel.last_seq) == (told["msgs"], told["first_seq"], told["last_seq"])
    assert (one.last_sent, len(one.pending), one.is_offline) == (sub["last_sent"], sub["pending_count"], True)
    assert one.pending == (7, 9)
    assert found.clients == ()


def test_after_a_torn_write_the_server_recovers_what_we_read(program: Path, tmp_path: Path) -> None:
    with Peer(program, tmp_path, "") as peer:
        client = Stan(peer.port, "one")
        for number in range(5):
            client.publish("torn", b"%d" % number)
        client.close()
    data = peer.store / "torn" / "msgs.1.dat"
    data.write_bytes(data.read_bytes()[:-3])
    found = read(peer.store)
    with Peer(program, tmp_path, "", "-file_truncate_bad_eof") as peer:
        told = peer.channel("torn")

    (channel,) = found.channels
    assert (channel.count, channel.last_seq) == (4, 4) == (told["msgs"], told["last_seq"])
    assert "is torn" in " ".join(found.notices)


def test_another_polynomial(program: Path, tmp_path: Path) -> None:
    poly = 0x82F63B78
    with Peer(program, tmp_path, f"file {{ crc_poly: {poly} }}") as peer:
        client = Stan(peer.port, "one")
        client.publish("c", b"checked otherwise")
        client.hang_up()

    (channel,) = report(read(peer.store, Options(crc_poly=poly)))["channels"]
    assert (channel["messages"], channel["last_seq"]) == (1, 1)
    assert checksum_of(poly)(b"123456789") == 0xE3069283


def test_an_active_server_of_a_fault_tolerance_group_is_noticed(program: Path, tmp_path: Path) -> None:
    with Peer(program, tmp_path, 'ft_group: "g"') as peer:
        client = Stan(peer.port, "one")
        client.publish("c", b"x")
        client.hang_up()
        with pytest.raises(ImportRefused, match="an active server of a fault tolerance group has it locked"):
            read(peer.store)

    assert [channel.name for channel in read(peer.store).channels] == ["c"]


def test_a_channel_that_was_deleted_and_created_again_in_a_cluster(program: Path, tmp_path: Path) -> None:
    limits_ = 'store_limits { channels { "short": { max_inactivity: "1s" } } }'
    with Peer(program, tmp_path, f'hb_interval: "10m"\n{limits_}\n{CLUSTER}') as peer:
        client = Stan(peer.port, "one")
        old = client.subscribe("short", durable="old")
        client.publish("short", b"a")
        client.publish("short", b"b")
        client.receive(old, 2)
        client.leave(old, unsubscribe=False)
        until(lambda: 'Channel "short" has been deleted' in peer.log())
        new = client.subscribe("short", durable="new")
        client.publish("short", b"c")
        assert client.receive(new, 1) == [1]
        until(lambda: peer.channel("short")["subscriptions"][0]["last_sent"] == 1)
        client.hang_up()

    (channel,) = read(peer.store, Options(raft_dir=tmp_path / "raft")).channels
    assert [message.data for message in channel.messages()] == [b"c"]
    assert [one.durable_name for one in channel.subscriptions] == ["new"]


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_a_snapshot_is_read(program: Path, tmp_path: Path) -> None:
    """Raft takes one every two to four minutes, if there are more than 8192 entries."""
    with Peer(program, tmp_path, f"{STREAMING}\n{CLUSTER}") as peer:
        one, other = Stan(peer.port, "one"), Stan(peer.port, "other")
        closed = one.subscribe("dropped", durable="closed")
        member = other.subscribe("dropped", durable="d", queue="g")
        open_ended = other.subscribe("dropped", durable="open", max_in_flight=3)
        # An entry is what one batch has for one channel, and a batch takes long.
        channels = [f"filler.{number}" for number in range(90)]
        for number in range(100):
            one.publish_to(channels, b"%d" % number)
        for number in range(6):
            one.publish("dropped", b"%d" % number)
        one.receive(closed, 6)
        one.ack(closed, 1, 2, 3, 5, 6)
        other.receive(member, 6)
        other.receive(open_ended, 3)
        one.leave(closed, unsubscribe=False)
        other.leave(member, unsubscribe=False)
        snapshots = tmp_path / "raft" / "test" / "snapshots"
        until(lambda: one.alive() and other.alive() and any(snapshots.glob("*[0-9]/meta.json")), seconds=600)
        other.ack(open_ended, 2)
        other.receive(open_ended, 1)
        after = one.subscribe("dropped", durable="after")
        one.receive(after, 3)
        last_seqs = {"dropped": 6, **dict.fromkeys(channels, 100)}
        pending = {sub.ack_inbox: sorted(sub.pending) for sub in (open_ended, after)}
        until(lambda: in_raft_log(tmp_path, last_seqs, pending))
        one.hang_up()
        other.hang_up()

    found = read(peer.store, Options(raft_dir=tmp_path / "raft", limits=limits))

    (channel,) = (channel for channel in found.channels if channel.name == "dropped")
    assert {
        one.durable_name or one.queue_group: (one.is_offline, one.last_sent, one.pending)
        for one in channel.subscriptions
    } == {
        "closed": (True, 6, (4,)),
        "d:g": (True, 6, (1, 2, 3, 4, 5, 6)),
        "open": (False, 4, (1, 3, 4)),
        "after": (False, 6, (4, 5, 6)),
    }
    assert {client.id for client in found.clients} == {"one", "other"}
