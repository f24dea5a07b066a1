"""Clients of a simulated cluster: they publish, consume and ask as users do, at whichever server they are connected to.

Guarantee:  they see only what crosses the bus of that server; when it dies, they go to another one and try again.
"""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from streamd.config.models import SYSTEM_ACCOUNT
from streamd.core.access import DEFAULT_ACCOUNT
from streamd.sim.clock import MS, SECOND

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamd._engine import Batch, Message
    from streamd.core.bus import Binding
    from streamd.sim.full_node import FullNode
    from streamd.sim.full_world import FullWorld

#: As long as a client waits for an answer.
TIMEOUT_NS: Final = 3 * SECOND
#: An operator is less patient.
API_NS: Final = SECOND
PULL_NS: Final = 400 * MS


class Client:
    """A connection to one server at a time, with an inbox in each of its accounts."""

    accounts: tuple[str, ...] = (DEFAULT_ACCOUNT,)

    def __init__(self, world: FullWorld, name: str) -> None:
        self.world = world
        self.name = name
        self._node: FullNode | None = None
        self._bindings: list[Binding] = []
        self._waiting: dict[str, Callable[[Message | None], None]] = {}
        self._count = 0

    @property
    def done(self) -> bool:
        """Whether the work is to end."""
        return self.world.time.now_ns >= self.world.works_until_ns

    def later(self, low_ms: float, high_ms: float, call: Callable[[], None]) -> None:
        """Call after a random while."""
        self.world.time.after(int(self.world.rng.uniform(low_ms, high_ms) * MS), call)

    def request(
        self,
        subject: str,
        payload: bytes,
        done: Callable[[Message | None], None],
        *,
        headers: bytes = b"",
        account: str = DEFAULT_ACCOUNT,
        timeout_ns: int = TIMEOUT_NS,
    ) -> None:
        """Ask; `done` hears the answer, or None."""
        inbox = self._inbox()
        self._waiting[inbox] = done
        self.world.time.after(timeout_ns, partial(self._answered, inbox, None))
        self._publish(subject, payload, inbox, headers, account)

    def listen(self, subject: str, payload: bytes, heard: Callable[[Message], None], *, for_ns: int) -> None:
        """Ask, and hear what comes for a while, whatever its subject is."""
        node = self._connected()
        if node is None:
            return
        inbox = self._inbox()

        def each(batch: Batch) -> None:
            for index in range(len(batch)):
                heard(batch[index])

        binding = node.bus.bind([f"{self.name}.{inbox}"], each)
        self.world.time.after(for_ns, binding.close, node.machine.life)
        if node.clock.running:
            node.bus.publish(subject, payload, reply=f"{self.name}.{inbox}")

    def publish(self, subject: str, payload: bytes) -> None:
        """Say something without an answer."""
        self._publish(subject, payload, "", b"")

    def _inbox(self) -> str:
        self._count += 1
        return f"_INBOX.{self.name}.{self._count}"

    def _publish(
        self, subject: str, payload: bytes, reply: str, headers: bytes, account: str = DEFAULT_ACCOUNT
    ) -> None:
        node = self._connected()
        if node is not None and node.clock.running:
            node.bus.publish(subject, payload, reply=reply, headers=headers, account=account)

    def _connected(self) -> FullNode | None:
        """The server, another one if that is gone, or sometimes just so."""
        world = self.world
        if self._node is not None and self._node.machine.process is self._node and world.rng.random() > 0.02:
            return self._node
        if self._node is not None and self._node.machine.process is self._node:
            for binding in self._bindings:
                binding.close()
        nodes = world.nodes()
        self._node = world.rng.choice(nodes) if nodes else None
        self._bindings = []
        if self._node is not None:
            bind, inboxes = self._node.bus.bind, [f"_INBOX.{self.name}.*"]
            self._bindings = [bind(inboxes, self._heard, account=account) for account in self.accounts]
        return self._node

    def _heard(self, batch: Batch) -> None:
        for index in range(len(batch)):
            self._answered(batch[index].subject, batch[index])

    def _answered(self, inbox: str, message: Message | None) -> None:
        done = self._waiting.pop(inbox, None)
        if done is not None:
            done(message)


class Publisher(Client):
    """Publishes one after another, or several at once; whatever isn't acked is published again under its message id."""

    def __init__(self, world: FullWorld, name: str, window: int) -> None:
        super().__init__(world, name)
        self.window = window
        self._number = 0

    def start(self) -> None:
        """Begin."""
        for _ in range(self.window):
            self._next()

    def _next(self) -> None:
        if not self.done:
            self._number += 1
            self._try(self._number)

    def _try(self, number: int) -> None:
        message_id = f"{self.name}-{number}"
        self.world.counts["published"] += 1
        self.world.history.sent(message_id)
        self.request(
            f"orders.{self.name}",
            message_id.encode(),
            partial(self._acked, number, message_id),
            headers=b"NATS/1.0\r\nNats-Msg-Id: %b\r\n\r\n" % message_id.encode(),
        )

    def _acked(self, number: int, message_id: str, message: Message | None) -> None:
        world = self.world
        answer = None if message is None or not message.payload else json.loads(message.payload)
        if answer is not None and "error" not in answer:
            world.history.acked(self.name, number, message_id, answer["seq"], in_order=self.window == 1)
            world.counts["acked, duplicate" if answer.get("duplicate") else "acked"] += 1
            self.later(1, 20, self._next)
            return
        world.counts["acks missing" if answer is None else "publishes refused"] += 1
        if world.time.now_ns < world.works_until_ns + SECOND:
            self.later(20, 200, partial(self._try, number))


