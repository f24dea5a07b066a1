"""A server on the minority side of a partition: it refuses what it can't promise, in time, and loses nothing of the others'."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pytest

from streamd.streams.replication.view import name_of
from tests.replication.test_rejoin import NAMES, filled, victim, whole
from tests.replication.world import World

if TYPE_CHECKING:
    from tests.replication.world import Server

#: Patience with groups without a leader, the time in which a leader notices, and the step in which those who wait are told.
TIME_SECONDS: Final = 2.0 + 1.2 + 0.7


def apart(world: World, server: Server, *, told: bool = True) -> None:
    """Cut a server off from all others; `told`: its connections break."""
    others = [other.name for other in world.servers.values() if other is not server]
    ways = [(server.name, other) for other in others]
    world.network.cut([*ways, *((b, a) for a, b in ways)], breaks=told)


@pytest.mark.parametrize("role", ["meta leader", "group leader", "neither"])
@pytest.mark.parametrize("seed", range(4))
def test_minority_refuses_in_time(seed: int, role: str) -> None:
    """Publishes and requests are answered with what is wrong; who led steps down; after healing all is as on the other side."""
    with World(seed) as world:
        acked = filled(world)
        server = victim(world, role)
        apart(world, server)
        begun_ns = world.time.now_ns
        for number in range(3):
            answer = world.ask("S.x", b"minority %d" % number, at=server, seconds=TIME_SECONDS)
            if answer is None and not number:
                # Proposed when nobody knew yet: whether others have it isn't known here, so nobody may say that it is lost. If
                # it went to a leader on the other side, it is on a link that hangs.
                continue
            assert answer is not None, world.told()
            assert (answer["error"]["code"], answer["error"]["err_code"]) == (503, 10008), answer
            assert "can be reached from here" in answer["error"]["description"]
        requests: list[tuple[str, bytes | dict[str, Any]]] = [
            ("$JS.API.STREAM.INFO.S", b""),
            ("$JS.API.STREAM.NAMES", b""),
            ("$JS.API.STREAM.CREATE.NEW", {"name": "NEW", "subjects": ["new"]}),
            ("$JS.API.STREAM.DELETE.S", b""),
            ("$JS.API.CONSUMER.DURABLE.CREATE.S.d", {"stream_name": "S", "config": {"durable_name": "d"}}),
            ("$JS.API.STREAM.MSG.GET.S", {"seq": 1}),
        ]
        for subject, body in requests:
            answer = world.ask(subject, body, at=server, seconds=TIME_SECONDS)
            assert answer is not None, subject
            assert "can be reached from here" in answer["error"]["description"], (subject, answer)
        assert world.time.now_ns - begun_ns < 60e9
        assert not server.meta
        assert not any(stream.leads for stream in server.jetstream.streams.values())
        for name in NAMES:
            stored = len(acked[name])
            acked[name] += store_elsewhere(world, server, name)
            assert len(acked[name]) == stored + 5
        world.network.heal()
        whole(world, acked)
        for each in world.running:
            assert not [one for one in world.payloads(each, "S") if one.startswith(b"minority")]


def test_no_stream_is_said_to_be_nowhere_by_who_may_not_lead_any_more() -> None:
    """A meta leader that is cut off, and doesn't know it yet, can't know which streams there are."""
    with World(1) as world:
        filled(world)
        server = victim(world, "meta leader")
        answer = world.ask("$JS.API.STREAM.INFO.NEW", at=server)
        assert answer is not None
        assert answer["error"]["err_code"] == 10059
        apart(world, server, told=False)
        for subject in ("$JS.API.STREAM.INFO.NEW", "$JS.API.STREAM.DELETE.NEW"):
            assert server.meta
            assert world.ask(subject, at=server, seconds=0.3) is None


def store_elsewhere(world: World, server: Server, name: str) -> list[bytes]:
    """Publish at whoever leads on the other side."""
    acked = []
    for number in range(5):
        payload = b"majority %d at %d" % (number, world.time.now_ns)

        def stored(payload: bytes = payload) -> bool:
            leader = next(
                (each for each in world.running if each is not server and (s := each.stream(name)) and s.leads), None
            )
            answer = None if leader is None else world.ask(f"{name}.x", payload, at=leader, seconds=3)
            return answer is not None and "error" not in answer

        world.until(stored, 30)
        acked.append(payload)
    return acked


@pytest.mark.parametrize("seed", range(4))
def test_leader_that_hears_nobody_acks_nothing(seed: int) -> None:
    """One way suffices: it still reaches the others, and hears none of them. What it got is in doubt, and not acked."""
    with World(seed) as world:
        acked = filled(world)
        server = victim(world, "group leader")
        others = [other.name for other in world.servers.values() if other is not server]
        world.network.cut([(other, server.name) for other in others], breaks=False)
        answer = world.ask("S.x", b"one way", at=server, seconds=TIME_SECONDS)
        assert answer is None or "it is stored if these have it already" in answer["error"]["description"]
        assert not any(stream.leads for stream in server.jetstream.streams.values())
        acked["S"] += store_elsewhere(world, server, "S")
        world.network.heal()
        whole(world, acked)


def test_streaming_refuses_in_time() -> None:
    """NATS Streaming's requests on the minority side: see tests/stan for its texts; here nobody serves it there."""
    with World(2, streaming=True) as world:
        world.until(world.formed)
        leader = world.until(
            lambda: next(
                (s for s in world.running if (r := s.replication.replicas.get("STAN")) is not None and r.leading), None
            )
        )
        apart(world, leader)
        world.run(TIME_SECONDS)
        assert not leader.replication.replicas["STAN"].leading
        world.until(lambda: any(s.replication.replicas["STAN"].leading for s in world.running if s is not leader), 5)


def test_another_server_takes_the_place_of_one_that_is_removed_for_streaming() -> None:
    """Five of six vote for NATS Streaming; one that doesn't serve it never leads it for long."""
    with World(3, "abcdef", streaming=True) as world:
        world.until(world.formed)
        plans = [server.replication.meta.state.groups for server in world.running]
        world.until(lambda: all("STAN" in groups for groups in plans))
        assert list(plans[0]["STAN"].names) == list("abcde")
        gone = next(server for server in world.running if not server.meta and server.name != "f")
        gone.kill()
        meta = world.until(world.meta_leader).replication.meta
        meta.serially(lambda: meta.propose({"do": "forget", "name": gone.name}, lambda _change: None), lambda: None)
        left = sorted({*"abcdef"} - {gone.name})
        world.until(lambda: all(sorted(s.replication.meta.state.groups["STAN"].names) == left for s in world.running))

        def voters() -> list[str]:
            config = world.servers["f"].replication.replicas["STAN"].group.config
            return sorted(name_of(node) for node in config.voters)

        world.until(lambda: "STAN" in world.servers["f"].replication.replicas and voters() == left)

        def leader() -> Server | None:
            found = [server for server in world.running if server.replication.replicas["STAN"].leading]
            return found[0] if len(found) == 1 else None

        idle = world.until(leader)
        idle.replication.streaming = False
        world.until(lambda: leader() not in (None, idle))
