"""`nats server …` of the system account, against streamd and against nats-server with the same configuration and streams."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import nats
import pytest
from anyio import to_thread
from nats.errors import NoRespondersError, TimeoutError

from benchmarks.server import Server, Software
from streamd import Server as StreamdServer
from streamd.api.cluster import PeerInfo, peer_id
from streamd.api.system import MetaCluster
from streamd.config.models import Config, JetStreamConfig, SystemUser
from tests.interop.test_cli import Cli

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

pytestmark = pytest.mark.interop

NAMES: Final = ("one", "two", "three")
ACCOUNTS: Final = "accounts { $SYS { users: [ {user: sys, password: pw} ] } }\nserver_tags: [x]\n"


@dataclass(frozen=True)
class Clis:
    """The command line for each server, as the system user and as a common client."""

    peer: Cli
    ours: Cli
    ours_common: Cli

    def both(self, *arguments: str, fails: bool = False) -> tuple[str, str]:
        """What a command says of each."""
        return self.peer(*arguments, fails=fails), self.ours(*arguments, fails=fails)


class System(Cli):
    """`nats` as the user of the system account."""

    def __init__(self, program: Path, port: int, home: Path) -> None:
        super().__init__(program, port, home)
        self.command += ["--user", "sys", "--password", "pw"]


async def fill(port: int) -> None:
    """Two streams, of which one is in memory, three consumers, ten messages."""
    client = await nats.connect(f"nats://127.0.0.1:{port}")
    js = client.jetstream()
    await js.add_stream(name="ORDERS", subjects=["orders.>"])
    await js.add_stream(name="EVENTS", subjects=["events.>"], storage="memory", max_bytes=100_000)
    for number in range(10):
        await js.publish("orders.a" if number < 7 else "events.a", b"x" * 100)
    for stream, name in (("ORDERS", "worker"), ("ORDERS", "other"), ("EVENTS", "third")):
        await js.add_consumer(stream, durable_name=name, ack_policy="explicit")
    await client.close()


@pytest.fixture(scope="module")
def clis(programs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clis]:
    """Both servers, filled alike."""
    home = tmp_path_factory.mktemp("system")
    software = (
        Software("nats-server", (str(programs / "nats-server"),)),
        Software("streamd", (sys.executable, "-m", "streamd")),
    )
    servers = [Server(one, home / one.name, jetstream=True) for one in software]
    for server in servers:
        with server.config.open("a") as config:
            config.write(ACCOUNTS)
    nats_program = programs / "nats"
    with servers[0], servers[1]:
        for server in servers:
            asyncio.run(fill(server.port))
        peer, ours = (System(nats_program, server.port, home) for server in servers)
        yield Clis(peer, ours, Cli(nats_program, servers[1].port, home))


def rows(table: str) -> list[list[str]]:
    """The cells of a table, line by line."""
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in table.splitlines() if line.startswith("│")]


def test_report_jetstream(clis: Clis) -> None:
    """Streams, consumers, messages, bytes, memory and file are the same; requests to the API too."""
    theirs, ours = map(rows, clis.both("server", "report", "jetstream"))

    assert ours == theirs
    assert ours[2][:5] == ["bench", "", "2", "3", "10"]


def test_list(clis: Clis) -> None:
    """One server, and one connection: the command's own."""
    theirs, ours = map(rows, clis.both("server", "list"))
    columns = [ours[1].index(name) for name in ("Name", "Cluster", "Host", "Version", "JS", "Conns", "Routes", "GWs")]

    assert ours[1] == theirs[1]
    assert [ours[2][column] for column in columns] == [theirs[2][column] for column in columns]


def test_ping(clis: Clis) -> None:
    """It answers."""
    assert re.match(r"bench +rtt=", clis.ours("server", "ping", "1"))


def test_info(clis: Clis) -> None:
    """What it is and what it holds, by name too."""
    peer, ours = clis.both("server", "info", "bench")
    for field in (
        "Version", "Auth Required", "Active Accounts", "Memory In Use", "File In Use", "Maximum Connections",
        "Maximum Payload", "Write Deadline", "Connections",
    ):  # fmt: skip
        pattern = rf"^ *{field}: (.*)$"
        theirs, found = re.search(pattern, peer, re.MULTILINE), re.search(pattern, ours, re.MULTILINE)
        assert theirs is not None
        assert found is not None
        assert found[1] == theirs[1], field
    assert "Always sync writes to disk: true" in ours


