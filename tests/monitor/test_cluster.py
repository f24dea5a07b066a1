"""What the servers of a cluster say to the system account: each of itself, and of the others that it knows."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.cluster.members import ByHand, cluster_of, meshed
from tests.replication.nodes import Nodes, until

if TYPE_CHECKING:
    from pathlib import Path

    from nats.aio.client import Client

pytestmark = pytest.mark.anyio


async def system(nodes: Nodes, name: str) -> Client:
    """A client in the system account."""
    return await nodes.client(name, user="sys", password="pw")


async def of_all(client: Client, kind: str, count: int, **options: Any) -> dict[str, Any]:
    """What so many servers answer, by name."""
    inbox = await client.subscribe(client.new_inbox())
    await client.publish(f"$SYS.REQ.SERVER.PING{kind}", json.dumps(options).encode(), reply=inbox.subject)
    answers = [json.loads((await inbox.next_msg(10)).data) for _ in range(count)]
    await inbox.unsubscribe()
    return {answer["server"]["name"]: answer.get("statsz") or answer["data"] for answer in answers}


async def test_statsz_counts_servers_and_shows_routes(tmp_path: Path) -> None:
    """As many answers come as the first one says; what isn't of streamd counts too, until it goes."""
    async with Nodes(tmp_path, "abc") as nodes:
        await meshed(*nodes.servers.values())
        client = await system(nodes, "a")
        stats = await of_all(client, "", 3)

        for name, found in stats.items():
            assert found["active_servers"] == 3
            # One that carries everything, and one for the system account.
            assert sorted(route["name"] for route in found["routes"]) == sorted(2 * list(set("abc") - {name}))
            assert {route["rid"] for route in found["routes"]} <= cluster_of(nodes.servers[name]).routes.keys()
            for route in found["routes"]:
                assert route.keys() == {"rid", "name", "sent", "received", "pending"}
                assert route["sent"].keys() == route["received"].keys() == {"msgs", "bytes"}
            assert all(sum(route[way]["msgs"] for route in found["routes"]) > 0 for way in ("sent", "received"))
        async with ByHand.dial(nodes.servers["a"]) as hand:
            hand.connect()
            hand.info()
            hand.say("PING")
            await until(lambda: "NHAND" in cluster_of(nodes.servers["a"]).peers)
            found = json.loads((await client.request("$SYS.REQ.SERVER.PING", b'{"server_name":"a"}')).data)["statsz"]
            assert found["active_servers"] == 4
            assert [route["pending"] >= 0 for route in found["routes"] if route["name"] == "hand"] == [True]
        await until(lambda: "NHAND" not in cluster_of(nodes.servers["a"]).peers)
        await nodes.stop("c")
        await until(lambda: all(len(cluster_of(server).peers) == 1 for server in nodes.servers.values()))
        assert {name: found["active_servers"] for name, found in (await of_all(client, "", 2)).items()} == {
            "a": 2,
            "b": 2,
        }


def shown(detail: dict[str, Any]) -> dict[str, Any]:
    """What all replicas say alike of a consumer."""
    alike = ("created", "num_ack_pending", "num_redelivered", "num_pending", "cluster")
    return {
        **{key: detail[key] for key in alike if key != "cluster"},
        "leader": detail["cluster"]["leader"],
        "raft_group": detail["cluster"]["raft_group"],
        **{f"{what}.{key}": detail[what][key] for what in ("delivered", "ack_floor") for key in sorted(detail[what])},
    }


async def test_followers_know_their_consumers(tmp_path: Path) -> None:
    """Counts, details and health are those of the leader, on every server with a replica."""
    async with Nodes(tmp_path, "abc") as nodes:
        js = await nodes.js("a")
        await js.add_stream(name="S", subjects=["s.>"], num_replicas=3)
        # Metadata of any name make no service of a consumer.
        await js.add_consumer("S", durable_name="worker", ack_policy="explicit", metadata={"service": "billing"})
        await js.add_consumer("S", durable_name="other", filter_subject="s.1", ack_policy="explicit")
        await js.add_consumer("S", durable_name="push", deliver_subject="pushed", ack_policy="none")
        for number in range(10):
            await js.publish(f"s.{number % 2}", b"x")
        worker = await js.pull_subscribe_bind("worker", "S")
        for message in (await worker.fetch(5))[:3]:
            await message.ack_sync()
        leader = await nodes.led("S")
        await nodes.alike()
        client = await system(nodes, "a")

        found = await of_all(client, ".JSZ", 3, consumer=True, config=True, raft=True)
        assert {name: (one["streams"], one["consumers"]) for name, one in found.items()} == dict.fromkeys("abc", (1, 3))
        assert {name: one.get("consumers_leader", 0) for name, one in found.items()} == {
            name: 3 * (name == leader) for name in "abc"
        }
        streams = {name: one["account_details"][0]["stream_detail"][0] for name, one in found.items()}
        expected = [shown(each) for each in streams[leader]["consumer_detail"]]
        assert [(each["delivered.stream_seq"], each["ack_floor.stream_seq"], each["num_ack_pending"], each["num_pending"])
                for each in expected] == [(0, 0, 0, 5), (0, 0, 0, 10), (5, 3, 2, 5)]  # fmt: skip
        for stream in streams.values():
            assert stream["state"]["consumer_count"] == 3
            assert [each["name"] for each in stream["consumer_detail"]] == ["other", "push", "worker"]
            assert stream["consumer_detail"][2]["config"]["metadata"]["service"] == "billing"
            assert stream["consumer_raft_groups"] == streams[leader]["consumer_raft_groups"]
            assert [shown(each) for each in stream["consumer_detail"]] == expected
        for consumer, code in (("worker", 200), ("nobody", 404)):
            health = await of_all(client, ".HEALTHZ", 3, account="$G", stream="S", consumer=consumer)
            assert {name: one["status_code"] for name, one in health.items()} == dict.fromkeys("abc", code)
        await js.delete_consumer("S", "worker")
        await nodes.alike()
        found = await of_all(client, ".JSZ", 3)
        assert {name: one["consumers"] for name, one in found.items()} == dict.fromkeys("abc", 2)
