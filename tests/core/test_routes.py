"""Routes of the engine: two of them wired to each other in memory, as the cluster's transport wires them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from streamd import _engine

if TYPE_CHECKING:
    from streamd._engine import Event, Turn

CONNECT = b'CONNECT {"verbose":false}\r\n'


class Node:
    """One engine, what its clients were sent, and its events."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.engine = _engine.Engine()
        self.sent: dict[str, bytes] = {}
        self.events: list[Event] = []
        self.out: list[tuple[int, bytes | memoryview]] = []

    def client(self, owner: str, account: str = "A") -> int:
        conn = self.engine.open(owner, account, b"")
        self.feed(conn, CONNECT)
        connected = self.engine.connected(
            conn, account=account, verbose=False, pedantic=False, echo=True, headers=True, no_responders=True
        )
        self.turn(connected)
        self.events.clear()
        return conn

    def feed(self, conn: int, data: bytes | memoryview) -> None:
        self.turn(self.engine.feed(conn, data, len(data)))

    def turn(self, turn: Turn) -> None:
        outputs, events = turn or ([], [])
        self.events += events
        for owner, data in outputs:
            if isinstance(owner, str):
                self.sent[owner] = self.sent.get(owner, b"") + data
            else:
                self.out.append((owner[0], data))


class Pair:
    """Two nodes; each route's owner is a list with the conn at the other end."""

    def __init__(self) -> None:
        self.nodes = (Node("left"), Node("right"))
        self.left, self.right = self.nodes

    def wire(self, account: str | None = None, without: tuple[str, ...] = ()) -> list[int]:
        owners: list[list[int]] = [[], []]
        conns = [node.engine.open_route(owner) for node, owner in zip(self.nodes, owners, strict=True)]
        for node, owner, conn, other, peer in zip(
            self.nodes, owners, conns, reversed(conns), reversed(self.nodes), strict=True
        ):
            owner.append(other)
            node.engine.route_ready(conn, server_id=peer.name, account=account, without=without)
        self.pump()
        return conns

    def pump(self) -> None:
        moved = True
        while moved:
            moved = False
            for node, peer in zip(self.nodes, reversed(self.nodes), strict=True):
                node.turn(node.engine.flush())
                out, node.out = node.out, []
                for conn, data in out:
                    moved = True
                    peer.feed(conn, data)

    def feed(self, node: Node, conn: int, data: bytes) -> None:
        node.feed(conn, data)
        self.pump()


def test_request_and_reply_across() -> None:
    """The requester's inbox is known where the answer is given, although it subscribed just before."""
    pair = Pair()
    pair.wire()
    requester, responder = pair.left.client("q"), pair.right.client("r")
    request = b"SUB in.* 1\r\nPUB help in.1 1\r\n?\r\n"
    pair.feed(pair.left, requester, request)
    assert pair.left.sent.pop("q").startswith(b"HMSG in.1 1 36 36\r\nNATS/1.0 503\r\n")
    pair.feed(pair.right, responder, b"SUB help 7\r\n")
    pair.feed(pair.left, requester, b"PUB help in.2 1\r\n?\r\n")
    assert pair.right.sent.pop("r") == b"MSG help 7 in.2 1\r\n?\r\n"
    pair.feed(pair.right, responder, b"HPUB in.2 12 13\r\nNATS/1.0\r\n\r\n!\r\n")
    assert pair.left.sent.pop("q") == b"HMSG in.2 1 12 13\r\nNATS/1.0\r\n\r\n!\r\n"


def test_taps_are_members_and_what_the_server_publishes_crosses() -> None:
    """Services of one server hear clients of the other; a group with a member at home stays there."""
    pair = Pair()
    right, left = pair.right.engine, pair.left.engine
    tap = right.tap("$SYS")
    right.tap_add(tap, "api.>", "workers")
    pair.wire()
    client = pair.left.client("c", "$SYS")
    pair.feed(pair.left, client, b"PUB api.x re 2\r\nhi\r\n")
    batch = right.take(tap)
    assert batch is not None
    assert [(batch[0].subject, batch[0].reply, batch[0].payload)] == [("api.x", "re", b"hi")]
    assert batch[0].conn == right.routes()[0]["conn"]
    assert left.publish("$SYS", "api.y", b"x") == 1
    assert left.publish("other", "api.y", b"x") == 0
    pair.feed(pair.left, client, b"SUB api.* workers 1\r\n")
    left.publish("$SYS", "api.z", b"home")
    pair.pump()
    batch = right.take(tap)
    assert batch is not None
    assert [batch[index].subject for index in range(len(batch))] == ["api.y"]
    assert pair.left.sent["c"] == b"MSG api.z 1 4\r\nhome\r\n"


