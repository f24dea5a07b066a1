"""Advisories of a cluster: each comes once, from whoever it is that knows."""

from __future__ import annotations

import asyncio
import itertools
import json
from typing import TYPE_CHECKING, Any

import pytest
from nats.js.api import ConsumerConfig, StorageType, StreamConfig

from streamd.api.cluster import peer_id
from tests.replication.nodes import until

if TYPE_CHECKING:
    from nats.aio.msg import Msg

    from tests.replication.nodes import Nodes

pytestmark = pytest.mark.anyio

PREFIX = "$JS.EVENT.ADVISORY."


class Heard:
    """What comes at a client of one server."""

    def __init__(self) -> None:
        self.bodies: list[tuple[str, dict[str, Any]]] = []  # with the subject behind the prefix

    async def take(self, message: Msg) -> None:
        """Called for each."""
        self.bodies.append((message.subject.removeprefix(PREFIX), json.loads(message.data)))

    def subjects(self, name: str, *kinds: str) -> list[str]:
        """Of a stream and its consumers, in their order; `kinds`: of these alone."""
        found = [subject for subject, _ in self.bodies if name in subject.split(".")]
        return [subject for subject in found if not kinds or subject.split(".")[1] in kinds]


async def listen(nodes: Nodes, server: str, **options: Any) -> Heard:
    """Hear all advisories at one server, of all."""
    heard = Heard()
    client = await nodes.client(server, **options)
    await client.subscribe(f"{PREFIX}>", cb=heard.take)
    await client.flush()
    # Until the others know of that, nothing comes from them.
    subject, came = f"{PREFIX}known", 0
    for other in nodes.servers:
        publisher = await nodes.client(other, **options)
        async with asyncio.timeout(5):
            while len(heard.bodies) == came:
                await publisher.publish(subject, b"{}")
                await publisher.flush()
                await asyncio.sleep(0.01)
        came = len(heard.bodies)
    heard.bodies.clear()
    return heard


ACTIONS = ("CREATED", "UPDATED", "DELETED")


@pytest.mark.parametrize(
    ("replicas", "storage"), [(1, StorageType.FILE), (1, StorageType.MEMORY), (3, StorageType.FILE)]
)
async def test_made_changed_and_deleted(shared: Nodes, replicas: int, storage: StorageType) -> None:
    """One each, wherever the stream lives."""
    name = f"LIFE-{storage.value}-{replicas}"
    heard = await listen(shared, "b")
    js = await shared.js("a")
    config = StreamConfig(name=name, subjects=[name], num_replicas=replicas, storage=storage)
    await js.add_stream(config)
    await js.add_consumer(name, ConsumerConfig(durable_name="worker"))
    await js.update_stream(config.evolve(max_msgs=7))
    await js.delete_stream(name)
    wanted = [f"STREAM.{action}.{name}" for action in ACTIONS]
    wanted += [f"CONSUMER.CREATED.{name}.worker", f"CONSUMER.DELETED.{name}.worker"]
    await until(lambda: set(wanted) <= set(heard.subjects(name)), what="advisories")
    await shared.alike()
    await (await shared.client("b")).flush()
    assert sorted(heard.subjects(name, *ACTIONS)) == sorted(wanted)
    body = next(body for subject, body in heard.bodies if subject == f"STREAM.CREATED.{name}")
    assert (body["type"], body["stream"], body["action"]) == (
        "io.nats.jetstream.advisory.v1.stream_action",
        name,
        "create",
    )


async def test_a_stream_that_moves_was_not_deleted(shared: Nodes) -> None:
    """Nor made: it is another server's from now on."""
    heard = await listen(shared, "b")
    js = await shared.js("a")
    await js.add_stream(StreamConfig(name="MOVES", subjects=["MOVES"], num_replicas=1))
    await js.add_consumer("MOVES", ConsumerConfig(durable_name="worker"))
    before = await shared.led("MOVES")
    client = await shared.client("b")
    body = json.dumps({"peer": before}).encode()
    answer = json.loads((await client.request("$JS.API.STREAM.PEER.REMOVE.MOVES", body, timeout=5)).data)
    assert answer["success"] is True
    await shared.led("MOVES", by=lambda server: server not in ("", before))
    jetstream = shared.servers[before].jetstream
    assert jetstream is not None
    await until(lambda: "MOVES" not in jetstream.streams, what="the copy to go")
    await js.add_stream(StreamConfig(name="BEHIND", subjects=["BEHIND"], num_replicas=1))
    await until(lambda: heard.subjects("BEHIND"), what="the advisory of another stream")
    assert sorted(heard.subjects("MOVES", *ACTIONS)) == ["CONSUMER.CREATED.MOVES.worker", "STREAM.CREATED.MOVES"]


