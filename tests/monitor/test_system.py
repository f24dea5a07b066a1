"""The system account's requests, by nats-py: whom they are for, what they answer, and what is an error."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import TYPE_CHECKING, Any

import nats
import pytest
from nats.errors import NoRespondersError

from streamd import Server
from streamd.api.cluster import ClusterInfo, PeerInfo, peer_id
from streamd.api.system import MetaCluster, MetaSnapshot
from streamd.config.models import Config, JetStreamConfig, SystemUser

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from nats.aio.client import Client

pytestmark = pytest.mark.anyio


@pytest.fixture
async def running(anyio_backend: str, tmp_path: Path) -> AsyncIterator[Server]:
    """A server with a user of the system account, two streams and three consumers."""
    config = Config(
        host="127.0.0.1",
        port=-1,
        server_name="one",
        server_tags=("x", "y:z"),
        jetstream=JetStreamConfig(store_dir=str(tmp_path)),
        system_users=(SystemUser(user="sys", password="pw"),),
    )
    async with Server(config) as server:
        common = await nats.connect(server.client_url)
        js = common.jetstream()
        await js.add_stream(name="ORDERS", subjects=["orders.>"])
        await js.add_stream(name="EVENTS", subjects=["events.>"], storage="memory", max_bytes=100_000)
        for number in range(10):
            await js.publish("orders.a" if number < 7 else "events.a", b"x" * 100)
        for stream, name in (("ORDERS", "worker"), ("ORDERS", "other"), ("EVENTS", "third")):
            await js.add_consumer(stream, durable_name=name, ack_policy="explicit")
        await common.close()
        yield server


@pytest.fixture
async def system(running: Server) -> AsyncIterator[Client]:
    """A client in the system account."""
    connection = await nats.connect(running.client_url, user="sys", password="pw", allow_reconnect=False)
    yield connection
    await connection.close()


async def ask(client: Client, subject: str, **options: Any) -> Any:
    """The answer to a request with options."""
    payload = json.dumps(options).encode() if options else b""
    return json.loads((await client.request(subject, payload, timeout=10)).data)


async def replies(client: Client, subject: str, payload: bytes) -> list[Any]:
    """All answers that have come when a request that is always answered has been."""
    inbox = await client.subscribe(client.new_inbox())
    await client.publish(subject, payload, reply=inbox.subject)
    await client.publish("$SYS.REQ.SERVER.PING.IDZ", b"", reply=inbox.subject)
    found = []
    while "statsz" in (answer := json.loads((await inbox.next_msg(10)).data)) or "server" in answer:
        found.append(answer)
    return found


async def test_server_block(running: Server, system: Client) -> None:
    """Who answers; its sequence counts what it says."""
    first = (await ask(system, "$SYS.REQ.SERVER.PING"))["server"]
    second = (await ask(system, f"$SYS.REQ.SERVER.{running.server_id}.STATSZ"))["server"]

    assert {key: first[key] for key in first if key not in ("seq", "time")} == {
        "name": "one",
        "host": "127.0.0.1",
        "id": running.server_id,
        "ver": "2.15.2",
        "tags": ["x", "y:z"],
        "jetstream": True,
        "flags": 1,
    }
    assert second["seq"] == first["seq"] + 1
    assert second["time"] > first["time"]


@pytest.mark.parametrize(
    ("options", "answers"),
    [
        ({}, True),
        ({"server_name": "on"}, True),
        ({"server_name": "on", "exact_match": True}, False),
        ({"server_name": "one", "exact_match": True}, True),
        ({"server_name": "two"}, False),
        ({"host": "127."}, True),
        ({"cluster": "c"}, False),
        ({"domain": "d"}, False),
        ({"tags": ["X", "Y:Z"]}, True),
        ({"tags": ["x", "q"]}, False),
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", ["", ".VARZ", ".JSZ"])
async def test_filter(system: Client, kind: str, options: dict[str, Any], answers: bool) -> None:
    """Who isn't meant is silent."""
    assert bool(await replies(system, f"$SYS.REQ.SERVER.PING{kind}", json.dumps(options).encode())) == answers


