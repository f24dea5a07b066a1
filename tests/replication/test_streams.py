"""Streams of a cluster: made, changed, listed and removed from any server. Errors are those of nats-server 2.15.2."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from nats.js.api import Placement, StreamConfig
from nats.js.errors import BadRequestError, NotFoundError, ServerError

from tests.replication.nodes import Nodes

if TYPE_CHECKING:
    from pathlib import Path

    from nats.aio.client import Client


pytestmark = pytest.mark.anyio


async def api(client: Client, verb: str, **request: Any) -> dict[str, Any]:
    """The answer of one API request."""
    answer = await client.request(f"$JS.API.{verb}", json.dumps(request).encode() if request else b"", timeout=5)
    found: dict[str, Any] = json.loads(answer.data)
    return found


async def test_from_any_server(shared: Nodes) -> None:
    """Every server serves every request about every stream, wherever its leader is."""
    for number, name in enumerate("abc"):
        js = await shared.js(name)
        made = await js.add_stream(name=f"ANY{number}", subjects=[f"any.{number}.>"], num_replicas=3)
        assert made.cluster is not None
        assert made.cluster.name == "C"
        assert made.cluster.leader == await shared.led(f"ANY{number}")
        assert sorted(str(peer.name) for peer in made.cluster.replicas or []) == sorted(
            set("abc") - {made.cluster.leader}
        )
    for name in "abc":
        client = await shared.client(name)
        js = client.jetstream()
        for number in range(3):
            ack = await js.publish(f"any.{number}.x", name.encode())
            assert ack.stream == f"ANY{number}"
            info = await js.stream_info(f"ANY{number}")
            assert info.cluster is not None
            assert info.cluster.leader == shared.leader(f"ANY{number}")
            assert info.state.messages == ack.seq
        names = await api(client, "STREAM.NAMES", subject="any.>")
        assert names["streams"] == ["ANY0", "ANY1", "ANY2"]
        listed = await api(client, "STREAM.LIST", subject="any.>")
        assert [each["config"]["name"] for each in listed["streams"]] == ["ANY0", "ANY1", "ANY2"]
        assert "missing" not in listed
    js = await shared.js("a")
    changed = await js.update_stream(name="ANY0", subjects=["any.0.>", "more"], num_replicas=3, max_msgs=2)
    assert changed.config.subjects == ["any.0.>", "more"]
    assert changed.state.messages == 2
    assert (await (await shared.js("b")).publish("more", b"")).seq == 4
    counts = await shared.alike()
    assert (counts["ANY0"], counts["ANY1"]) == (2, 3)
    for number, name in enumerate("bca"):
        assert await (await shared.js(name)).delete_stream(f"ANY{number}")
        with pytest.raises(NotFoundError):
            await (await shared.js("a")).stream_info(f"ANY{number}")
    assert not {"ANY0", "ANY1", "ANY2"} & (await shared.alike()).keys()


async def test_made_twice(shared: Nodes) -> None:
    """The same again is no error and makes nothing; another one of that name is refused, as are subjects that are taken."""
    client = await shared.client("b")
    config: dict[str, Any] = {"name": "TWICE", "subjects": ["twice.*"], "num_replicas": 3}
    first = await api(client, "STREAM.CREATE.TWICE", **config)
    assert first["did_create"] is True
    for name in "abc":
        again = await api(await shared.client(name), "STREAM.CREATE.TWICE", **config)
        assert "error" not in again
        assert "did_create" not in again
        assert again["created"] == first["created"]
        other = await api(await shared.client(name), "STREAM.CREATE.TWICE", **{**config, "max_msgs": 5})
        assert other["error"] == {
            "code": 400,
            "err_code": 10058,
            "description": "stream name already in use with a different configuration",
        }
        overlap = await api(await shared.client(name), "STREAM.CREATE.MORE", name="MORE", subjects=["twice.a"])
        assert overlap["error"] == {
            "code": 400,
            "err_code": 10065,
            "description": "subjects overlap with an existing stream",
        }
    made = await asyncio.gather(
        *[
            api(await shared.client(name), "STREAM.CREATE.RACE", name="RACE", subjects=["race"], num_replicas=3)
            for name in "abcabc"
        ]
    )
    assert [each for each in made if "error" in each] == []
    assert len({each["created"] for each in made}) == 1
    assert sum(each.get("did_create", False) for each in made) == 1
    missing = await api(client, "STREAM.UPDATE.NONE", name="NONE")
    assert missing["error"]["err_code"] == 10059
    assert (await api(client, "STREAM.DELETE.NONE"))["error"]["err_code"] == 10059
    assert (await api(client, "STREAM.INFO.NONE"))["error"]["err_code"] == 10059


async def test_account_info_counts_the_cluster(shared: Nodes) -> None:
    """Streams, consumers and bytes of all servers, each once, from any of them."""
    js = await shared.js("a")
    before = await js.account_info()
    for number, (replicas, storage) in enumerate([(1, "file"), (3, "file"), (1, "memory"), (3, "memory")]):
        await js.add_stream(
            name=f"COUNT{number}", subjects=[f"count.{number}"], num_replicas=replicas, storage=storage, max_bytes=1000
        )
        await js.publish(f"count.{number}", b"x" * 100)
        await js.add_consumer(f"COUNT{number}", durable_name="worker", ack_policy="explicit")
    for name in "abc":
        info = await (await shared.js(name)).account_info()
        assert info.streams == before.streams + 4
        assert info.consumers == before.consumers + 4
        assert info.storage == before.storage + 2 * (30 + len("count.1") + 100)
        assert info.memory == before.memory + 2 * (16 + len("count.1") + 100)
        stored = json.loads((await (await shared.client(name)).request("$JS.API.INFO")).data)
        assert (stored["reserved_memory"], stored["reserved_storage"]) == (2000, 2000)
    await shared.alike()
    for number in range(4):
        await js.delete_stream(f"COUNT{number}")
    async with asyncio.timeout(5):
        while (await js.account_info()).memory != before.memory:
            await asyncio.sleep(0.01)


async def test_placement(tmp_path: Path) -> None:
    """Tags and the cluster's name choose the servers; what can't be is refused, saying why."""
    tags = {"a": ("ssd", "az:1"), "b": ("SSD", "az:2"), "c": ("hdd", "az:3")}
    async with Nodes(tmp_path, "abc", tags) as nodes:
        js = await nodes.js("c")
        await js.add_stream(StreamConfig(name="HDD", placement=Placement(tags=["hdd"])))
        assert await nodes.led("HDD") == "c"
        await js.add_stream(StreamConfig(name="SSD", num_replicas=2, placement=Placement(cluster="C", tags=["ssd"])))
        assert (await nodes.led("SSD")) in "ab"
        assert nodes.any.meta.state.streams["SSD"].names == ("a", "b")
        for placement, replicas, text in (
            (Placement(tags=["ssd"]), 3, "no suitable peers for placement"),
            (Placement(tags=["ssd", "az:3"]), 1, "no suitable peers for placement"),
            (Placement(cluster="D"), 1, "no suitable peers for placement"),
        ):
            with pytest.raises(BadRequestError, match=text) as refused:
                await js.add_stream(StreamConfig(name="NO", num_replicas=replicas, placement=placement))
            assert refused.value.err_code == 10005
        with pytest.raises(BadRequestError, match="no suitable peers for placement") as refused:
            await js.add_stream(name="FIVE", num_replicas=5)
        assert refused.value.err_code == 10005
        with pytest.raises(ServerError, match="maximum replicas is 5"):
            await js.add_stream(name="SIX", num_replicas=6)
        # One without replicas moves when its placement changes.
        await js.publish("HDD", b"x")
        moved = await js.update_stream(StreamConfig(name="HDD", placement=Placement(tags=["az:2"])))
        assert moved.cluster is not None
        await nodes.led("HDD", by=lambda name: name == "b")
        assert (await js.get_msg("HDD", 1)).data == b"x"
        assert (await js.publish("HDD", b"y")).seq == 2
        assert (await nodes.alike())["SSD"] == 0