class Consumer(Client):
    """Pulls, and acks most of what it gets: some of it only once, and some so that it is told when that is safe."""

    def start(self) -> None:
        """Begin, and go on until the world ends."""
        world = self.world
        pulled_ns = world.time.now_ns
        body = json.dumps({"batch": 40, "expires": PULL_NS}).encode()
        heard = partial(self._message, pulled_ns)
        self.listen("$JS.API.CONSUMER.MSG.NEXT.ORDERS.C", body, heard, for_ns=PULL_NS + SECOND)
        self.later(PULL_NS // MS / 4, PULL_NS // MS, self.start)

    def _message(self, pulled_ns: int, message: Message) -> None:
        if not message.reply.startswith("$JS.ACK."):
            return
        world = self.world
        sequence = int(message.reply.split(".")[-4])
        world.history.delivered(sequence, message.payload, pulled_ns)
        world.counts["delivered"] += 1
        draw = world.rng.random()
        if draw < 0.45:
            self.publish(message.reply, b"+ACK")
        elif draw < 0.9:
            self.request(message.reply, b"+ACK", partial(self._confirmed, sequence))

    def _confirmed(self, sequence: int, message: Message | None) -> None:
        if message is not None and not message.headers:
            self.world.counts["acks confirmed"] += 1
            self.world.history.confirmed(sequence, self.world.time.now_ns)


class Operator(Client):
    """Makes the stream and its consumer, then moves leaders about and makes and removes other streams."""

    accounts = (DEFAULT_ACCOUNT, SYSTEM_ACCOUNT)

    def __init__(self, world: FullWorld, name: str) -> None:
        super().__init__(world, name)
        self._streams = 0

    def start(self) -> None:
        """Make what the others work with."""
        config = {"name": "ORDERS", "subjects": ["orders.>"], "num_replicas": 3, "duplicate_window": 120 * SECOND}
        self._until_there("STREAM.CREATE.ORDERS", config, self._consumer)

    def _consumer(self) -> None:
        config = {"durable_name": "C", "ack_policy": "explicit", "ack_wait": SECOND, "max_ack_pending": 100}
        body = {"stream_name": "ORDERS", "config": config | {"num_replicas": 3}}
        self._until_there("CONSUMER.DURABLE.CREATE.ORDERS.C", body, self._ready)

    def _ready(self) -> None:
        self.world.ready()
        self._next()

    def _until_there(self, what: str, body: dict[str, Any], done: Callable[[], None]) -> None:
        """Ask again until it succeeds."""
        again = partial(self.later, 50, 200, partial(self._until_there, what, body, done))
        self._api(what, body, lambda answer: done() if answer is not None and "error" not in answer else again())

    def _api(self, what: str, body: dict[str, Any], done: Callable[[dict[str, Any] | None], None]) -> None:
        payload = json.dumps(body).encode() if body else b""

        def answered(message: Message | None) -> None:
            answer = json.loads(message.payload) if message is not None and message.payload else None
            kind = "unanswered" if answer is None else "refused" if "error" in answer else "answered"
            self.world.counts[f"requests {kind}"] += 1
            if kind == "answered" and "LEADER.STEPDOWN" in what:
                self.world.counts["leaders moved" if what.startswith("STREAM.") else "meta leaders moved"] += 1
            done(answer)

        account = SYSTEM_ACCOUNT if what.startswith("META.") else DEFAULT_ACCOUNT
        self.request(f"$JS.API.{what}", payload, answered, account=account, timeout_ns=API_NS)

    def _next(self) -> None:
        if self.done:
            return
        draw = self.world.rng.random()
        if draw < 0.2:
            self._api("STREAM.LEADER.STEPDOWN.ORDERS", {}, self._again)
        elif draw < 0.3:
            self._api("META.LEADER.STEPDOWN", {}, self._again)
        elif draw < 0.6:
            self._make()
        else:
            self._api("CONSUMER.INFO.ORDERS.C", {}, self._again)

    def _again(self, _answer: dict[str, Any] | None) -> None:
        self.later(50, 500, self._next)

    def _make(self) -> None:
        """Another stream, which goes away again, sometimes."""
        self._streams += 1
        name = f"S{self._streams}"
        replicas = self.world.rng.choice((1, 3))
        config = {"name": name, "subjects": [f"{name}.>"], "num_replicas": replicas}

        def made(answer: dict[str, Any] | None) -> None:
            if answer is not None and "error" not in answer:
                self.world.history.streams[name] = replicas
                if self.world.rng.random() < 0.5:
                    self.world.history.streams.pop(name)
                    self._api(f"STREAM.DELETE.{name}", {}, self._again)
                    return
            self._again(answer)

        self._api(f"STREAM.CREATE.{name}", config, made)
