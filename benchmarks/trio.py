"""Three servers that form a cluster on the loopback. Guarantee: entering returns when the cluster serves
clients, leaving ends all processes. All kinds of servers get the same configuration text.
Not here: what is measured on them (cluster.py, failover.py)."""

from __future__ import annotations

import json
import socket
import time
import urllib.request
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Self, TypeVar

from benchmarks.server import Process, Software, Streaming, jetstream_block, streaming_block
from benchmarks.wire import BenchError, Client

if TYPE_CHECKING:
    from collections.abc import Callable
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


class Node(Process):
    """One server of the cluster."""

    def __init__(self, software: Software, home: Path, name: str, ports: tuple[int, int, int], text: str) -> None:
        self.name = name
        port, self.route_port, self.monitor_port = ports
        super().__init__(software, home, port, text)

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def ask(self, path: str) -> dict[str, Any]:
        """A page of the monitoring. Errors: OSError where it doesn't answer."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.monitor_port}{path}", timeout=ANSWER_SECONDS) as page:
            return dict(json.loads(page.read()))

    def client(self) -> Client:
        return Client(self.port, ANSWER_SECONDS)


class Trio:
    """A cluster with JetStream on each node or, with `streaming`, with NATS Streaming.

    `sync` is the text of JetStream's `sync_interval`; None leaves each server its default.
    """

    def __init__(
        self, software: Software, home: Path, *, sync: str | None = None, streaming: Streaming | None = None
    ) -> None:
        self.software = software
        self.streaming = streaming
        ports = free_ports(9)
        places = dict(zip(NAMES, zip(ports[0::3], ports[1::3], ports[2::3], strict=True), strict=True))
        self.nodes = []
        for name, (port, route_port, monitor_port) in places.items():
            at = home / name
            others = [other for other in NAMES if other != name]
            routes = ", ".join(f'"nats-route://127.0.0.1:{places[other][1]}"' for other in others)
            text = (
                f'listen: "127.0.0.1:{port}"\nhttp: "127.0.0.1:{monitor_port}"\nserver_name: {name}\n'
                f'cluster {{\n  name: {NAME}\n  listen: "127.0.0.1:{route_port}"\n  routes: [{routes}]\n}}\n'
            )
            if streaming is None:
                text += jetstream_block(at / "store", sync)
            else:
                peers = ", ".join(f'"{other}"' for other in others)
                inner = f'  cluster {{ node_id: "{name}", peers: [{peers}], log_path: "{at / "raft"}" }}\n'
                text += streaming_block(at / "store", streaming.value + inner)
            self.nodes.append(Node(software, at, name, (port, route_port, monitor_port), text))

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
        if self.streaming is not None:
            self.until("a leader", self.leader)
            return

        def formed() -> bool:
            with self.nodes[0].client() as client:
                client.create_stream("formed", "formed", replicas=len(NAMES))
                client.request("$JS.API.STREAM.DELETE.formed")
            return True

        self.until("a stream of three replicas", formed)

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
        """Who leads the stream S, or NATS Streaming; None while nobody does."""
        running = [node for node in self.nodes if node.runs]
        if self.streaming is not None:
            leaders = [node for node in running if node.ask("/streaming/serverz").get("role") == "Leader"]
            return leaders[0] if len(leaders) == 1 else None
        name = self.cluster(running[0]).get("leader")
        return next((node for node in running if node.name == name), None)

    def led(self) -> Node:
        return self.until("a leader", self.leader)

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
        if self.streaming is not None:
            return self.leader() is not None and len({tuple(last_sequences(node)) for node in self.nodes}) == 1
        leader = self.leader()
        if leader is None:
            return False
        replicas = self.cluster(leader).get("replicas") or []
        current = [one for one in replicas if one.get("current") and not one.get("offline") and not one.get("lag")]
        return len(current) == len(NAMES) - 1


def last_sequences(node: Node) -> list[tuple[str, int]]:
    """Each channel with its last sequence, as this node has them."""
    channels = node.ask("/streaming/channelsz?subs=1").get("channels") or []
    return sorted((one["name"], one["last_seq"]) for one in channels)


def free_ports(count: int) -> list[int]:
    """Different ones: all are held until the last is found."""
    with ExitStack() as stack:
        socks = [stack.enter_context(socket.socket()) for _ in range(count)]
        for sock in socks:
            sock.bind(("127.0.0.1", 0))
        return [sock.getsockname()[1] for sock in socks]
