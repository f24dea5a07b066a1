"""A stream on one server alone, whose disk has no room for what the cluster wants of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from streamd.streams.replication.placing import Placing
from tests.replication.world import World

if TYPE_CHECKING:
    from tests.replication.world import Server

CREATE, UPDATE = "$JS.API.STREAM.CREATE.", "$JS.API.STREAM.UPDATE."


def full_at(server: Server, method: str) -> list[None]:
    """The disk has no room from the time on at which JetStream is asked for something; returns a list as long as it was asked
    often."""
    call, asked = getattr(server.jetstream, method), list[None]()

    def called(*args: object, **options: object) -> None:
        server.disk.full = True
        asked.append(None)
        call(*args, **options)

    setattr(server.jetstream, method, called)
    return asked


def room(server: Server, method: str) -> None:
    """There is room again."""
    delattr(server.jetstream, method)
    server.disk.full = False


def ask(world: World, name: str, replicas: int = 1) -> Any:
    """Ask for a stream."""
    return world.ask(f"{CREATE}{name}", {"name": name, "subjects": [f"{name}.>"], "num_replicas": replicas})


def nowhere(world: World, name: str) -> None:
    """No server with room knows of a stream, or has it."""
    roomy = [server for server in world.running if not server.disk.full]
    world.until(lambda: all(name not in server.replication.meta.state.streams for server in roomy), what="it to go")
    assert all(server.stream(name) is None for server in world.running)


def next_one(world: World) -> Server:
    """The server that the next stream without replicas is placed on."""
    leader = world.meta_leader()
    assert leader is not None
    state = leader.replication.meta.state
    return world.servers[state.candidates({*world.servers}, "", ())[0]]


def test_full_when_it_is_to_be_made() -> None:
    """Who asked is told, and the cluster knows of no such stream: once there is room it can be made."""
    with World(1) as world:
        world.until(world.formed)
        asked = {server.name: full_at(server, "create_stream") for server in world.running}
        assert ask(world, "ALONE")["error"]["err_code"] == 10047
        (server,) = [server for server in world.running if server.disk.full]
        world.run(12)
        assert len(asked[server.name]) == 1
        nowhere(world, "ALONE")
        for each in world.running:
            room(each, "create_stream")
        world.until(lambda: not server.replication.standing.full, what="room to be found")
        nowhere(world, "ALONE")
        world.create("ALONE", replicas=1)
        assert len(world.store("ALONE", 3)) == 3


@pytest.mark.parametrize("seed", range(2))
def test_full_once_it_is_made(seed: int) -> None:
    """It stays: who asked has been told that it is there."""
    with World(seed) as world:
        world.until(world.formed)
        server = next_one(world)
        world.create("ALONE", replicas=1)
        acked = world.store("ALONE", 3)
        server.disk.full = True
        assert world.ask("ALONE.x", b"", at=server)["error"]["err_code"] == 10047
        world.until(lambda: server.replication.standing.full, what="the full disk to be found")
        world.run(5)
        server.disk.full = False
        acked += world.store("ALONE", 3)
        world.until(lambda: world.leader("ALONE") is server, what="the stream")
        assert world.payloads(server, "ALONE") == acked


def test_full_when_it_is_to_be_made_and_nobody_leads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asked is told by the server itself; it is tried again at every look, not all the time, and made at last."""
    with World(1) as world:
        world.until(world.formed)
        server = next_one(world)
        asked = full_at(server, "create_stream")
        monkeypatch.setattr(Placing, "failed", lambda _self, _wanted, _error, done: done(False))
        monkeypatch.setattr(Placing, "look", lambda _self: None)
        assert ask(world, "ALONE")["error"]["err_code"] == 10047
        world.run(12)
        assert 2 <= len(asked) <= 4
        room(server, "create_stream")
        world.until(lambda: world.leader("ALONE") is server, what="the stream to be made")


@pytest.mark.parametrize("leads", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_full_when_it_is_placed(seed: int, leads: bool) -> None:
    """The server has no room even for the news that it is to have a stream: who asked is told that, and it is placed elsewhere
    when asked for again."""
    with World(seed) as world:
        world.until(world.formed)
        for number in range(3):
            if next_one(world).meta == leads:
                break
            world.create(f"N{number}", replicas=1)
        server = next_one(world)
        assert server.meta == leads
        server.disk.full = True
        answer = ask(world, "ALONE")
        # A leader with a full disk doesn't know what becomes of what it was about to write down.
        assert answer["error"]["err_code"] in ((10047, 10008) if leads else (10047,))
        world.until(world.meta_leader)
        world.run(1)
        nowhere(world, "ALONE")
        world.create("ALONE", replicas=1)
        assert world.leader("ALONE") is not server
        server.disk.full = False
        world.until(lambda: not server.replication.standing.full, what="room to be found")
        world.run(2)
        assert server.stream("ALONE") is None


@pytest.mark.parametrize("seed", range(2))
def test_known_to_be_full(seed: int) -> None:
    """Streams are placed where there is room, and where a quorum has some; once there is room everywhere, there again."""
    with World(seed) as world:
        world.until(world.formed)
        first = next_one(world)
        first.disk.full = True
        for number in range(4):
            world.create(f"N{number}", replicas=1) if number else ask(world, "N")
            world.until(lambda: first.replication.standing.full, what="the full disk to be found")
            world.until(world.meta_leader)
        assert not any(first.stream(f"N{number}") for number in range(4))
        world.create("R", replicas=3)
        first.disk.full = False
        world.until(lambda: not first.replication.standing.full, what="room to be found")
        world.run(2)
        assert next_one(world) is first
        world.create("BACK", replicas=1)
        assert world.leader("BACK") is first


def test_full_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asks is told where there is no room."""
    with World(1) as world:
        world.until(world.formed)
        for server in world.running:
            monkeypatch.setattr(server.replication.placing, "full", lambda: {*"bc"})
        world.create("ONE", replicas=1)
        assert world.leader("ONE") is world.servers["a"]
        error = ask(world, "THREE", replicas=3)["error"]
        assert error["err_code"] == 10005
        assert error["description"].endswith("3 of 3 servers fit and can be reached, without room: b, c")


def test_full_when_it_is_to_be_changed() -> None:
    """The change is taken on once there is room."""
    with World(2) as world:
        world.until(world.formed)
        world.create("ALONE", replicas=1)
        server = world.leader("ALONE")
        assert server is not None
        asked = full_at(server, "update_stream")
        body = {"name": "ALONE", "subjects": ["ALONE.>"], "num_replicas": 1, "max_msgs": 7}
        assert world.ask(f"{UPDATE}ALONE", body)["error"]["err_code"] == 10047
        stream = server.stream("ALONE")
        assert stream is not None
        world.run(12)
        assert stream.config.max_msgs == -1
        assert 2 <= len(asked) <= 4
        room(server, "update_stream")
        world.until(lambda: stream.config.max_msgs == 7, what="the change")
        acked = world.store("ALONE", 10)
        server.kill()
        server.start()
        world.until(lambda: world.leader("ALONE") is server, what="the stream")
        assert world.payloads(server, "ALONE") == acked[-7:]
