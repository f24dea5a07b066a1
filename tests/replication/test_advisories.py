"""Advisories of a cluster: each comes once, from whoever it is that knows."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from nats.js.api import ConsumerConfig, StorageType, StreamConfig

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
