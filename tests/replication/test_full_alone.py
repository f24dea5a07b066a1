"""A stream on one server alone, whose disk has no room for what the cluster wants of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

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


def test_full_when_it_is_to_be_made() -> None:
    """Who asked is told; it is tried again at every look, not all the time, and made once there is room."""
    with World(1) as world:
        world.until(world.formed)
        asked = {server.name: full_at(server, "create_stream") for server in world.running}
        answer = world.ask(f"{CREATE}ALONE", {"name": "ALONE", "subjects": ["ALONE.>"], "num_replicas": 1})
        assert answer["error"]["err_code"] == 10047
        (server,) = [server for server in world.running if server.disk.full]
        world.run(12)
        assert 2 <= len(asked[server.name]) <= 4
        room(server, "create_stream")
        world.until(lambda: world.leader("ALONE") is server, what="the stream to be made")
        assert len(world.store("ALONE", 3)) == 3


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
