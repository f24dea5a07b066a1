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