def test_watches_count_what_other_servers_want() -> None:
    """A consumer's deliver subject may be subscribed to anywhere."""
    pair = Pair()
    conns = pair.wire()
    watch = pair.left.engine.watch("A", "deliver")
    client = pair.right.client("c")
    pair.feed(pair.right, client, b"SUB deliver 1\r\n")
    assert (_engine.INTEREST, watch, True) in pair.left.events
    assert pair.left.engine.interested(watch)
    figures = pair.left.engine.routes()
    assert [(row["conn"], row["subscriptions"], row["out_msgs"]) for row in figures] == [(conns[0], 1, 0)]
    pair.left.engine.close(conns[0])
    pair.pump()
    assert (_engine.INTEREST, watch, False) in pair.left.events
    assert pair.left.engine.routes() == []


def test_greetings_are_events_and_the_rest_waits_for_ready() -> None:
    """Nothing of a stranger is applied before the handshake is through, and nothing of it is lost then."""
    node = Node("n")
    client = node.client("c")
    node.feed(client, b"SUB a 1\r\n")
    route = node.engine.open_route("route")
    node.feed(route, b'INFO {"server_id":"P"}\r\nCONNECT {"name":"P"}\r\nPING\r\nRS+ A b\r\nRMSG A a 2\r\nhi\r\n')
    assert node.events == [(_engine.INFO, route, b'{"server_id":"P"}'), (_engine.CONNECT, route, b'{"name":"P"}')]
    assert node.sent == {}
    node.engine.route_welcome(route)
    node.turn(node.engine.flush())
    assert node.sent == {"route": b"PONG\r\n"}
    node.engine.route_ready(route, server_id="P")
    node.turn(node.engine.flush())
    assert node.sent == {"route": b"PONG\r\nRS+ A a\r\n", "c": b"MSG a 1 2\r\nhi\r\n"}
    assert node.engine.publish("A", "b") == 1


@pytest.mark.parametrize(
    ("sent", "answer", "reason"),
    [
        (b"-ERR 'Duplicate Server Name'\r\n", b"", "Duplicate Server Name"),
        (b"RMSG A\r\n", b"-ERR 'Parser Error'\r\n", "Parse Error"),
        (b"SUB a 1\r\n", b"-ERR 'Parser Error'\r\n", "Parse Error"),
    ],
)
def test_why_a_route_ends(sent: bytes, answer: bytes, reason: str) -> None:
    """The peer's own word, or a line that says nothing."""
    node = Node("n")
    route = node.engine.open_route("route")
    node.engine.route_ready(route, server_id="P")
    node.feed(route, sent)
    assert node.sent.get("route", b"") == answer
    assert node.events == [(_engine.CLOSE, route, reason)]


def test_lanes_share_the_accounts_of_one_peer() -> None:
    """Raft's account has its own connection; both ends tell interest and messages on the one that carries them."""
    pair = Pair()
    system = pair.wire("$SYS")
    rest = pair.wire(None, ("$SYS",))
    tap = pair.right.engine.tap("$SYS")
    pair.right.engine.tap_add(tap, "frames")
    client = pair.right.client("c")
    pair.feed(pair.right, client, b"SUB frames 1\r\n")
    subscriptions = {row["conn"]: row["subscriptions"] for row in pair.left.engine.routes()}
    assert subscriptions == {system[0]: 1, rest[0]: 1}
    for account in ("$SYS", "A"):
        assert pair.left.engine.publish(account, "frames", b"x" * 300_000) == 1
    pair.pump()
    assert {row["conn"]: row["in_bytes"] for row in pair.right.engine.routes()} == {
        system[1]: 300_000,
        rest[1]: 300_000,
    }
