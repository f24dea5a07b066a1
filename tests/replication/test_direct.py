"""Direct gets of a stream that isn't whole on some server: others answer, and that one is no member of their queue group."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamd.streams.stream import Stream
from tests.replication.test_interrupted import BIG, COUNT, fetched_in_part, moved, moved_in_part
from tests.replication.test_rejoin import filled, victim, whole
from tests.replication.test_twins import hold_fetches
from tests.replication.world import World

if TYPE_CHECKING:
    import pytest

    from tests.replication.world import Server


def answers(world: World, server: Server, name: str) -> bool:
    """Whether a server answers a direct get of what was said."""
    answer = world.ask(f"$JS.API.DIRECT.GET.{name}", {"last_by_subj": f"{name}.said"}, at=server, seconds=0.05)
    assert answer in (None, {"last": 1})
    return answer is not None


def say(world: World, name: str, acked: dict[str, list[bytes]]) -> None:
    """Publish something that can be read as an answer."""
    assert "error" not in world.ask(f"{name}.said", b'{"last": 1}', at=world.leader(name))
    acked[name].append(b'{"last": 1}')


def test_damaged_replica(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until it has been fetched anew."""
    with World(1) as world:
        acked = filled(world)
        say(world, "S", acked)
        whole(world, acked)
        server = victim(world, "neither")
        stream = server.stream("S")
        assert stream is not None
        release = hold_fetches(server, monkeypatch)
        assert answers(world, server, "S")
        stream.go_offline("somebody says so")
        assert not answers(world, server, "S")
        release()
        whole(world, acked)
        assert server.stream("S") is not stream
        assert all(answers(world, each, "S") for each in world.running)


def test_replica_that_is_being_fetched() -> None:
    """Also right after a start."""
    with World(1, tail_bytes=1 << 20) as world:
        server, acked = fetched_in_part(world)
        say(world, "S", acked)
        server.start()
        stream = server.stream("S")
        assert stream is not None
        assert stream.fetching
        assert not answers(world, server, "S")
        whole(world, acked)
        assert server.stream("S") is stream
        assert answers(world, server, "S")


def test_replica_whose_fetch_finds_the_disk_full(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it had answers again."""
    with World(1, tail_bytes=1 << 20) as world:
        acked = filled(world)
        say(world, "S", acked)
        whole(world, acked)
        server = victim(world, "neither")
        world.run(1)  # what it has applied is stored
        server.kill()
        acked["S"] += world.store("S", COUNT, BIG)
        server.disk.full = True
        server.start()
        stream = server.stream("S")
        assert stream is not None
        fetches: list[None] = []
        await_state = Stream.await_state

        def awaited(stream: Stream) -> None:
            fetches.append(None)
            await_state(stream)

        monkeypatch.setattr(Stream, "await_state", awaited)
        world.until(lambda: fetches and not stream.fetching, what="a part that can't be stored")
        assert answers(world, server, "S")
        server.disk.full = False
        whole(world, acked)


def test_copy_that_is_not_whole() -> None:
    """Nobody knows yet that it will be needed."""
    with World(1) as world:
        target, acked = moved_in_part(world)
        target.start()
        copy = target.stream("M")
        assert copy is not None
        assert copy.partial
        assert not answers(world, target, "M")
        moved(world)
        whole(world, acked)
        say(world, "M", acked)
        whole(world, acked)
        assert all(answers(world, each, "M") for each in world.running)