@pytest.mark.parametrize(
    ("kind", "payload", "text"),
    [
        (".JSZ", b"xx", "invalid character 'x' looking for beginning of value"),
        ("", b"xx", "invalid character 'x' looking for beginning of value"),
        (
            ".JSZ",
            b'{"accounts":1}',
            "json: cannot unmarshal number into Go struct field JszEventOptions.JSzOptions.accounts of type bool",
        ),
    ],
)
async def test_bad_options(system: Client, kind: str, payload: bytes, text: str) -> None:
    """The error is in the envelope."""
    answer = json.loads((await system.request(f"$SYS.REQ.SERVER.PING{kind}", payload, timeout=10)).data)

    assert answer["error"] == {"code": 400, "description": text}
    assert answer["server"]["name"] == "one"


async def test_statsz_and_identity(running: Server, system: Client) -> None:
    """The counters, and the bare identity."""
    stats = (await ask(system, "$SYS.REQ.SERVER.PING.STATSZ"))["statsz"]
    identity = await ask(system, "$SYS.REQ.SERVER.PING.IDZ", server_name="another")

    assert (stats["connections"], stats["total_connections"], stats["active_accounts"]) == (1, 2, 1)
    assert (stats["active_servers"], "routes" in stats) == (1, False)
    assert stats["jetstream"]["stats"]["storage"] > 700
    assert "store_dir" not in stats["jetstream"]["config"]
    assert identity == {"name": "one", "host": "127.0.0.1", "id": running.server_id}


async def test_jsz_totals(running: Server, system: Client) -> None:
    """Without options only the sums."""
    data = (await ask(system, "$SYS.REQ.SERVER.PING.JSZ"))["data"]

    assert {key: data[key] for key in ("streams", "consumers", "messages", "accounts", "total", "ha_assets")} == {
        "streams": 2,
        "consumers": 3,
        "messages": 10,
        "accounts": 1,
        "total": 1,
        "ha_assets": 0,
    }
    assert data["bytes"] == data["memory"] + data["storage"]
    assert (data["reserved_memory"], data["reserved_storage"]) == (100_000, 0)
    assert (data["config"]["sync_always"], data["config"]["store_dir"]) == (True, str(running.store_dir))
    assert not {"account_details", "meta_cluster", "streams_leader", "disabled"} & data.keys()


async def test_jsz_details(system: Client) -> None:
    """Consumers bring streams, streams bring accounts; configurations and groups only if asked for."""
    (account,) = (await ask(system, "$SYS.REQ.SERVER.PING.JSZ", consumer=True))["data"]["account_details"]
    events, orders = account["stream_detail"]

    assert list(account)[:2] == ["name", "id"]
    assert (events["name"], orders["name"], orders["cluster"]) == ("EVENTS", "ORDERS", {"leader": "one"})
    assert (orders["state"]["messages"], orders["state"]["consumer_count"]) == (7, 2)
    assert [one["name"] for one in orders["consumer_detail"]] == ["other", "worker"]
    assert not {"config", "stream_raft_group"} & orders.keys()
    assert "config" not in orders["consumer_detail"][0]

    data = (await ask(system, "$SYS.REQ.SERVER.PING.JSZ", streams=True, config=True, raft=True))["data"]
    orders = data["account_details"][0]["stream_detail"][1]

    assert orders["config"]["subjects"] == ["orders.>"]
    assert "consumer_detail" not in orders
    assert (data["streams_leader"], data["consumers_leader"]) == (2, 3)


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        ({"accounts": True}, True),
        ({"account": "$G"}, True),
        ({"account": "A"}, False),
        ({"account": "A", "streams": True}, False),
        ({"accounts": True, "offset": 1}, False),
        ({"accounts": True, "offset": -1, "limit": -1}, True),
    ],
    ids=str,
)
async def test_jsz_accounts(system: Client, options: dict[str, Any], shown: bool) -> None:
    """Which account is shown."""
    assert ("account_details" in (await ask(system, "$SYS.REQ.SERVER.PING.JSZ", **options))["data"]) == shown


