"""Three servers that form a cluster on the loopback. Guarantee: entering returns when the cluster serves
clients, leaving ends all processes. All kinds of servers get the same configuration text.
Not here: what is measured on them (cluster.py, failover.py)."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, TypeVar

from benchmarks.ports import free_ports
from benchmarks.server import Process, Software, Streaming, jetstream_block, streaming_block
from benchmarks.wire import LOOPBACK, BenchError, Client

if TYPE_CHECKING:
    from pathlib import Path

Found = TypeVar("Found")

NAMES = ("a", "b", "c")
NAME = "bench"
STREAM = "S"
#: How long a cluster may take to elect, to heal, to catch up.
PATIENCE_SECONDS = 120
#: How long one question to one node may take: it may have no leader to ask.
ANSWER_SECONDS = 2
POLL_SECONDS = 0.005


@dataclass(frozen=True)
class Place:
    """Where one node is: its directory, and its ports for clients, routes and monitoring.

    `prefix` is what starts a program on its host, where that isn't just this machine.
    """

    name: str
    home: Path
    port: int
    route_port: int
    monitor_port: int
    host: str = LOOPBACK
    prefix: tuple[str, ...] = ()


def on_loopback(home: Path) -> list[Place]:
    """Directories below `home`, and free ports."""
    ports = iter(free_ports(3 * len(NAMES)))
    return [Place(name, home / name, next(ports), next(ports), next(ports)) for name in NAMES]


#: The configuration of a node, for its place and those of the others.
Text = Callable[[Place, list[Place]], str]


def replicated(place: Place, others: list[Place], sync: str | None = None) -> str:
    """JetStream on each node. `sync` is the text of `sync_interval`; None leaves each server its default."""
    return head(place, others) + jetstream_block(place.home / "store", sync)


def streamed(place: Place, others: list[Place], store: Streaming = Streaming.SYNCED) -> str:
    """NATS Streaming on each node."""
    peers = ", ".join(f'"{other.name}"' for other in others)
    inner = f'  cluster {{ node_id: "{place.name}", peers: [{peers}], log_path: "{place.home / "raft"}" }}\n'
    return head(place, others) + streaming_block(place.home / "store", store.value + inner)


def head(place: Place, others: list[Place]) -> str:
    routes = ", ".join(f'"nats-route://{other.host}:{other.route_port}"' for other in others)
    return (
        f'listen: "{place.host}:{place.port}"\nhttp: "{place.host}:{place.monitor_port}"\nserver_name: {place.name}\n'
        f'cluster {{\n  name: {NAME}\n  listen: "{place.host}:{place.route_port}"\n  routes: [{routes}]\n}}\n'
    )


class Node(Process):
    """One server of the cluster."""

    def __init__(self, software: Software, place: Place, text: str) -> None:
        self.name = place.name
        self.host = place.host
        self.monitor_port = place.monitor_port
        command = (*place.prefix, *software.command)
        super().__init__(Software(software.name, command), place.home, place.port, text)

    @property
    def url(self) -> str:
        return f"nats://{self.host}:{self.port}"

    def ask(self, path: str) -> dict[str, Any]:
        """A page of the monitoring. Errors: OSError where it doesn't answer."""
        with urllib.request.urlopen(f"http://{self.host}:{self.monitor_port}{path}", timeout=ANSWER_SECONDS) as page:
            return dict(json.loads(page.read()))

    def client(self) -> Client:
        return Client(self.port, ANSWER_SECONDS, self.host)


