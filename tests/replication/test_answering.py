"""Requests of the JetStream API in moments in which nobody serves what they are about: each is answered, and rightly."""

from __future__ import annotations

from collections import defaultdict
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from streamd.config.models import SYSTEM_ACCOUNT
from streamd.core.access import DEFAULT_ACCOUNT
from streamd.sim.clock import MS, SECOND
from streamd.streams.replication import keeping, leading
from streamd.streams.replication.leading import Leading
from tests.replication.world import INBOX, World

if TYPE_CHECKING:
    from tests.replication.world import Server

GROUP = "G.a.b.c"


def consumer(stream: str, name: str, max_deliver: int = -1) -> dict[str, Any]:
    config = {"durable_name": name, "ack_policy": "explicit", "max_deliver": max_deliver}
    return {"stream_name": stream, "config": config, "action": ""}


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


def until_answered(world: World, name: str) -> None:
    world.step_until(lambda: answered(world)[name])


def until_led(world: World, stream: str, server: Server) -> None:
    world.step_until(lambda: world.leader(stream) is server)


def hear_late(server: Server, milliseconds: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is agreed on in the meta group gets to a server later."""
    meta, committed = server.replication.meta, server.replication.meta.committed

    def late(index: int, term: int, command: bytes) -> None:
        server.clock.call_later(milliseconds * MS, partial(committed, index, term, bytes(command)))

    monkeypatch.setattr(meta, "committed", late)


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


@pytest.mark.parametrize("late_ms", [0, 30])
@pytest.mark.parametrize("replicas", [1, 3])
@pytest.mark.parametrize("seed", range(2, 8))
def test_a_stream_that_moves(seed: int, replicas: int, late_ms: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each request about it is answered, once, even while others have yet to hear of what its leader knows."""
    with World(seed, "abcd") as world:
        world.until(world.formed)
        world.create("M", replicas=replicas)
        world.store("M", 20, size=100_000)
        world.run(1)
        if replicas == 3:
            # From one that isn't to have it.
            world.ask("$JS.API.STREAM.LEADER.STEPDOWN.M")
            world.until(lambda: world.leader("M"))
        for server in world.running:
            if late_ms and server is not world.leader("M"):
                hear_late(server, late_ms, monkeypatch)
        world.ask("$JS.API.CONSUMER.CREATE.M.worker", consumer("M", "worker"))
        body = {"name": "M", "subjects": ["M.>"], "num_replicas": 4 - replicas}
        everywhere(world, "STREAM.UPDATE.M", body, "update")
        for number in range(150):
            world.run(0.002)
            everywhere(world, "CONSUMER.INFO.M.worker", b"", f"i{number}")
        world.run(8)
        found = answered(world)

        assert found["update"]
        assert [number for number in range(150) if len(found[f"i{number}"]) != 1] == []
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


def test_too_many_that_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asks hears at once that it is one too many."""
    monkeypatch.setattr(keeping, "KEPT_MAX", 2)
    with World(4) as world:
        world.until(world.formed)
        world.create("S")
        first = world.leader("S")
        assert first is not None
        left = next(server for server in world.running if server is not first)
        for server in list(world.running):
            if server is not left:
                server.kill()
        world.run(0.1)
        for number in range(3):
            left.request("$JS.API.STREAM.INFO.S", b"", f"{INBOX}.i{number}")
        world.run(0.1)
        found = answered(world)
        assert [len(found[f"i{number}"]) for number in range(3)] == [0, 0, 1]
        assert "too many requests wait here already" in found["i2"][0]["error"]["description"]


def test_a_request_under_way_at_a_stepdown() -> None:
    """Who leads no more when it would answer asks the next leader to."""
    with World(2) as world:
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


def test_changes_under_way_at_a_stepdown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is answered once, by who has made it, though both leaders have heard of it."""
    monkeypatch.setattr(keeping, "AGAIN_NS", 10 * SECOND)
    with World(2) as world:
        world.until(world.formed)
        world.create("S")
        for turn in range(6):
            everywhere(world, "STREAM.LEADER.STEPDOWN.S", b"", f"down{turn}")
            wanted = range(60 * turn + 1, 60 * turn + 61)
            for number in wanted:
                world.run(0.0005)
                everywhere(world, "CONSUMER.CREATE.S.worker", consumer("S", "worker", number), f"c{number}")
            world.run(4)
            found = answered(world)
            assert [[answer["config"]["max_deliver"] for answer in found[f"c{number}"]] for number in wanted] == [
                [number] for number in wanted
            ]


@pytest.mark.parametrize(
    ("what", "body"),
    [
        ("CONSUMER.INFO.S.worker", b""),
        ("CONSUMER.CREATE.S.worker", consumer("S", "worker", 5)),
        ("STREAM.LEADER.STEPDOWN.S", b""),
        ("STREAM.NAMES", b""),
        ("STREAM.CREATE.T", {"name": "T", "subjects": ["t"], "num_replicas": 3}),
        ("META.LEADER.STEPDOWN", b""),
    ],
)
def test_copies_that_come_before_and_behind_a_change_of_leader(what: str, body: bytes | dict[str, Any]) -> None:
    """The next leader had its own when another one led, and left it to that one, which has its own when it leads no more."""
    with World(2) as world:
        world.until(world.formed)
        world.create("S")
        world.ask("$JS.API.CONSUMER.CREATE.S.worker", consumer("S", "worker"))
        world.run(1)
        of_meta = not what.endswith((".S", ".worker"))
        account = SYSTEM_ACCOUNT if what.startswith("META") else DEFAULT_ACCOUNT

        def hear(server: Server) -> None:
            server.request(f"$JS.API.{what}", body, f"{INBOX}.late", account=account)

        def led_by(server: Server) -> bool:
            parts = [each.replication for each in world.running]
            groups = [each.meta.group if of_meta else each.replicas[GROUP].group for each in parts]
            leads = server.replication.meta.leading if of_meta else world.leader("S") is server
            return leads and all(group.leader == server.replication.net.node for group in groups)

        first = next(server for server in world.running if led_by(server))
        second, third = (server for server in world.running if server is not first)
        hear(second)
        world.run(0.001)
        part = first.replication
        hand_over = part.meta.group.transfer if of_meta else part.replicas[GROUP].hand_over
        hand_over(second.replication.net.node, lambda _done: None)
        world.step_until(lambda: led_by(second))
        assert answered(world)["late"] == []
        hear(third)
        hear(first)
        world.run(1)
        assert len(answered(world)["late"]) == 1


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


def test_what_the_leader_has_done_isnt_done_again() -> None:
    """Even if a server that had yet to get the stream, and so its share of the requests, leads it in the next moment."""
    with World(3) as world:
        world.until(world.formed)
        world.create("FIRST")
        world.run(1)
        moved = 0
        for number in range(40):
            name = f"S{number}"
            everywhere(
                world, f"STREAM.CREATE.{name}", {"name": name, "subjects": [name], "num_replicas": 3}, f"make{number}"
            )
            until_answered(world, f"make{number}")
            late = next((server for server in world.running if server.stream(name) is None), None)
            everywhere(world, f"CONSUMER.CREATE.{name}.worker", consumer(name, "worker"), f"first{number}")
            until_answered(world, f"first{number}")
            if late is None:
                continue
            moved += 1
            leader = world.leader(name)
            assert leader is not None
            to = {"placement": {"preferred": late.name}}
            leader.request(f"$JS.API.STREAM.LEADER.STEPDOWN.{name}", to, f"{INBOX}.down{number}")
            until_led(world, name, late)
            everywhere(world, f"CONSUMER.CREATE.{name}.worker", consumer(name, "worker", 3), f"then{number}")
            world.run(0.2)
            assert world.ask(f"$JS.API.CONSUMER.INFO.{name}.worker")["config"]["max_deliver"] == 3
        assert moved


@pytest.mark.parametrize("noticed", [True, False])
def test_who_led_between_has_done_what_was_kept(noticed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """What came while nobody led is done by who leads next, and by nobody behind it."""
    monkeypatch.setattr(keeping, "AGAIN_NS", 10 * SECOND)
    with World(4) as world:
        world.until(world.formed)
        world.create("S")
        world.ask("$JS.API.CONSUMER.CREATE.S.worker", consumer("S", "worker"))
        world.run(1)
        first = world.leader("S")
        assert first is not None
        first.kill()
        for server in world.running if not noticed else ():
            server.replication.replicas[GROUP].lead.led = lambda: None
        world.step_until(lambda: all(server.replication.replicas[GROUP].lead.leaderless_ns for server in world.running))
        asked = 0
        while world.leader("S") is None:
            everywhere(world, "CONSUMER.CREATE.S.worker", consumer("S", "worker", 10 + asked), f"k{asked}")
            asked += 1
            world.run(0.001)
        second = world.leader("S")
        assert second is not None
        (third,) = (server for server in world.running if server is not second)
        until_answered(world, f"k{asked - 1}")
        second.request("$JS.API.STREAM.LEADER.STEPDOWN.S", {"placement": {"preferred": third.name}}, f"{INBOX}.down")
        until_led(world, "S", third)
        everywhere(world, "CONSUMER.CREATE.S.worker", consumer("S", "worker", 6), "then")
        world.run(0.5)
        found = answered(world)
        assert [len(found[name]) for name in [*[f"k{number}" for number in range(asked)], "then"]] == [1] * (asked + 1)
        assert world.ask("$JS.API.CONSUMER.INFO.S.worker")["config"]["max_deliver"] == 6


def test_a_leader_that_leads_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """It does what it couldn't answer in between."""
    with World(4) as world:
        world.until(world.formed)
        world.create("S")
        world.ask("$JS.API.CONSUMER.CREATE.S.worker", consumer("S", "worker"))
        leader = world.leader("S")
        assert leader is not None
        with monkeypatch.context() as patch:
            patch.setattr(leader.replication.reads, "confirm", lambda _stream, done: done(False))
            everywhere(world, "CONSUMER.INFO.S.worker", b"", "info")
            world.run(0.01)
        assert not answered(world)["info"]
        world.run(0.1)
        assert [answer["name"] for answer in answered(world)["info"]] == ["worker"]


@pytest.mark.parametrize("late_ms", [0, 30])
@pytest.mark.parametrize("seed", range(5, 9))
def test_a_stream_that_is_being_made(seed: int, late_ms: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is asked about it before it is there has one answer, be it that there is none."""
    with World(seed) as world:
        world.until(world.formed)
        for server in world.running:
            if late_ms and not server.meta:
                hear_late(server, late_ms, monkeypatch)
        for number in range(400):
            if number == 10:
                everywhere(world, "STREAM.CREATE.S", {"name": "S", "subjects": ["S"], "num_replicas": 3}, "make")
            everywhere(world, "CONSUMER.CREATE.S.worker", consumer("S", "worker"), f"c{number}")
            world.run(0.00025)
        world.run(5)
        found = answered(world)
        assert [number for number in range(400) if len(found[f"c{number}"]) != 1] == []
        assert found["c399"][0]["name"] == "worker"


def test_a_copy_that_is_quicker_than_the_request_itself() -> None:
    """Who has done what another server has handed to it doesn't do it again when it hears of it, but what is asked again."""
    with World(4) as world:
        world.until(world.formed)
        meta = world.meta_leader()
        assert meta is not None
        number = 0
        while (leader := world.leader(f"S{number}")) in (None, meta):
            number += 1
            world.create(f"S{number}")
        assert leader is not None
        body = consumer(f"S{number}", "worker")
        # The stream is new: the meta leader sees to it that it is answered.
        for number_of_answers, server in [(1, meta), (1, leader), (2, leader), (3, leader)]:
            server.request(f"$JS.API.CONSUMER.CREATE.S{number}.worker", body, f"{INBOX}.same")
            world.run(0.05)
            assert len(answered(world)["same"]) == number_of_answers
