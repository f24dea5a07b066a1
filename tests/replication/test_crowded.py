"""Servers whose stores hold as many streams as they can: others get what is made, or nobody does, and none of them ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.replication.world import World

if TYPE_CHECKING:
    import pytest

    from streamd.streams.stream import Stream
    from tests.replication.world import Server

MANY = {"code": 400, "err_code": 10027, "description": "maximum number of streams reached"}


def create(world: World, name: str, replicas: int = 1, **config: Any) -> Any:
    """What the answer has for an error."""
    body = {"name": name, "subjects": [f"{name}.>"], "num_replicas": replicas, **config}
    return world.ask(f"$JS.API.STREAM.CREATE.{name}", body).get("error")


def on(server: Server) -> list[Stream]:
    """What is stored there."""
    return [stream for stream in server.jetstream.streams.values() if stream.stream_id]


def test_no_more_streams_than_a_store_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Creates, more replicas and other servers are refused; what isn't stored, and what becomes free, is not."""
    monkeypatch.setattr("streamd.limits.STORE_STREAMS_MAX", 4)
    with World(1) as world:
        world.until(world.formed)
        for number in range(12):
            assert create(world, f"N{number}") is None
        assert [len(on(server)) for server in world.running] == [4, 4, 4]
        assert create(world, "MORE") == MANY
        assert create(world, "MORE", 3) == MANY
        assert create(world, "MEMORY", storage="memory") is None
        update = {"name": "N0", "subjects": ["N0.>"], "num_replicas": 3}
        assert world.ask("$JS.API.STREAM.UPDATE.N0", update)["error"] == MANY
        leader = world.until(lambda: world.leader("N0"))
        removed = world.ask("$JS.API.STREAM.PEER.REMOVE.N0", {"peer": leader.name})["error"]
        assert removed["err_code"] == 10005
        assert "maximum number of streams reached" in removed["description"]
        assert world.ask("$JS.API.STREAM.DELETE.N5")["success"] is True
        assert create(world, "MORE") is None
        assert create(world, "MOST") == MANY
        assert not any(server.ended for server in world.running)


def test_others_get_what_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """The logs of groups are in a store as well, and what is moving there."""
    monkeypatch.setattr("streamd.limits.STORE_STREAMS_MAX", 5)
    with World(2, "abcd") as world:
        world.until(world.formed)
        world.create("R", replicas=3)
        names = world.running[0].replication.meta.state.streams["R"].names
        for number in range(14):
            assert create(world, f"N{number}") is None
        assert create(world, "MORE") == MANY
        assert {server.name: len(on(server)) for server in world.running} == {
            server.name: 4 if server.name in names else 5 for server in world.running
        }