class Three:
    """Cluster facts of a server that is one of three, led by another."""

    leader = "three"

    def meta(self) -> MetaCluster:
        return MetaCluster(
            name="cc",
            leader=self.leader,
            peer=peer_id(self.leader),
            replicas=[
                PeerInfo(name="two", current=True, active=5, peer=peer_id("two")),
                PeerInfo(name="three", offline=True, active=9, lag=4, peer=peer_id("three")),
            ],
            cluster_size=3,
            quorum_needed=2,
            snapshot=MetaSnapshot(pending_entries=3, pending_size=2955),
        )

    def problem(self) -> str | None:
        return "JetStream is not current with the meta leader"

    def ha_assets(self) -> int:
        return 2


async def test_cluster_facts(running: Server, system: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a cluster adds, as nats-server lays it out; who leads elsewhere isn't counted, and its leader alone answers."""
    assert running.jetstream is not None
    info = running.jetstream.api.streams.info

    def elsewhere(stream: Any, **options: Any) -> Any:
        found = info(stream, **options)
        if stream.name == "ORDERS":
            found.cluster = ClusterInfo(name="cc", raft_group="S-R3F-1", leader="three")
        return found

    monkeypatch.setattr(running.jetstream.api.streams, "info", elsewhere)
    running.cluster_facts = Three()
    data = (await ask(system, "$SYS.REQ.SERVER.PING.JSZ", streams=True, raft=True))["data"]

    assert data["meta_cluster"] == {
        "name": "cc",
        "leader": "three",
        "peer": peer_id("three"),
        "replicas": [
            {"name": "two", "current": True, "active": 5, "peer": peer_id("two")},
            {"name": "three", "current": False, "offline": True, "active": 9, "lag": 4, "peer": peer_id("three")},
        ],
        "cluster_size": 3,
        "quorum_needed": 2,
        "pending": 0,
        "pending_requests": 0,
        "pending_infos": 0,
        "snapshot": {"pending_entries": 3, "pending_size": 2955, "last_time": "0001-01-01T00:00:00Z"},
    }
    assert (data["ha_assets"], data["streams_leader"]) == (2, 1)
    assert data["account_details"][0]["stream_detail"][1]["stream_raft_group"] == "S-R3F-1"
    led = (await ask(system, "$SYS.REQ.SERVER.PING.JSZ", streams=True, stream_leader_only=True))["data"]
    assert [one["name"] for one in led["account_details"][0]["stream_detail"]] == ["EVENTS"]
    assert await replies(system, "$SYS.REQ.SERVER.PING.JSZ", b'{"leader_only":true}') == []
    Three.leader = "one"
    assert len(await replies(system, "$SYS.REQ.SERVER.PING.JSZ", b'{"leader_only":true}')) == 1
    health = (await ask(system, "$SYS.REQ.SERVER.PING.HEALTHZ"))["data"]
    assert (health["status_code"], health["error"]) == (503, "JetStream is not current with the meta leader")


@pytest.mark.parametrize(
    ("options", "code", "text"),
    [
        ({}, 200, None),
        ({"js-enabled-only": True}, 200, None),
        ({"account": "$G", "stream": "ORDERS", "consumer": "worker"}, 200, None),
        ({"account": "$G", "stream": "NO"}, 404, 'JetStream stream "NO" not found on account "$G"'),
        ({"account": "A"}, 404, 'JetStream account "A" not found'),
        (
            {"account": "$G", "stream": "ORDERS", "consumer": "no"},
            404,
            'JetStream consumer "no" not found for stream "ORDERS" on account "$G"',
        ),
        ({"stream": "ORDERS"}, 400, '"account" must not be empty when checking stream health'),
        ({"consumer": "worker"}, 400, '"stream" must not be empty when checking consumer health'),
    ],
    ids=str,
)
async def test_healthz(system: Client, options: dict[str, Any], code: int, text: str | None) -> None:
    """Codes and texts, as one line and as a list."""
    short = (await ask(system, "$SYS.REQ.SERVER.PING.HEALTHZ", **options))["data"]
    long = (await ask(system, "$SYS.REQ.SERVER.PING.HEALTHZ", **options, details=True))["data"]

    assert (short["status_code"], short.get("error")) == (code, text)
    assert long["status"] == ("ok" if text is None else "error")
    assert [error["error"] for error in long.get("errors", [])] == ([] if text is None else [text])


async def test_an_offline_stream_is_no_health(running: Server, system: Client) -> None:
    """Unless only the server or JetStream itself is asked about."""
    assert running.jetstream is not None
    running.jetstream.streams["ORDERS"].go_offline("damaged")
    health = (await ask(system, "$SYS.REQ.SERVER.PING.HEALTHZ"))["data"]
    enabled = (await ask(system, "$SYS.REQ.SERVER.PING.HEALTHZ", **{"js-enabled-only": True}))["data"]

    assert health["error"] == "JetStream stream '$G > ORDERS' could not be recovered"
    assert (health["status"], health["status_code"], enabled["status_code"]) == ("unavailable", 503, 200)


async def test_accounts(running: Server, system: Client) -> None:
    """Who is in an account, and what it holds."""
    common = await nats.connect(running.client_url)
    await common.subscribe("a")
    await common.flush()
    info = (await ask(system, "$SYS.REQ.ACCOUNT.$G.INFO"))["data"]
    own = (await ask(system, "$SYS.REQ.ACCOUNT.$SYS.INFO"))["data"]
    detail = (await ask(system, "$SYS.REQ.ACCOUNT.$G.JSZ", streams=True))["data"]

    assert (info["client_connections"], info["subscriptions"], info["jetstream_enabled"]) == (1, 1, True)
    assert (own["client_connections"], own["is_system"], own["jetstream_enabled"]) == (1, True, False)
    assert [one["name"] for one in detail["stream_detail"]] == ["EVENTS", "ORDERS"]
    for subject, text in (
        ("$SYS.REQ.ACCOUNT.A.INFO", "Account A does not exist"),
        ("$SYS.REQ.ACCOUNT.A.JSZ", 'account "A" not found'),
        ("$SYS.REQ.ACCOUNT.$SYS.JSZ", 'account "$SYS" not jetstream enabled'),
    ):
        assert (await ask(system, subject))["error"] == {"code": 500, "description": text}
    assert (await ask(system, "$SYS.REQ.SERVER.PING.ACCOUNTZ"))["data"]["accounts"] == ["$G", "$SYS"]
    await common.close()


async def test_connz(running: Server, system: Client) -> None:
    """The clients, sorted and filtered; what they are called, and who they are if that is asked."""
    common = await nats.connect(running.client_url, name="talker")
    for subject in ("a", "b"):
        await common.subscribe(subject)
    await common.publish("c", b"1234")
    await common.flush()

    async def names(**options: Any) -> list[str]:
        data = (await ask(system, "$SYS.REQ.SERVER.PING.CONNZ", **options))["data"]
        assert data["num_connections"] == len(data["connections"])
        return [one.get("name", "") for one in data["connections"]]

    (talker,) = (await ask(system, "$SYS.REQ.ACCOUNT.$G.CONNZ", auth=True))["data"]["connections"]
    assert (talker["name"], talker["account"], talker["subscriptions"]) == ("talker", "$G", 2)
    assert (talker["in_msgs"], talker["in_bytes"], talker["ip"], talker["lang"]) == (1, 4, "127.0.0.1", "python3")
    assert await names() == ["", "talker"]
    assert await names(sort="subs") == ["talker", ""]
    assert await names(sort="cid", offset=1) == ["talker"]
    assert await names(limit=1) == [""]
    assert await names(user="sys") == [""]
    assert await names(cid=talker["cid"]) == ["talker"]
    assert await names(state=1) == []
    answer = await ask(system, "$SYS.REQ.SERVER.PING.CONNZ", sort="x")
    assert answer["error"] == {"code": 500, "description": "invalid sorting option: x"}
    await common.close()


async def test_user_info(running: Server, system: Client) -> None:
    """Every account may ask who it is."""
    common = await nats.connect(running.client_url)

    assert (await ask(system, "$SYS.REQ.USER.INFO"))["data"] == {
        "user": "sys",
        "account": "$SYS",
        "account_name": "$SYS",
    }
    assert (await ask(common, "$SYS.REQ.USER.INFO"))["data"] == {"user": "", "account": "$G", "account_name": "$G"}
    await common.close()


@pytest.mark.parametrize("subject", ["$SYS.REQ.SERVER.PING.NOPE", "$SYS.REQ.SERVER.NOBODY.IDZ"])
async def test_nobody_there(system: Client, subject: str) -> None:
    """An unknown kind and another server's id."""
    with pytest.raises(NoRespondersError):
        await system.request(subject, timeout=10)


async def test_heartbeats_for_who_listens(running: Server, system: Client) -> None:
    """The counters come by themselves, also upon a request that names no inbox."""
    heard = await system.subscribe("$SYS.SERVER.*.STATSZ")
    first = await heard.next_msg(10)
    await system.publish("$SYS.REQ.SERVER.PING", b"")
    second = json.loads((await heard.next_msg(10)).data)

    assert first.subject == f"$SYS.SERVER.{running.server_id}.STATSZ"
    assert second["statsz"]["connections"] == 1


@pytest.mark.parametrize(
    ("subject", "kind", "err_code"),
    [
        ("INFO", "account_info_response", 10039),
        ("STREAM.LIST", "system_response", 10039),
        ("CONSUMER.INFO.S.C", "system_response", 10039),
        ("STREAM.LEADER.STEPDOWN.S", "system_response", 10039),
        ("DIRECT.GET.S", "system_response", 10039),
        ("NO", "system_response", 10039),
        ("ACCOUNT.PURGE.$G", "account_purge_response", 10050),
    ],
)
async def test_jetstream_api(system: Client, subject: str, kind: str, err_code: int) -> None:
    """The system account has no JetStream."""
    answer = await ask(system, f"$JS.API.{subject}")

    assert (answer["type"], answer["error"]["err_code"]) == (f"io.nats.jetstream.api.v1.{kind}", err_code)


@pytest.mark.parametrize("subject", ["META.LEADER.STEPDOWN", "SERVER.REMOVE", "ACCOUNT.STREAM.MOVE.$G.ORDERS"])
async def test_alone_the_cluster_is_not_spoken_of(system: Client, subject: str) -> None:
    """As by nats-server on its own: no answer, and not "no responders" either."""
    assert await replies(system, f"$JS.API.{subject}", b'{"peer":"x"}') == []


async def test_reports_are_loaded_when_somebody_asks() -> None:
    """A server that nobody asks doesn't pay for them."""
    program = "\n".join(
        (
            "import asyncio, sys, nats, streamd",
            "async def main():",
            "    async with streamd.Server() as server:",
            "        client = await nats.connect(server.client_url)",
            "        print('streamd.api.system' in sys.modules)",
            "        await client.request('$SYS.REQ.USER.INFO', timeout=10)",
            "        print('streamd.api.system' in sys.modules)",
            "        await client.close()",
            "asyncio.run(main())",
        )
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()

    assert out.split() == [b"False", b"True"]