def bodies(heard: Heard, subject: str) -> list[dict[str, Any]]:
    return [body for found, body in heard.bodies if found == subject]


async def nth(heard: Heard, subject: str, number: int) -> dict[str, Any]:
    """Wait for so many and one more; the last of them."""
    await until(lambda: len(bodies(heard, subject)) > number, what=subject)
    return bodies(heard, subject)[number]


async def test_leaders_of_streams_and_consumers(shared: Nodes) -> None:
    """Whoever takes them up tells so, in the default account and in that of the system."""
    heard, system = await listen(shared, "b"), await listen(shared, "c", user="sys", password="pw")
    js = await shared.js("a")
    await js.add_stream(name="LED", subjects=["LED"], num_replicas=3)
    await js.add_consumer("LED", ConsumerConfig(durable_name="worker"))
    subjects = ["STREAM.LEADER_ELECTED.LED", "CONSUMER.LEADER_ELECTED.LED.worker"]
    client = await shared.client("a")
    for turn in range(2):
        leader = await (shared.step_down(client, "LED") if turn else shared.led("LED"))
        for each, subject in itertools.product((heard, system), subjects):
            body = await nth(each, subject, turn)
            kind = "stream" if subject.startswith("STREAM") else "consumer"
            assert body["type"] == f"io.nats.jetstream.advisory.v1.{kind}_leader_elected"
            assert (body.get("account"), body["stream"]) == ("$G" if each is system else None, "LED")
            assert body.get("consumer") == (None if kind == "stream" else "worker")
            assert [(peer["name"], peer["peer"]) for peer in body["replicas"]] == [
                (name, peer_id(name)) for name in "abc"
            ]
            assert body["leader"] == leader
    await js.add_stream(name="ALONE", subjects=["ALONE"], num_replicas=1)
    await until(lambda: heard.subjects("ALONE"), what="the advisory of a stream that no group leads")
    assert heard.subjects("ALONE") == ["STREAM.CREATED.ALONE"]


async def test_leaders_of_the_cluster_and_servers_that_are_removed(trio: Nodes) -> None:
    """In the system account alone."""
    options = {"user": "sys", "password": "pw"}
    system, heard = await listen(trio, "a", **options), await listen(trio, "a")
    client = await trio.client("b", **options)
    before = trio.meta_leader()
    assert json.loads((await client.request("$JS.API.META.LEADER.STEPDOWN", timeout=5)).data)["success"] is True
    body = await nth(system, "DOMAIN.LEADER_ELECTED", 0)
    assert body["type"] == "io.nats.jetstream.advisory.v1.domain_leader_elected"
    assert body["leader"] in {peer_id(name) for name in "abc" if name != before}
    assert (body["cluster"], [peer["name"] for peer in body["replicas"]]) == ("C", ["a", "b", "c"])
    await trio.stop("c")
    await trio.agree()
    asked = json.dumps({"peer": "c"}).encode()
    answer = json.loads((await client.request("$JS.API.SERVER.REMOVE", asked, timeout=5)).data)
    assert answer["success"] is True
    body = await nth(system, "SERVER.REMOVED", 0)
    assert (body["server"], body["server_id"], body["cluster"]) == ("c", peer_id("c"), "C")
    assert not heard.bodies


async def test_a_lost_quorum(trio: Nodes) -> None:
    """The leader that is left alone tells, once, of all its streams and consumers."""
    js = await trio.js("a")
    await js.add_stream(name="LOST", subjects=["LOST"], num_replicas=3)
    await js.add_consumer("LOST", ConsumerConfig(durable_name="worker"))
    leader = await trio.led("LOST")
    heard = await listen(trio, leader)
    announcing = trio.replication(leader).announcing
    announcing.look()  # as it does once a second: it has led for some time
    await trio.stop(*(name for name in "abc" if name != leader))
    wanted = ["STREAM.QUORUM_LOST.LOST", "CONSUMER.QUORUM_LOST.LOST.worker"]
    await nth(heard, wanted[1], 0)
    announcing.look()
    assert heard.subjects("LOST", "QUORUM_LOST") == wanted
    body = bodies(heard, wanted[1])[0]
    assert body["type"] == "io.nats.jetstream.advisory.v1.consumer_quorum_lost"
    assert (body["stream"], body["consumer"]) == ("LOST", "worker")
    assert {peer["name"] for peer in body["replicas"] if peer.get("offline")} == {*"abc"} - {leader}
