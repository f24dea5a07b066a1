"""Three real servers, and disasters: stores that are gone or damaged, a quorum that is gone for good, a cut."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import pytest

from benchmarks.trio import STREAM, Node, Trio, on_loopback, replicated
from benchmarks.wire import BenchError
from streamd.store import Environment, StreamLog, TailCache, recover
from streamd.streams.journals import META
from tests.faults import netns
from tests.trio import STREAMD

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ALONE: Final = "ALONE"


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Trio]:
    """Three servers with a stream of three replicas."""
    with Trio(STREAMD, on_loopback(tmp_path), replicated) as trio:
        trio.create_stream()
        yield trio


def store(node: Node) -> Path:
    """Where its store lies."""
    return node.home / "store" / "jetstream"


def publish(trio: Trio, acked: list[bytes], count: int, nodes: list[Node] | None = None) -> None:
    """Store so many messages, through any of the nodes."""
    for number in range(count):
        payload = b"%d of %d: " % (number, count) + os.urandom(8).hex().encode() * 20

        def stored(number: int = number, payload: bytes = payload) -> bool:
            running = [node for node in nodes or trio.nodes if node.runs]
            with running[number % len(running)].client() as client:
                answer: dict[str, Any] = json.loads(client.ask("s.x", payload))
            return "error" not in answer

        trio.until("ack", stored, 60)
        acked.append(payload)


def contents(node: Node, stream: str = STREAM) -> list[bytes]:
    """All records that a stopped server has of a stream."""
    environment = Environment.open(store(node))
    try:
        for stored in recover(environment):
            if json.loads(stored.definition)["name"] == stream:
                return StreamLog(environment, TailCache(), stored.stream).read(1, 1 << 30, 1 << 40)
    finally:
        environment.close()
    return []


def all_equal(trio: Trio, acked: list[bytes]) -> None:
    """Once all have caught up they have the same records, and what was acked is among them in order."""
    trio.until("replicas that lack nothing", lambda: trio.replicas_current(STREAM), 60)
    trio.until("equal replicas", lambda: len({last_sequence(node) for node in trio.nodes}) == 1, 60)
    for node in trio.nodes:
        node.stop()
    first, *others = [contents(node) for node in trio.nodes]
    assert [len(other) for other in others] == [len(first)] * len(others)
    assert others == [first] * len(others)
    rest = iter(first)
    assert all(any(payload in record for record in rest) for payload in acked)


def last_sequence(node: Node) -> int:
    """What a running server has applied of the stream; its log may hold more."""
    (account,) = node.ask("/jsz?accounts=1&streams=1")["account_details"]
    return next(int(one["state"]["last_seq"]) for one in account["stream_detail"] if one["name"] == STREAM)


def came_back(node: Node) -> None:
    """Start it again."""
    node.spawn()
    node.wait_ready()


def test_wiped_servers_rejoin(cluster: Trio) -> None:
    """The leader first, then another; messages are stored meanwhile."""
    acked: list[bytes] = []
    publish(cluster, acked, 200)
    leader = cluster.led()
    for node in (leader, cluster.others(leader)[0]):
        node.kill()
        shutil.rmtree(store(node))
        publish(cluster, acked, 50)
        came_back(node)
        publish(cluster, acked, 50)
        cluster.until("equal replicas", lambda: cluster.replicas_current(STREAM), 60)
    all_equal(cluster, acked)


def test_damaged_store_is_set_aside(cluster: Trio) -> None:
    """The log says what was found, where the store went, and what was only there."""
    acked: list[bytes] = []
    publish(cluster, acked, 100)

    def created() -> bool:
        with cluster.nodes[0].client() as client:
            client.create_stream(ALONE, "alone", replicas=1)
        return True

    cluster.until("stream", created)
    node = cluster.until("its server", partial(home_of, cluster, ALONE))
    node.stop()
    environment = Environment.open(store(node))
    stored = next(each for each in recover(environment) if json.loads(each.definition)["name"] == META)
    entry = StreamLog(environment, TailCache(), stored.stream).read(1, 1)[0]
    environment.close()
    data = store(node) / "data.mdb"
    data.write_bytes(data.read_bytes().replace(entry, entry[:-1] + bytes([entry[-1] ^ 1])))
    publish(cluster, acked, 20)
    came_back(node)
    publish(cluster, acked, 20)
    log = node.log.read_text()
    assert "it is set aside as" in log
    assert f"lost from service with {store(node)}.damaged-" in log
    assert ALONE in log
    all_equal(cluster, acked)


def home_of(trio: Trio, stream: str) -> Node | None:
    """The server that has a stream alone."""
    return trio.stream_leader(stream)


def test_flipped_stores_heal(cluster: Trio) -> None:
    """Bits and sectors of one store after another, and the cluster is whole again each time."""
    chance = random.Random(7)
    acked: list[bytes] = []
    publish(cluster, acked, 100)
    for _ in range(4):
        node = chance.choice(cluster.nodes)
        node.kill()
        data = store(node) / "data.mdb"
        used = len(data.read_bytes().rstrip(b"\0"))
        with data.open("r+b") as file:
            for _ in range(6):
                file.seek(chance.randrange(0, used, 512))
                file.write(chance.randbytes(chance.choice([1, 512])))
        publish(cluster, acked, 20)
        came_back(node)
        publish(cluster, acked, 20)
        cluster.until("replicas that lack nothing", lambda: cluster.replicas_current(STREAM), 60)
        cluster.until("equal replicas", lambda: len({last_sequence(each) for each in cluster.nodes}) == 1, 60)
    assert any("it is set aside as" in node.log.read_text() for node in cluster.nodes)
    all_equal(cluster, acked)


def test_recover(cluster: Trio) -> None:
    """Two of three are destroyed; the one that is left is made the cluster, and new servers join it."""
    acked: list[bytes] = []
    publish(cluster, acked, 100)
    cluster.until("equal replicas", lambda: cluster.replicas_current(STREAM), 60)
    survivor, *gone = cluster.nodes
    refused = streamd("recover", "-c", str(survivor.config), at=survivor)
    assert refused.returncode == 1
    assert "is in use by process" in refused.stderr
    for node in gone:
        node.kill()
        shutil.rmtree(store(node))
    survivor.kill()
    report = streamd("recover", "-c", str(survivor.config), at=survivor)
    assert report.returncode == 0, report.stderr
    for text in ("node a#", "META", "voters ", f"{STREAM}: last sequence", "What may be lost", "nothing was changed"):
        assert text in report.stdout
    found = json.loads(streamd("recover", "--store-dir", str(survivor.home / "store"), "--json", at=survivor).stdout)
    assert [stream["last_seq"] for stream in found["streams"] if stream["name"] == STREAM] == [len(acked)]
    for text in ("done: this server is a#", "nothing to do"):
        done = streamd("recover", "-c", str(survivor.config), "--apply", at=survivor)
        assert done.returncode == 0, done.stderr
        assert text in done.stdout
    came_back(survivor)
    publish(cluster, acked, 50)
    for node in gone:
        came_back(node)
        publish(cluster, acked, 20)
    all_equal(cluster, acked)


def streamd(*arguments: str, at: Node) -> subprocess.CompletedProcess[str]:
    """A command of streamd."""
    command = [sys.executable, "-m", "streamd", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, cwd=at.home)


def test_minority_of_a_cut_refuses(tmp_path: Path) -> None:
    """The leader is cut off from the others while clients reach it: it says why it stores nothing, and loses nothing."""
    if missing := netns.unavailable():
        pytest.skip(missing)
    with netns.Links() as links, Trio(STREAMD, links.places(tmp_path), replicated) as cluster:
        cluster.create_stream()
        acked: list[bytes] = []
        publish(cluster, acked, 50)
        leader = cluster.led()
        others = cluster.others(leader)
        for other in others:
            links.cut(leader.name, other.name)
            links.cut(other.name, leader.name)

        def refused() -> bool:
            with leader.client() as client:
                client.sock.settimeout(10)
                answer = json.loads(client.ask("s.x", b"minority"))
            assert "seq" not in answer or "error" in answer
            return "voters can be reached from here" in answer["error"]["description"]

        cluster.until("refusal", refused, 30)
        publish(cluster, acked, 50, others)
        with leader.client() as client:
            client.sock.settimeout(10)
            with pytest.raises(BenchError, match="can be reached from here"):
                client.request("$JS.API.STREAM.NAMES")
        links.heal()
        all_equal(cluster, acked)
