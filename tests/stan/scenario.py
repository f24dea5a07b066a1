"""One history of channels, clients and subscriptions, told to a real server, and what is known about it afterwards:
what its own monitoring says, what its subscribers heard, and which acks they sent."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from tests.stan.stan_peer import Stan, Sub

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamd.stan.importer.wire import Message
    from tests.stan.stan_peer import Peer

SLICE_MESSAGES = 4
#: Heartbeats that nobody answers do no harm within the run.
STREAMING = """
hb_interval: "10m"
file { slice_max_msgs: 4 }
store_limits { channels {
    "dropped": { max_msgs: 3 }
    "expired": { max_age: "1s" }
} }
"""
Facts = dict[str, Any]


def until(true: Callable[[], bool], *, seconds: float = 20) -> None:
    """Wait for a condition, with a deadline."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def play(peer: Peer) -> Facts:
    """Tells the history. Returns what is known; leaves the server running."""
    alpha, beta, gone = (Stan(peer.port, name) for name in ("alpha", "beta", "gone"))
    for number in range(10):
        alpha.publish("orders", f"order {number}".encode(), "answers.here" if number == 3 else "")
        beta.publish("dropped", b"d%d" % number)
    for name in ("a channel", "deep.er.name"):
        alpha.publish(name, bytes(range(256)))
        alpha.publish(name, b"")
    for number in range(5):
        beta.publish("expired", b"e%d" % number)
    wanted = {"orders": 10, "dropped": 3, "a channel": 2, "deep.er.name": 2}
    readers = {name: alpha.subscribe(name) for name in wanted}
    for name, count in wanted.items():
        heard = alpha.receive(readers[name], count)
        alpha.ack(readers[name], *heard[1:])
    subs = [*readers.values(), *durables(alpha, beta, gone), *queues(alpha, beta)]
    beta.subscribe("nothing in it")
    gone.close()
    until(lambda: peer.channel("expired")["msgs"] == 0)
    names = [*wanted, "expired", "nothing in it"]
    pending = {sub.ack_inbox: sorted(sub.pending) for sub in subs}
    until(lambda: agrees(peer, names, pending))
    for one in (alpha, beta):
        one.hang_up()
    return {
        "channels": {name: peer.channel(name) for name in names},
        "clients": peer.clients(),
        "messages": {name: [_message(one) for one in sub.heard] for name, sub in readers.items()},
        "pending": pending,
    }


def durables(alpha: Stan, beta: Stan, gone: Stan) -> list[Sub]:
    """Online, closed, resumed, unsubscribed, and left behind by a client."""
    online = alpha.subscribe("orders", durable="online", max_in_flight=5)
    assert alpha.receive(online, 5) == [1, 2, 3, 4, 5]
    alpha.ack(online, 3, 1)
    assert alpha.receive(online, 2) == [6, 7]
    closed = beta.subscribe("orders", durable="closed")
    beta.receive(closed, 10)
    beta.ack(closed, 10, 2, 4, 1, 9, 3)
    beta.leave(closed, unsubscribe=False)
    first = beta.subscribe("orders", durable="resumed", max_in_flight=2)
    assert beta.receive(first, 2) == [1, 2]
    beta.ack(first, 2)
    assert beta.receive(first, 1) == [3]
    beta.leave(first, unsubscribe=False)
    resumed = beta.subscribe("orders", durable="resumed", max_in_flight=4)
    assert beta.receive(resumed, 4) == [1, 3, 4, 5]
    beta.ack(resumed, 1, 4)
    assert beta.receive(resumed, 2) == [6, 7]
    ended = alpha.subscribe("orders", durable="ended")
    alpha.receive(ended, 10)
    alpha.leave(ended, unsubscribe=True)
    plain = beta.subscribe("orders")
    beta.receive(plain, 10)
    beta.leave(plain, unsubscribe=True)
    left = gone.subscribe("orders", durable="left", max_in_flight=3)
    assert gone.receive(left, 3) == [1, 2, 3]
    gone.ack(left, 2)
    gone.receive(left, 1)
    gone.subscribe("orders")
    return [online, closed, resumed, left]


def queues(alpha: Stan, beta: Stan) -> list[Sub]:
    """A group; a durable one whose member has left; a durable one whose last member has left."""
    member = alpha.subscribe("orders", queue="group")
    alpha.receive(member, 10)
    alpha.ack(member, 5, 6)
    stays = alpha.subscribe("orders", queue="team", durable="shared", max_in_flight=6)
    assert alpha.receive(stays, 6) == [1, 2, 3, 4, 5, 6]
    leaves = beta.subscribe("orders", queue="team", durable="shared")
    assert beta.receive(leaves, 4) == [7, 8, 9, 10]
    beta.ack(leaves, 7, 8, 9, 10)
    alpha.ack(stays, 2)
    beta.leave(leaves, unsubscribe=False)
    shadow = beta.subscribe("orders", queue="nobody", durable="shared")
    beta.receive(shadow, 10)
    beta.ack(shadow, 1, 2, 3, 10)
    beta.leave(shadow, unsubscribe=False)
    return [member, stays, shadow]


def agrees(peer: Peer, names: list[str], pending: dict[str, list[int]]) -> bool:
    """Whether the server has taken in all acks."""
    told = [sub for name in names for sub in peer.channel(name).get("subscriptions") or []]
    return all(len(pending.get(sub["ack_inbox"], ())) == sub["pending_count"] for sub in told)


def _message(one: Message) -> list[Any]:
    return [one.number(1), one.signed(5), one.text(3), one.raw(4).hex()]
