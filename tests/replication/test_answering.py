"""Requests of the JetStream API in moments in which nobody serves what they are about: each is answered, and rightly."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import pytest

from streamd.streams.replication import leading
from streamd.streams.replication.leading import Leading
from streamd.streams.replication.serving import Serving
from tests.replication.world import INBOX, World

if TYPE_CHECKING:
    from streamd._engine import Message
    from tests.replication.world import Server


def durable(name: str) -> dict[str, Any]:
    return {"durable_name": name, "ack_policy": "explicit"}


def consumer(stream: str, name: str) -> dict[str, Any]:
    return {"stream_name": stream, "config": durable(name), "action": ""}


def everywhere(world: World, subject: str, body: bytes | dict[str, Any], name: str) -> None:
    """Every server hears every request."""
    for server in world.running:
        server.request(f"$JS.API.{subject}", body, f"{INBOX}.{name}")


def answered(world: World) -> dict[str, list[Any]]:
    """Answers by the last token of the inbox."""
    found: dict[str, list[Any]] = defaultdict(list)
    for server in world.servers.values():
        for reply, answer in server.answers:
            found[reply.rsplit(".", 1)[1]].append(answer)
    return found


def test_a_leader_that_takes_up_its_streams_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is asked about one that has yet to come waits for it: its consumers are there, and keep their place."""
    monkeypatch.setattr(leading, "STEP", 1)
    with World(1) as world:
        world.until(world.formed)
        names = [f"S{number}" for number in range(15)]
        for name in names:
            world.create(name)
        leader = world.meta_leader()
        assert leader is not None
        streams = leader.replication.meta.state.streams
        group = streams[names[-1]].group
        *_, last = (name for name in names if streams[name].group == group)
        assert world.ask(f"$JS.API.CONSUMER.CREATE.{last}.worker", consumer(last, "worker"))["name"] == "worker"
        world.run(1)
        asked: list[Server] = []
        take_up = Leading._take_up

        def watched(self: Leading) -> None:
            take_up(self)
            if self.leading and len(self._taken_up) == 1 and not asked:
                (server,) = (each for each in world.running if each.replication.replicas.get(group) is self._replica)
                asked.append(server)
                server.request(f"$JS.API.CONSUMER.INFO.{last}.worker", b"", f"{INBOX}.info")
                server.request(f"$JS.API.CONSUMER.CREATE.{last}.other", consumer(last, "other"), f"{INBOX}.create")

        monkeypatch.setattr(Leading, "_take_up", watched)
        world.ask(f"$JS.API.STREAM.LEADER.STEPDOWN.{last}")
        world.run(1)
        found = answered(world)

        assert asked
        assert [answer.get("name") for answer in found["info"]] == ["worker"]
        assert [answer.get("name") for answer in found["create"]] == ["other"]
        world.ask(f"$JS.API.STREAM.LEADER.STEPDOWN.{last}")
        world.run(1)
        assert world.ask(f"$JS.API.CONSUMER.NAMES.{last}")["consumers"] == ["other", "worker"]


@pytest.mark.parametrize("replicas", [1, 3])
def test_a_stream_that_moves(replicas: int) -> None:
    """No request about it is left without an answer."""
    with World(2, "abcd") as world:
        world.until(world.formed)
        world.create("M", replicas=replicas)
        world.store("M", 20, size=100_000)
        world.ask("$JS.API.CONSUMER.CREATE.M.worker", consumer("M", "worker"))
        body = {"name": "M", "subjects": ["M.>"], "num_replicas": 4 - replicas}
        everywhere(world, "STREAM.UPDATE.M", body, "update")
        for number in range(150):
            world.run(0.002)
            everywhere(world, "CONSUMER.INFO.M.worker", b"", f"i{number}")
        world.run(8)
        found = answered(world)

        assert found["update"]
        assert [number for number in range(150) if not found[f"i{number}"]] == []
        assert {answer["name"] for number in range(150) for answer in found[f"i{number}"] if "error" not in answer} == {
            "worker"
        }


def test_a_server_that_has_no_replica_and_no_meta_leader() -> None:
    """It says so, for streams of which no server can be reached."""
    with World(4, "abcd") as world:
        world.until(world.formed)
        world.create("S")
        leader = world.meta_leader()
        assert leader is not None
        names = leader.replication.meta.state.streams["S"].names
        (left,) = (server for server in world.running if server.name not in names)
        for server in list(world.running):
            if server is not left:
                server.kill()
        world.run(5)
        for what in ("STREAM.INFO.S", "CONSUMER.INFO.S.worker", "STREAM.NAMES", "STREAM.INFO.NONE"):
            answer = world.ask(f"$JS.API.{what}", at=left)
            assert answer["error"]["err_code"] == 10008, what
            assert "no meta leader, 1 of 4 servers" in answer["error"]["description"]


def test_a_request_under_way_at_a_stepdown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who leads no more when it would answer asks the next leader to."""
    with World(2) as world:

        def ask_again(_serving: Serving, message: Message) -> None:
            for server in world.running:
                server.request(message.subject, message.payload, message.reply)

        monkeypatch.setattr(Serving, "ask_again", ask_again)
        world.until(world.formed)
        world.create("S")
        world.ask("$JS.API.CONSUMER.CREATE.S.worker", consumer("S", "worker"))
        world.run(1)
        for turn in range(6):
            everywhere(world, "STREAM.LEADER.STEPDOWN.S", b"", f"down{turn}")
            for number in range(60):
                world.run(0.0005)
                everywhere(world, "CONSUMER.INFO.S.worker", b"", f"t{turn}n{number}")
            world.run(4)
        found = answered(world)

        assert [name for turn in range(6) for number in range(60) if not found[name := f"t{turn}n{number}"]] == []


def test_two_make_the_same_consumer() -> None:
    """The second is answered when it is there: whoever has an answer may pull."""
    with World(3) as world:
        world.until(world.formed)
        world.create("S")
        for number in range(2):
            everywhere(world, "CONSUMER.CREATE.S.worker", consumer("S", "worker"), f"c{number}")
        while len(found := [answer for name in ("c0", "c1") for answer in answered(world)[name]]) < 2:
            if found:
                leader = world.leader("S")
                assert leader is not None
                stream = leader.stream("S")
                assert stream is not None
                assert stream.consumers["worker"].consumer_id in stream.rows
            world.run(0.001)
        assert {answer["name"] for answer in found} == {"worker"}


def test_a_stepdown_moves_a_leader_once() -> None:
    """Every server hears the request, and the next leader perhaps only once it leads: that is no request to it."""
    with World(2) as world:
        world.until(world.formed)
        world.create("S")

        def ask(server: Server, **placement: str) -> None:
            server.request("$JS.API.STREAM.LEADER.STEPDOWN.S", {"placement": placement}, f"{INBOX}.move")

        first = world.leader("S")
        assert first is not None
        (other, *_) = (server for server in world.running if server is not first)
        ask(first, preferred=other.name)
        second = world.until(lambda: found if (found := world.leader("S")) is not first else None)
        assert second is other
        # That it leads already would be no answer either.
        ask(second, preferred=second.name)
        world.run(0.9)
        ask(second)
        world.run(0.01)
        assert world.leader("S") is second
        # A later one is, even if its answer goes to the same subject.
        world.run(0.2)
        ask(second)
        world.until(lambda: world.leader("S") not in (None, second))
        world.run(0.1)
        assert [answer.get("success") for answer in answered(world)["move"]] == [True, True]
