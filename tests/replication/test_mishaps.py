"""Something is raised while a replica applies an entry: the entry isn't left out, and replicas stay equal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from streamd.errors import StoreCorrupt
from streamd.raft.journal import Journal
from streamd.streams.retention import Retention
from tests.replication.test_rejoin import NAMES, filled, victim, whole
from tests.replication.world import World

if TYPE_CHECKING:
    from tests.replication.world import Server

pytestmark = pytest.mark.mishaps
ROLES = ("group leader", "neither")


def fails(
    monkeypatch: pytest.MonkeyPatch, method: str, server: Server, name: str, times: int, error: Exception | None = None
) -> list[int]:
    """Something that a server does to its copy of a stream raises so many times. Returns how often that is still to come."""
    left = [times]
    original = getattr(Retention, method)
    stream = server.stream(name)

    def failing(retention: Retention, *arguments: Any, **named: Any) -> Any:
        if retention._stream is stream and left[0]:
            left[0] -= 1
            raise error or RuntimeError("a mistake")
        return original(retention, *arguments, **named)

    monkeypatch.setattr(Retention, method, failing)
    return left


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("seed", range(3))
def test_an_entry_that_fails_is_applied_again(seed: int, role: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """So is what shares its commit, of other groups too."""
    with World(seed) as world:
        acked = filled(world)
        server = victim(world, role)
        left = fails(monkeypatch, "store", server, "S", 2)
        for name in NAMES:
            acked[name] += world.store(name, 5)
        world.until(lambda: not left[0], what="the failures")
        whole(world, acked)
        stream = server.stream("S")
        assert stream is not None
        assert stream.offline is None
        server.kill()
        server.start()
        whole(world, acked)


@pytest.mark.parametrize("error", [RuntimeError("a mistake"), StoreCorrupt], ids=["mistake", "damage"])
@pytest.mark.parametrize("role", ROLES)
def test_a_copy_that_fails_again_and_again_is_fetched(role: str, error: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or one that is damaged, at once. The other groups of the server go on."""
    with World(1) as world:
        acked = filled(world)
        server = victim(world, role)
        copy = server.stream("S")
        if error is StoreCorrupt:
            error = StoreCorrupt(server.disk.directory, "a page")
        left = fails(monkeypatch, "store", server, "S", 1_000_000, error)
        for name in NAMES:
            acked[name] += world.store(name, 5)
        whole(world, acked)
        assert left[0] == (999_999 if isinstance(error, StoreCorrupt) else 999_997)
        assert server.stream("S") is not copy


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("seed", range(3))
def test_an_operation_that_fails_is_made_again(seed: int, role: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A purge, which takes commits of its own."""
    with World(seed) as world:
        acked = filled(world)
        server, leader = victim(world, role), world.leader("S")
        left = fails(monkeypatch, "_select", server, "S", 2)
        answer = world.ask("$JS.API.STREAM.PURGE.S", {"keep": 3}, at=leader)
        assert answer is not None
        assert answer["success"] is True
        world.until(lambda: not left[0], what="the failures")
        acked["S"] = acked["S"][-3:] + world.store("S", 5)
        whole(world, acked)
        assert world.payloads(server, "S") == acked["S"]


def test_an_entry_that_can_not_be_read_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is applied behind it meanwhile; the other groups of the server go on."""
    with World(2) as world:
        acked = filled(world)
        server = victim(world, "neither")
        stream = server.stream("S")
        assert stream is not None
        replica = server.replication.replicas[stream.group]
        following, left = replica._next, [3]

        def failing(entry: Any) -> bool:
            if left[0]:
                left[0] -= 1
                raise RuntimeError("a mistake")
            return following(entry)

        monkeypatch.setattr(replica, "_next", failing)
        for name in NAMES:
            acked[name] += world.store(name, 5)
        world.until(lambda: not left[0], what="the failures")
        whole(world, acked)
        assert stream.offline is None


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("seed", range(3))
def test_a_journal_that_can_not_be_written_is_written_again(
    seed: int, role: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a commit that failed."""
    with World(seed) as world:
        acked = filled(world)
        server = victim(world, role)
        stream = server.stream("S")
        assert stream is not None
        journal = server.replication.replicas[stream.group].group._journal
        write, left = Journal._write, [2]

        def failing(self: Journal, *arguments: Any) -> None:
            if self is journal and left[0]:
                left[0] -= 1
                raise RuntimeError("a mistake")
            write(self, *arguments)

        monkeypatch.setattr(Journal, "_write", failing)
        for name in NAMES:
            acked[name] += world.store(name, 5)
        world.until(lambda: not left[0], what="the failures")
        whole(world, acked)