class Trio:
    """A cluster. `streaming`: what serves its clients is NATS Streaming, otherwise JetStream."""

    def __init__(self, software: Software, places: list[Place], text: Text, *, streaming: bool = False) -> None:
        self.software = software
        self.streaming = streaming
        self.nodes = [
            Node(software, place, text(place, [other for other in places if other is not place])) for place in places
        ]

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            for node in self.nodes:
                stack.callback(node.kill)
                node.spawn()
            for node in self.nodes:
                node.wait_ready()
            self.wait_serving()
            stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        for node in self.nodes:
            node.kill()

    def wait_serving(self) -> None:
        """Until there is a leader and all three nodes are in the cluster."""
        if self.streaming:
            self.until("leader that every node knows", self._answered_everywhere)
            return

        def formed() -> bool:
            with self.nodes[0].client() as client:
                client.create_stream("formed", "formed", replicas=len(NAMES))
                client.request("$JS.API.STREAM.DELETE.formed")
            return True

        self.until("stream of three replicas", formed)

    def _answered_everywhere(self) -> bool:
        """Whether a client of any node would find NATS Streaming: its leader answers, if only that this is no request."""
        leader = self.leader()
        if leader is None:
            return False
        subject = f"_STAN.discover.{leader.ask('/streaming/serverz')['cluster_id']}"
        for node in self.nodes:
            with node.client() as client:
                client.ask(subject, b"")
        return True

    def until(self, what: str, condition: Callable[[], Found | None], seconds: float = PATIENCE_SECONDS) -> Found:
        """The first true answer of a condition. What a server refuses or doesn't answer may yet come.

        Errors: BenchError with the last reason, or if a node that should run has ended.
        """
        deadline = time.monotonic() + seconds
        reason = ""
        while time.monotonic() < deadline:
            try:
                if found := condition():
                    return found
            except (BenchError, OSError, ValueError) as error:
                reason = f": {error}"
            for node in self.nodes:
                if node.process is not None:
                    node.must_live()
            time.sleep(POLL_SECONDS)
        raise BenchError(f"{self.software.name}: no {what} within {seconds} s{reason}")

    def leader(self) -> Node | None:
        """Who leads what serves the clients: NATS Streaming, or the stream S. None while nobody does."""
        return self.streaming_leader() if self.streaming else self.stream_leader(STREAM)

    def streaming_leader(self) -> Node | None:
        running = [node for node in self.nodes if node.runs]
        leaders = [node for node in running if node.ask("/streaming/serverz").get("role") == "Leader"]
        return leaders[0] if len(leaders) == 1 else None

    def stream_leader(self, stream: str) -> Node | None:
        running = [node for node in self.nodes if node.runs]
        name = self.cluster(running[0], stream).get("leader")
        return next((node for node in running if node.name == name), None)

    def led(self) -> Node:
        return self.until("leader", self.leader)

    def others(self, node: Node) -> list[Node]:
        return [other for other in self.nodes if other is not node]

    def create_stream(self) -> None:
        """The stream S of subjects `s.>` on all three nodes, with a leader."""

        def created() -> bool:
            with self.nodes[0].client() as client:
                client.create_stream(STREAM, "s.>", replicas=len(NAMES))
            return True

        self.until("stream", created)
        self.led()

    def cluster(self, node: Node, stream: str = STREAM) -> dict[str, Any]:
        """The replicas of a stream, as one node is told."""
        with node.client() as client:
            return dict(client.request(f"$JS.API.STREAM.INFO.{stream}").get("cluster") or {})

    def caught_up(self) -> bool:
        """Whether every node has all that is stored."""
        if self.streaming:
            return self.leader() is not None and len({tuple(last_sequences(node)) for node in self.nodes}) == 1
        return self.replicas_current(STREAM)

    def replicas_current(self, stream: str) -> bool:
        """Whether the leader of a stream has two followers that lack nothing."""
        leader = self.stream_leader(stream)
        if leader is None:
            return False
        replicas = self.cluster(leader, stream).get("replicas") or []
        current = [one for one in replicas if one.get("current") and not one.get("offline") and not one.get("lag")]
        return len(current) == len(NAMES) - 1


def last_sequences(node: Node) -> list[tuple[str, int]]:
    """Each channel with its last sequence, as this node has them."""
    channels = node.ask("/streaming/channelsz?subs=1").get("channels") or []
    return sorted((one["name"], one["last_seq"]) for one in channels)
