"""A server whose store is damaged: what can be healed is fetched from others, and nobody leads with it or votes by it."""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING

import pytest

from streamd._engine import CorruptRecord
from streamd.errors import StoreCorrupt
from streamd.raft.config import Config
from streamd.raft.errors import JournalDamaged
from streamd.store import layout, pages
from streamd.store.directory import DATA_FILE
from streamd.streams.replication import ops
from tests.replication.test_rejoin import filled, victim, whole
from tests.replication.world import World

if TYPE_CHECKING:
    from streamd.streams.replication.replica import Replica
    from tests.replication.world import Server


def spoil(server: Server, text: bytes) -> None:
    """Flip a bit of every place in a stopped server's data file that holds a text; some are not in use any more."""
    path = server.disk.directory / DATA_FILE
    data = path.read_bytes()
    assert text in data
    path.write_bytes(data.replace(text, text[:-1] + bytes([text[-1] ^ 4])))


def spoil_page(server: Server, text: bytes) -> None:
    """Spoil the page of the data file that holds a text, so that LMDB can't walk it."""
    path = server.disk.directory / DATA_FILE
    whole, at = path.read_bytes(), -1
    while (at := whole.find(text, at + 1)) >= 0:
        data = bytearray(whole)
        data[at // 4096 * 4096 + 10] ^= 4
        path.write_bytes(data)
        with contextlib.suppress(StoreCorrupt):  # a page that had it once, and is used for more than a stream now
            if pages.verify(server.disk.directory, path):
                return
    path.write_bytes(whole)
    raise AssertionError("no page in use holds that")


def settled(server: Server) -> None:
    """Everything is in the data file."""
    server.replication.close()
    server.jetstream.close()
    server.kill()


@pytest.mark.parametrize("page", [False, True])
@pytest.mark.parametrize("role", ["group leader", "neither"])
def test_damaged_stream_is_fetched_anew(caplog: pytest.LogCaptureFixture, role: str, page: bool) -> None:
    """Its identity and all other streams stay; while it isn't whole it doesn't lead the group."""
    with World(3) as world:
        acked = filled(world)
        server = victim(world, role)
        before = server.replication.net.node
        stream = server.stream("S")
        assert stream is not None
        record = stream.log.get(7)
        assert record is not None
        settled(server)
        (spoil_page if page else spoil)(server, record)
        acked["S"] += world.store("S", 10)
        with caplog.at_level(logging.INFO):
            server.start()
            if not page:
                # A record is only looked at when somebody reads it.
                found = server.stream("S")
                assert found is not None
                with pytest.raises(CorruptRecord) as raised:
                    found.get(7)
                found.damaged(raised.value)
            damaged = [each for each in server.jetstream.streams.values() if each.offline is not None]
            assert [each.name for each in damaged] == ["S"]
            assert damaged[0].replica is not None
            damaged[0].replica.heal()
            assert not damaged[0].replica.group.replica.may_campaign
            whole(world, acked)
        assert server.replication.net.node == before
        assert not server.aside()
        assert "offline" in caplog.text
        assert "fetching the state of group" in caplog.text
        settled(server)
        server.start()
        assert all(stream.offline is None for stream in server.jetstream.streams.values())
        whole(world, acked)


@pytest.mark.parametrize("leads", [True, False])
def test_damage_found_while_serving(leads: bool) -> None:
    """A leader that finds out hands over; then it is as with any other."""
    with World(4) as world:
        acked = filled(world)
        server = victim(world, "group leader" if leads else "neither")
        stream = server.stream("S")
        assert stream is not None
        stream.go_offline("somebody says so")
        acked["S"] += world.store("S", 10)
        whole(world, acked)
        healed = server.stream("S")
        assert healed is not stream
        world.run(5)
        assert world.leader("S") is not None


def test_without_a_healthy_replica_it_stays_offline() -> None:
    """Nothing is deleted, and deleting it is the way out for the others of its group."""
    with World(5) as world:
        filled(world)
        for server in world.running:
            stream = server.stream("S")
            assert stream is not None
            stream.go_offline("somebody says so")
        world.run(10)
        assert world.leader("S") is None
        for server in world.running:
            stream = server.stream("S")
            assert stream is not None
            assert stream.offline == "somebody says so"
            assert len(world.content(server, "S")) == 20
        answer = world.ask("$JS.API.STREAM.INFO.S")
        assert answer["error"]["code"] == 503
        assert world.ask("$JS.API.STREAM.DELETE.S") is not None
        world.until(lambda: not any(server.stream("S") for server in world.running))
        world.create("S")
        world.store("S", 2)


def test_damaged_shelf_is_fetched_anew() -> None:
    """What NATS Streaming keeps of its clients is a shelf: it is healed as streams are."""
    with World(6, streaming=True) as world:
        world.until(world.formed)

        def replicas() -> list[Replica]:
            found = [server.replication.replicas.get("STAN") for server in world.running]
            return [each for each in found if each is not None]

        leader = world.until(lambda: next((each for each in replicas() if each.leading), None))
        uid = ops.FIRST_OWN_UID
        about = {"name": "clients", "service": "clients", "group": "STAN", "uid": uid}
        leader.proposals.alone(ops.defined(ops.OPEN, uid, about), lambda _result, _error: None)
        world.until(lambda: len(replicas()) == 3 and all(uid in each.owners for each in replicas()))
        leader.owners[uid].put(1, {"client": "needle"}, lambda _error: None)
        world.until(lambda: all(each.owners[uid].rows for each in replicas()))
        rows = dict(leader.owners[uid].rows)
        server = next(each for each in world.running if not each.replication.replicas["STAN"].leading)
        key = layout.key(layout.CONSUMER, server.replication.replicas["STAN"].owners[uid].stream_id, 1)
        settled(server)
        spoil(server, layout.seal(key, rows[1][0]))  # the row itself, and not the entry that brought it
        server.start()
        replica = server.replication.replicas["STAN"]
        assert replica.damaged
        world.until(lambda: not replica.damaged and replica.owners[uid].rows == rows)
        assert not server.aside()
        settled(server)
        server.start()
        assert server.replication.replicas["STAN"].owners[uid].rows == rows


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("what", ["definitions", "identity", "entry", "configuration"])
def test_store_with_damaged_journal_is_set_aside(caplog: pytest.LogCaptureFixture, seed: int, what: str) -> None:
    """The server comes back as another incarnation, and says what it lost: streams that were only there."""
    with World(seed) as world:
        acked = filled(world)
        world.create("ALONE", replicas=1)
        server = world.leader("ALONE")
        assert server is not None
        before = server.replication.net.node
        meta = server.replication.meta
        texts = {
            "definitions": b'"service": "raft"',
            "identity": b'"node": "' + before.encode(),
            "entry": server.jetstream.stored_log(meta.journal_id, None).get(meta.applied),
            "configuration": Config(meta.group.config.voters).encode(),
        }
        text = texts[what]
        assert text is not None
        settled(server)
        spoil(server, text)
        with caplog.at_level(logging.INFO):
            server.start()
            for name in acked:
                acked[name] += world.store(name, 5)
            whole(world, acked)
        assert server.replication.net.node != before
        assert len(server.aside()) == 1
        assert (server.aside()[0] / DATA_FILE).exists()
        assert "it is set aside as" in caplog.text
        assert "ALONE" in caplog.text or "can't be read which" in caplog.text


def test_whole_store_refused() -> None:
    """The same for damage that can't be confined."""
    with World(7) as world:
        acked = filled(world)
        server = victim(world, "meta leader")
        settled(server)
        with (server.disk.directory / DATA_FILE).open("r+b") as file:
            file.write(bytes(8192))
        server.start()
        assert len(server.aside()) == 1
        whole(world, acked)


def test_set_aside_twice_in_a_second() -> None:
    """Neither is lost."""
    with World(8) as world:
        acked = filled(world)
        server = victim(world, "neither")
        for _ in range(2):
            server.kill()
            (server.disk.directory / DATA_FILE).write_bytes(b"nothing of use")
            server.start()
        assert len(server.aside()) == 2
        whole(world, acked)


def test_damaged_server_never_founds() -> None:
    """Two servers that have nothing and one that lost what it had are no new cluster, also after a restart."""
    with World(9) as world:
        filled(world)
        damaged, *others = world.servers.values()
        damaged.kill()
        (damaged.disk.directory / DATA_FILE).write_bytes(b"nothing of use")
        for server in others:
            server.wipe()
        for server in world.servers.values():
            server.start()
        world.run(10)
        damaged.kill()
        damaged.start()
        world.run(10)
        assert damaged.jetstream.must_join
        assert not any(server.replication.joined for server in world.running)


def test_server_without_a_cluster_refuses() -> None:
    """Its store is the only one there is."""
    with World(10, "a") as world:
        world.until(world.formed)
        (server,) = world.servers.values()
        meta = server.replication.meta
        entry = server.jetstream.stored_log(meta.journal_id, None).get(meta.applied)
        assert entry is not None
        settled(server)
        spoil(server, entry)
        with pytest.raises(StoreCorrupt, match="is damaged"):
            server.make(server.disk.directory, clustered=False)


def test_journal_damaged_while_it_runs() -> None:
    """The server ends, and the next process sets the store aside."""
    with World(11, tail_bytes=1 << 20) as world:
        acked = filled(world)
        server = victim(world, "group leader")
        group = next(replica.group for replica in server.replication.replicas.values() if replica.leading)
        group.fail(JournalDamaged(group.name, "somebody says so"))
        for name in acked:
            acked[name] += world.store(name, 5)
        world.until(lambda: server.runs)
        assert "somebody says so" in server.ended[0]
        whole(world, acked)
