"""Who leads and where replicas are, changed by hand: stepdowns, peers, servers, numbers of replicas."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from nats.js.api import ConsumerConfig, Placement, StreamConfig

from streamd.api.cluster import peer_id
from streamd.streams.replication import membership
from streamd.streams.replication.view import name_of
from tests.replication.nodes import Nodes, more_than, publishing, until
from tests.replication.test_streams import api

if TYPE_CHECKING:
    from pathlib import Path

    from nats.aio.client import Client

pytestmark = pytest.mark.anyio


async def system(nodes: Nodes, name: str) -> Client:
    return await nodes.client(name, user="sys", password="pw")


def preferring(name: str) -> dict[str, Any]:
    return {"placement": {"preferred": name}}


async def test_a_leader_that_was_moved_by_hand_is_not_moved_back(trio: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even by who leads next, which has to be told; but who leads because the other was away gives back."""
    monkeypatch.setattr(membership, "SETTLED_NS", 0)
    js = await trio.js("a")
    await js.add_stream(name="STAYS", subjects=["stays"], num_replicas=3)
    group = trio.any.meta.state.streams["STAYS"].group
    preferred = name_of(trio.any.who_leads(trio.any.meta.state.groups[group]))
    # From the beginning, unless another one was quicker on a machine with much to do.
    await trio.led("STAYS", by=lambda found: found == preferred)

    await trio.step_down(await trio.client("a"), "STAYS")
    rooms = [trio.replication(name).membership for name in "abc"]
    await until(lambda: all(group in room._wandered for room in rooms))
    for room in rooms:
        room.look()
        assert group not in room._handing

    for room in rooms:
        room._wandered.clear()
    trio.replication(await trio.led("STAYS")).membership.look()
    await trio.led("STAYS", by=lambda found: found == preferred)


async def test_preferred_leaders(shared: Nodes) -> None:
    """Of a stream, by a consumer of it, and of the meta group: whom the request prefers leads next."""
    js = await shared.js("a")
    client = await shared.client("a")
    await js.add_stream(name="PREFER", subjects=["prefer"], num_replicas=3)
    await js.add_consumer("PREFER", durable_name="worker")
    leader = await shared.led("PREFER")
    for name in [*sorted(set("abc") - {leader}), leader]:
        assert (await api(client, "STREAM.LEADER.STEPDOWN.PREFER", **preferring(name)))["success"] is True
        await shared.led("PREFER", by=lambda found, name=name: found == name)  # type: ignore[misc]
    for name in [*sorted(set("abc") - {leader}), leader]:
        assert (await api(client, "CONSUMER.LEADER.STEPDOWN.PREFER.worker", **preferring(name)))["success"] is True
        await shared.led("PREFER", by=lambda found, name=name: found == name)  # type: ignore[misc]
        info = await api(client, "CONSUMER.INFO.PREFER.worker")
        assert info["cluster"]["leader"] == name
    for placement, text in (
        (preferring("nobody"), 'preferred server "nobody" not known'),
        (preferring(leader), f'preferred server "{leader}" is already leader'),
    ):
        refused = await api(client, "STREAM.LEADER.STEPDOWN.PREFER", **placement)
        assert (refused["error"]["err_code"], text in refused["error"]["description"]) == (10005, True)
    missing = await api(client, "STREAM.LEADER.STEPDOWN.NONE")
    assert missing["error"]["err_code"] == 10059
    missing = await api(client, "CONSUMER.LEADER.STEPDOWN.PREFER.none")
    assert missing["error"]["err_code"] == 10014
    admin = await system(shared, "b")
    before = shared.meta_leader()
    for name in sorted(set("abc") - {before}):
        assert (await api(admin, "META.LEADER.STEPDOWN", **preferring(name)))["success"] is True
        await until(lambda name=name: shared.meta_leader() == name)  # type: ignore[misc]
        assert (await js.add_stream(name=f"UNDER{name}")).config.name == f"UNDER{name}"
    await shared.alike()


async def test_replica_infos(trio: Nodes) -> None:
    """Lag, current and offline of every replica, as its leader sees it."""
    js = await trio.js("a")
    await js.add_stream(name="INFO", subjects=["info"], num_replicas=3)
    await js.publish("info")
    leader = await trio.led("INFO")
    client = await trio.client(leader)
    await trio.alike()
    cluster = (await api(client, "STREAM.INFO.INFO"))["cluster"]
    assert cluster["leader"] == leader
    assert cluster["name"] == "C"
    assert cluster["traffic_account"] == "$SYS"
    assert [peer["name"] for peer in cluster["replicas"]] == sorted(set("abc") - {leader})
    for peer in cluster["replicas"]:
        assert peer["current"] is True
        assert peer["peer"] == peer_id(peer["name"])
        assert 0 <= peer["active"] < 2_000_000_000
        assert "offline" not in peer
        assert "lag" not in peer
    gone = trio.followers("INFO")[0]
    await trio.stop(gone)
    for _ in range(5):
        await client.jetstream().publish("info")
    (peer,) = [each for each in (await api(client, "STREAM.INFO.INFO"))["cluster"]["replicas"] if each["name"] == gone]
    assert (peer["current"], peer["offline"]) == (False, True)
    assert peer["lag"] >= 5
    await trio.start(gone)
    await trio.alike()
    (peer,) = [each for each in (await api(client, "STREAM.INFO.INFO"))["cluster"]["replicas"] if each["name"] == gone]
    assert peer["current"] is True
    assert "offline" not in peer


