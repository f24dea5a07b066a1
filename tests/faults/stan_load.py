"""Clients of NATS Streaming at work, which note what they were promised, against a server that may vanish at any moment.

What a client can know without being told: a publish that is acked was in a commit, and a commit takes along the state of
every subscription as it was then. So what a client had heard before it sent such a publish is stored as sent; and what it
had acked before the publish before that is stored as acked, as acks come in at the latest while that one is stored.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections import defaultdict
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from streamd.stan.schema_pb2 import (
    Ack,
    ConnectRequest,
    ConnectResponse,
    First,
    MsgProto,
    PubAck,
    PubMsg,
    SubscriptionRequest,
    SubscriptionResponse,
)
from tests.faults.wire import Message, Wire
from tests.monitor.asking import ask
from tests.stan.servers import CLUSTER, StanServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

CHANNELS: Final = ("plain", "shared", "big", "fence")
#: No client is asked within a test whether it lives.
STREAMING: Final = 'hb_interval: "10m"'


class Watched(StanServer):
    """A server whose monitoring can be asked."""

    def __init__(self, directory: Path, streaming: str) -> None:
        super().__init__(directory, streaming)
        self.arguments += ["-m", "-1"]

    @property
    def monitor_port(self) -> int:
        """Of this life."""
        ports = json.loads(next(self.directory.glob(f"*_{self.pid}.ports")).read_text())
        return int(ports["monitoring"][0].rsplit(":", 1)[1])


def stream(channel: str) -> str:
    """What a channel is stored in."""
    return f"STAN_{channel}"


class Ledger:
    """What the server promised to publishers."""

    def __init__(self) -> None:
        self.acked: dict[str, set[bytes]] = defaultdict(set)  # channel → payloads
        self.refused: list[str] = []
        self.acks = 0
        self.more = asyncio.Event()  # set at every ack

    def ack(self, channel: str, payload: bytes, error: str) -> None:
        """A publish was answered."""
        if error:
            self.refused.append(f"{channel}: {payload[:30]!r}: {error}")
            return
        self.acked[channel].add(payload)
        self.acks += 1
        self.more.set()


class GroupLedger:
    """What one durable or queue group heard, and what it may hear again."""

    def __init__(self, channel: str) -> None:
        self.channel = channel
        self.heard: dict[int, bytes] = {}  # sequence → payload
        self.sent: set[int] = set()  # is stored as sent: it comes again flagged or not at all
        self.confirmed: set[int] = set()  # is stored as acked: it never comes again
        self.faults: list[str] = []

    def deliver(self, sequence: int, payload: bytes, *, redelivered: bool) -> None:
        """A member got a message."""
        if sequence in self.confirmed:
            self.faults.append(f"{self.channel} {sequence} came again after its ack was stored")
        elif sequence in self.sent and not redelivered:
            self.faults.append(f"{self.channel} {sequence} came again as new after it was stored as sent")
        if self.heard.setdefault(sequence, payload) != payload:
            self.faults.append(f"{self.channel} {sequence} was {self.heard[sequence][:30]!r}, then {payload[:30]!r}")


class Client:
    """A client id with its connection id, which stays the same over all lives of the server."""

    def __init__(self, name: str, ledger: Ledger) -> None:
        self.name = name
        self.ledger = ledger
        self._acks = f"_STAN.acks.{name}"
        self._next = 0
        self._waiting: dict[str, tuple[str, bytes]] = {}  # guid → channel and payload

    async def register(self, port: int) -> None:
        """Connect, once for all lives."""
        request = ConnectRequest(
            clientID=self.name.encode(), heartbeatInbox=b"hb", protocol=1, connID=self.name.encode()
        )
        async with await Wire.connect(port) as wire:
            found = await wire.request(f"_STAN.discover.{CLUSTER}", request.SerializeToString())
        answer = ConnectResponse.FromString(found.payload)
        assert not answer.error, answer.error

    def begin(self, wire: Wire) -> None:
        """A new life: what was under way is not known, and not sent again."""
        wire.subscribe(self._acks)
        self._waiting.clear()

    def publish(self, wire: Wire, channel: str, size: int) -> None:
        """One message more, with its number."""
        payload = f"{self.name}:{self._next}:".encode() + b"." * size
        guid = f"{self.name}-{self._next}"
        self._next += 1
        self._waiting[guid] = channel, payload
        message = PubMsg(clientID=self.name, guid=guid, subject=channel, data=payload, connID=self.name.encode())
        wire.publish(f"_STAN.pub.{CLUSTER}.{channel}", message.SerializeToString(), self._acks)

    def answered(self, message: Message) -> PubAck | None:
        """The answer to a publish, which is noted, if a message is that."""
        if message.subject != self._acks:
            return None
        ack = PubAck.FromString(message.payload)
        self.ledger.ack(*self._waiting.pop(ack.guid), ack.error)
        return ack

    async def run(self, port: int) -> None:
        """Work until the connection ends."""
        raise NotImplementedError


class Publisher(Client):
    """Keeps a window of publishes unanswered."""

    def __init__(self, name: str, ledger: Ledger, channel: str, *, window: int, size: int) -> None:
        super().__init__(name, ledger)
        self._channel = channel
        self._window = window
        self._size = size

    async def run(self, port: int) -> None:
        """Until the connection ends."""
        async with await Wire.connect(port) as wire:
            self.begin(wire)
            self._fill(wire)
            while (message := await wire.next()) is not None:
                self.answered(message)
                self._fill(wire)

    def _fill(self, wire: Wire) -> None:
        while len(self._waiting) < self._window:
            self.publish(wire, self._channel, self._size)


class Subscriber(Client):
    """A durable, or a member of a durable queue group. Acks most messages; and publishes, to know what is stored."""

    def __init__(self, name: str, ledger: Ledger, group: GroupLedger, *, queue: str, in_flight: int) -> None:
        super().__init__(name, ledger)
        self.group = group
        self.finishing = False
        self._queue = queue
        self._in_flight = in_flight
        self._inbox = f"inbox.{name}"
        self._ack_inbox = ""
        self._chance = random.Random(name)
        self._heard: list[int] = []  # since the last publish
        self._acked: list[int] = []

    async def subscribe(self, port: int) -> None:
        """Once for all lives."""
        request = SubscriptionRequest(
            clientID=self.name.encode(), subject=self.group.channel.encode(), qGroup=self._queue.encode(),
            inbox=self._inbox.encode(), maxInFlight=self._in_flight, ackWaitInSecs=1, durableName=b"durable",
            startPosition=First,
        )  # fmt: skip
        async with await Wire.connect(port) as wire:
            found = await wire.request(f"_STAN.sub.{CLUSTER}", request.SerializeToString())
        answer = SubscriptionResponse.FromString(found.payload)
        assert not answer.error, answer.error
        self._ack_inbox = answer.ackInbox

    async def run(self, port: int) -> None:
        """Until the connection ends."""
        async with await Wire.connect(port) as wire:
            self.begin(wire)
            wire.subscribe(self._inbox)
            last = 0
            self._heard, self._acked = [], []
            sent, acked = self._fence(wire)
            before: list[int] = []
            while (message := await wire.next()) is not None:
                if (answer := self.answered(message)) is not None:
                    if answer.error:
                        return  # nothing is stored any more
                    self.group.sent.update(sent)
                    self.group.confirmed.update(before)
                    before = acked
                    sent, acked = self._fence(wire)
                    continue
                found = MsgProto.FromString(message.payload)
                self.group.deliver(found.sequence, found.data, redelivered=found.redelivered)
                if not found.redelivered:
                    if found.sequence <= last:
                        self.group.faults.append(f"{self.group.channel} {found.sequence} came as new behind {last}")
                    last = found.sequence
                self._heard.append(found.sequence)
                if self.finishing or found.redelivered or self._chance.random() > 1 / 8:
                    ack = Ack(subject=self.group.channel, sequence=found.sequence)
                    wire.publish(self._ack_inbox, ack.SerializeToString())
                    self._acked.append(found.sequence)

    def _fence(self, wire: Wire) -> tuple[list[int], list[int]]:
        """Publish. Returns what was heard and acked before."""
        heard, acked = self._heard, self._acked
        self._heard, self._acked = [], []
        self.publish(wire, "fence", 10)
        return heard, acked


class StanLoad:
    """Publishers, alone and many at once; a durable, a durable queue group of two, and a durable of big messages."""

    def __init__(self, *, lone: bool = False) -> None:
        """`lone`: publishers wait for each ack, so that commits are as small as they can be."""
        self.ledger = ledger = Ledger()
        plain, shared, big = self.groups = [GroupLedger(channel) for channel in ("plain", "shared", "big")]
        self.publishers = [
            Publisher("p1", ledger, "plain", window=1 if lone else 200, size=100),
            Publisher("p2", ledger, "plain", window=1, size=10),
            Publisher("p3", ledger, "shared", window=1 if lone else 50, size=500),
            Publisher("p4", ledger, "big", window=1 if lone else 4, size=20_000),
        ]
        self.subscribers = [
            Subscriber("durable", ledger, plain, queue="", in_flight=2000),
            Subscriber("member1", ledger, shared, queue="workers", in_flight=100),
            Subscriber("member2", ledger, shared, queue="workers", in_flight=100),
            Subscriber("slow", ledger, big, queue="", in_flight=5),
        ]

    async def set_up(self, port: int) -> None:
        """Connect and subscribe."""
        for client in (*self.publishers, *self.subscribers):
            await client.register(port)
        for subscriber in self.subscribers:
            await subscriber.subscribe(port)

    @asynccontextmanager
    async def running(self, server: Watched) -> AsyncIterator[None]:
        """Everybody at work; the body kills the server, and what it had sent before is still taken in."""
        tasks = [asyncio.create_task(client.run(server.port)) for client in (*self.publishers, *self.subscribers)]
        try:
            yield
            await asyncio.wait_for(asyncio.gather(*tasks), 20)
        finally:
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
        for result in results:
            if isinstance(result, Exception):
                raise result

    async def acks(self, more: int) -> None:
        """Wait for so many acks more."""
        wanted = self.ledger.acks + more
        async with asyncio.timeout(30):
            while self.ledger.acks < wanted:
                self.ledger.more.clear()
                await self.ledger.more.wait()

    async def finish(self, server: Watched, stored: dict[str, dict[int, bytes]]) -> list[str]:
        """Consume everything that is left. Returns what was never heard, or stays without an ack."""
        for subscriber in self.subscribers:
            subscriber.finishing = True
        tasks = [asyncio.create_task(subscriber.run(server.port)) for subscriber in self.subscribers]
        left = ["not looked at yet"]
        try:
            async with asyncio.timeout(60):
                while left:
                    await asyncio.sleep(0.05)
                    left = [line for group in self.groups for line in await unsettled(server, group, stored)]
        except TimeoutError:
            pass
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return left


async def unsettled(server: Watched, group: GroupLedger, stored: dict[str, dict[int, bytes]]) -> list[str]:
    """What a group still has to do, by its own account and the server's."""
    found = await ask(server.monitor_port, f"/streaming/channelsz?channel={group.channel}&subs=1")
    channel = json.loads(found.raw)
    lines = [
        f"{group.channel}: {view['pending_count']} pending, {view['last_sent']} of {channel['last_seq']} sent"
        for view in channel["subscriptions"]
        if view["pending_count"] or view["last_sent"] < channel["last_seq"]
    ]
    never = stored[group.channel].keys() - group.heard.keys()
    return lines + ([f"{group.channel}: {len(never)} never heard, such as {min(never)}"] if never else [])