@pytest.mark.parametrize(
    ("arguments", "fails"),
    [
        (("connection",), False),
        (("server", "--name", "bench"), False),
        (("server", "--name", "bench", "--auth-required"), False),
        (("server", "--name", "bench", "--tls-required"), True),
        (("meta", "--expect", "1", "--lag-critical", "1", "--seen-critical", "1s"), True),
        (("jetstream",), True),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_check(clis: Clis, arguments: tuple[str, ...], fails: bool) -> None:
    """Healthy, or critical for the same reason."""
    theirs, ours = clis.both("server", "check", *arguments, fails=fails)
    verdict = re.compile(r"^\w+ [^|]*" if fails else r"^\w+ \w+")
    first, second = verdict.match(theirs), verdict.match(ours)

    assert first is not None
    assert second is not None
    assert second[0] == first[0]


def test_check_jetstream_of_a_common_client(clis: Clis) -> None:
    """The account that has streams."""
    assert "streams=2 " in clis.ours_common("server", "check", "jetstream")
    assert "OK ORDERS" in clis.ours_common("server", "check", "stream", "--stream", "ORDERS")


def test_health(clis: Clis) -> None:
    """As a report, and as a request."""
    theirs, ours = map(rows, clis.both("server", "report", "health"))

    assert ours == theirs


def test_reports_of_connections(clis: Clis) -> None:
    """Who is connected: the command itself."""
    for report in ("connections", "accounts"):
        theirs, ours = map(rows, clis.both("server", "report", report))
        assert ours[:2] == theirs[:2]
        assert len(ours) == len(theirs)
        assert "$SYS" in ours[2]


def requested(cli: Cli, *arguments: str) -> Any:
    """The data of a request, as the one server answers it."""
    return json.loads(cli("server", "request", *arguments))["data"]


def shape(value: Any) -> Any:
    """The names of all fields, and the types of their values."""
    if isinstance(value, dict):
        return {name: shape(one) for name, one in value.items()}
    if isinstance(value, list):
        return [shape(one) for one in value]
    return type(value).__name__


def test_request_jetstream(clis: Clis) -> None:
    """All details: the same fields of the same types; the figures are compared in the report."""
    arguments = ("jetstream", "--all")
    theirs, ours = requested(clis.peer, *arguments), requested(clis.ours, *arguments)
    for data in (theirs, ours):
        del data["config"], data["limits"]
        data["account_details"][0]["stream_detail"].sort(key=lambda stream: stream["name"])
        for stream in data["account_details"][0]["stream_detail"]:
            stream["consumer_detail"].sort(key=lambda consumer: consumer["name"])

    assert shape(ours) == shape(theirs)


class Led:
    """Cluster facts of a leader of three, of whom one is gone."""

    def meta(self) -> MetaCluster:
        return MetaCluster(
            name="cc",
            leader="one",
            peer=peer_id("one"),
            replicas=[
                PeerInfo(name="two", current=True, active=250_000_000, peer=peer_id("two")),
                PeerInfo(name="three", offline=True, active=90_000_000_000, lag=7, peer=peer_id("three")),
            ],
            cluster_size=3,
            quorum_needed=2,
        )

    def problem(self) -> str | None:
        return None

    def ha_assets(self) -> int:
        return 1


@pytest.mark.anyio
async def test_a_cluster_is_understood(programs: Path, tmp_path: Path) -> None:
    """The meta group, as the command line shows and checks it."""
    config = Config(
        host="127.0.0.1", port=-1, server_name="one", system_users=(SystemUser(user="sys", password="pw"),),
        jetstream=JetStreamConfig(store_dir=str(tmp_path)),
    )  # fmt: skip
    check = ("server", "check", "meta", "--expect", "3", "--lag-critical", "5", "--seen-critical", "10s")
    async with StreamdServer(config) as server:
        server.cluster_facts = Led()
        cli = System(programs / "nats", server.port, tmp_path)
        report = await to_thread.run_sync(cli, "server", "report", "jetstream")
        found = await to_thread.run_sync(lambda: cli(*check, fails=True))

    assert "RAFT Meta Group Information" in report
    meta = {cells[0]: cells for cells in rows(report) if len(cells) > 1 and cells[1] in map(peer_id, NAMES)}
    assert set(meta) == set(NAMES)
    assert meta["one"][2] == "yes"
    assert meta["three"][3:] == ["false", "false", "1m30s", "7"]
    assert "Crit:" in found
    assert "peers=3" in found


#: What the system account may ask of JetStream's API, and of a server, with what both answer alike.
SAME: Final = (
    ("$JS.API.INFO", ""),
    ("$JS.API.STREAM.LIST", ""),
    ("$JS.API.STREAM.CREATE.S", '{"name":"S"}'),
    ("$JS.API.CONSUMER.MSG.NEXT.S.C", ""),
    ("$JS.API.DIRECT.GET.S", ""),
    ("$JS.API.NO", ""),
    ("$JS.API.META.LEADER.STEPDOWN", ""),
    ("$JS.API.SERVER.REMOVE", '{"peer":"x"}'),
    ("$JS.API.ACCOUNT.STREAM.MOVE.$G.ORDERS", '{"server":"x"}'),
    ("$JS.API.ACCOUNT.STREAM.CANCEL_MOVE.$G.ORDERS", ""),
    ("$SYS.REQ.SERVER.PING", "xx"),
    ("$SYS.REQ.SERVER.PING.JSZ", '{"accounts":1}'),
    ("$SYS.REQ.SERVER.PING.JSZ", '{"tags":["X"],"limit":"x"}'),
    ("$SYS.REQ.SERVER.PING.VARZ", '{"server_name":"zz"}'),
    ("$SYS.REQ.SERVER.PING.VARZ", '{"tags":["y"]}'),
    ("$SYS.REQ.SERVER.PING.NO", ""),
    ("$SYS.REQ.SERVER.PING.HEALTHZ", '{"js-server-only":true,"details":true}'),
    ("$SYS.REQ.SERVER.PING.HEALTHZ", '{"account":"$G","stream":"NO"}'),
    ("$SYS.REQ.SERVER.PING.HEALTHZ", '{"account":"$G","stream":"ORDERS","consumer":"no","details":true}'),
    ("$SYS.REQ.SERVER.PING.HEALTHZ", '{"account":"$G","stream":"ORDERS","consumer":"worker"}'),
    ("$SYS.REQ.SERVER.PING.HEALTHZ", '{"stream":"ORDERS"}'),
    ("$SYS.REQ.SERVER.PING.HEALTHZ", '{"consumer":"worker","details":true}'),
    ("$SYS.REQ.ACCOUNT.NO.INFO", ""),
    ("$SYS.REQ.ACCOUNT.NO.JSZ", ""),
    ("$SYS.REQ.ACCOUNT.$SYS.JSZ", ""),
    ("$SYS.REQ.USER.INFO", ""),
)
#: The same for who isn't in the system account.
SAME_COMMON: Final = (
    ("$JS.API.META.LEADER.STEPDOWN", ""),
    ("$JS.API.STREAM.LEADER.STEPDOWN.ORDERS", ""),
    ("$JS.API.CONSUMER.LEADER.STEPDOWN.ORDERS.worker", ""),
    ("$JS.API.STREAM.PEER.REMOVE.ORDERS", '{"peer":"x"}'),
    ("$JS.API.STREAM.PEER.EVACUATE.ORDERS", '{"peer":"x"}'),
    ("$JS.API.STREAM.CANCEL_MOVE.ORDERS", ""),
    ("$JS.API.CONSUMER.PEER.REMOVE.ORDERS.worker", '{"peer":"x"}'),
    ("$JS.API.CONSUMER.PEER.EVACUATE.ORDERS.worker", '{"peer":"x"}'),
    ("$SYS.REQ.SERVER.PING", ""),
    ("$SYS.REQ.ACCOUNT.$G.INFO", ""),
)


async def answers(port: int, requests: Sequence[tuple[str, str]], user: str | None) -> list[Any]:
    """What each request is answered, without who answers: null for nobody there, "" for silence."""
    client = await nats.connect(f"nats://127.0.0.1:{port}", user=user, password="pw" if user else None)
    found: list[Any] = []
    for subject, body in requests:
        try:
            answer = json.loads((await client.request(subject, body.encode(), timeout=1)).data)
            answer.pop("server", None)
            if answer.get("data", 0) is None:
                del answer["data"]  # a null beside an error
            found.append(answer)
        except NoRespondersError:
            found.append(None)
        except TimeoutError:
            found.append("")
    await client.close()
    return found


@pytest.mark.anyio
@pytest.mark.parametrize(("requests", "user"), [(SAME, "sys"), (SAME_COMMON, None)], ids=["system", "common"])
async def test_answers_are_the_same(clis: Clis, requests: Sequence[tuple[str, str]], user: str | None) -> None:
    """Word for word."""
    ports = [int(cli.command[2].rpartition(":")[2]) for cli in (clis.peer, clis.ours)]
    theirs, ours = await asyncio.gather(*(answers(port, requests, user) for port in ports))

    assert dict(zip(requests, ours, strict=True)) == dict(zip(requests, theirs, strict=True))


def test_account_info(clis: Clis) -> None:
    """Who is asking."""
    theirs, ours = clis.both("account", "info")
    for field in ("User", "Account", "System Account", "Client IP", "Maximum Payload"):
        pattern = rf"^ *{field}: (.*)$"
        first, second = re.search(pattern, theirs, re.MULTILINE), re.search(pattern, ours, re.MULTILINE)
        assert first is not None
        assert second is not None
        assert second[1] == first[1], field
    assert re.search(r"System Account: false", clis.ours_common("account", "info"))


def test_a_common_client_may_not(clis: Clis) -> None:
    """The command says what is missing."""
    assert "ensure the account used has system privileges" in clis.ours_common(
        "server", "report", "jetstream", fails=True
    )