@pytest.mark.parametrize("storage", ["file", "memory"])
async def test_scale_up_and_down(shared: Nodes, storage: str) -> None:
    """1 → 3 → 1 replicas with messages, ids and consumers, while a client publishes."""
    js = await shared.js("a")
    name = f"SCALE{storage}"
    config = StreamConfig(name=name, subjects=[f"{name}.*"], storage=storage, num_replicas=1)  # type: ignore[arg-type]
    await js.add_stream(config)
    await asyncio.gather(*[js.publish(f"{name}.old", b"%d" % number) for number in range(100)])
    sub = await js.pull_subscribe(f"{name}.old", "worker", stream=name, config=ConsumerConfig(ack_wait=60))
    for message in await sub.fetch(10, timeout=5):
        await message.ack_sync()
    acked: list[int] = []
    for replicas in (3, 1, 3):
        before = len(acked)
        async with publishing(await shared.js("b"), f"{name}.new{replicas}{before}", acked):
            await until(more_than(before, acked.__len__))
            info = await js.update_stream(config.evolve(num_replicas=replicas))
            assert info.config.num_replicas == replicas
            await shared.led(name)
            await until(lambda replicas=replicas: len(shared.any.meta.state.streams[name].names) == replicas)  # type: ignore[misc]
            await until(more_than(before + 5, acked.__len__))
        counts = await shared.alike()
        info = await js.stream_info(name)
        assert info.state.messages == 100 + len(acked)
        assert counts.get(name, info.state.messages) == info.state.messages
        assert info.cluster is not None
        assert len(info.cluster.replicas or []) == replicas - 1
        worker = await js.consumer_info(name, "worker")
        assert (worker.ack_floor.consumer_seq, worker.num_pending) == (10, 90)
        ack = await js.publish(f"{name}.new30", headers={"Nats-Msg-Id": f"{name}.new300"})
        assert ack.duplicate
    assert len(await sub.fetch(20, timeout=5)) == 20


async def test_stream_peer_remove(tmp_path: Path) -> None:
    """A replica goes to another server, the leader's too; without another server that is refused."""
    async with Nodes(tmp_path, "abcd") as nodes:
        js = await nodes.js("a")
        await js.add_stream(name="PEERS", subjects=["peers"], num_replicas=3)
        await asyncio.gather(*[js.publish("peers", b"%d" % number) for number in range(50)])
        await js.add_consumer("PEERS", durable_name="worker", ack_policy="explicit")
        client = await nodes.client("b")
        for which in ("follower", "leader"):
            names = nodes.any.meta.state.streams["PEERS"].names
            (spare,) = set("abcd") - set(names)
            gone = nodes.leader("PEERS") if which == "leader" else nodes.followers("PEERS")[0]
            assert (await api(client, "STREAM.PEER.REMOVE.PEERS", peer=gone))["success"] is True
            wanted = tuple(sorted({*names, spare} - {gone}))
            await until(lambda wanted=wanted: nodes.any.meta.state.streams["PEERS"].names == wanted)  # type: ignore[misc]
            await nodes.led("PEERS", by=lambda name, gone=gone: name not in ("", gone))  # type: ignore[misc]
            assert (await nodes.alike())["PEERS"] == 50
            assert (await js.consumer_info("PEERS", "worker")).num_pending == 50
        refused = await api(client, "STREAM.PEER.REMOVE.PEERS", peer="nobody")
        assert refused["error"]["err_code"] == 10040
        await nodes.stop(next(iter(set("abcd") - set(nodes.any.meta.state.streams["PEERS"].names) - {"b", "a"}), "d"))


async def test_server_remove(tmp_path: Path) -> None:
    """A server that is gone for good leaves the cluster, and its replicas go to others."""
    async with Nodes(tmp_path, "abcd") as nodes:
        js = await nodes.js("a")
        streams = [f"MANY{number}" for number in range(6)]
        for name in streams:
            await js.add_stream(name=name, num_replicas=3)
            await js.publish(name, name.encode())
        await nodes.stop("d")
        admin = await system(nodes, "b")
        await until(nodes.meta_leader)
        unknown = await api(admin, "SERVER.REMOVE", peer="nobody")
        assert unknown["error"]["err_code"] == 10044
        assert (await api(admin, "SERVER.REMOVE", peer="d"))["success"] is True
        await until(lambda: "d" not in nodes.any.meta.state.nodes)
        await until(lambda: len(nodes.replication(nodes.meta_leader() or "a").meta.group.config.voters) == 3)
        placed = [stream.names for stream in nodes.any.meta.state.streams.values()]
        await until(
            lambda: all("d" not in stream.names for stream in nodes.any.meta.state.streams.values()), what=f"{placed}"
        )
        for name in streams:
            await nodes.led(name)
        counts = await nodes.alike()
        assert counts == dict.fromkeys(streams, 1)


async def test_tags_and_leaders(tmp_path: Path) -> None:
    """A stepdown to a server with a tag."""
    async with Nodes(tmp_path, "abc", {"b": ("fast",)}) as nodes:
        js = await nodes.js("a")
        await js.add_stream(StreamConfig(name="TAGS", num_replicas=3, placement=Placement(cluster="C")))
        client = await nodes.client("c")
        if await nodes.led("TAGS") == "b":
            await api(client, "STREAM.LEADER.STEPDOWN.TAGS")
            await nodes.led("TAGS", by=lambda name: name not in ("", "b"))
        answer = await client.request(
            "$JS.API.STREAM.LEADER.STEPDOWN.TAGS", json.dumps({"placement": {"tags": ["fast"]}}).encode()
        )
        assert json.loads(answer.data)["success"] is True
        await nodes.led("TAGS", by=lambda name: name == "b")
