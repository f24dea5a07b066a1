"""NATS Streaming spoken by hand over nats-py: what no client library lets a test say or see.

Shapes: a client answers heartbeats and notes everything it is sent; nothing is acked unless the test does it.
"""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

import nats
from google.protobuf.message import Message

from streamd.stan.schema_pb2 import (
    Ack,
    CloseRequest,
    CloseResponse,
    ConnectRequest,
    ConnectResponse,
    First,
    MsgProto,
    Ping,
    PingResponse,
    PubAck,
    PubMsg,
    SubscriptionRequest,
    SubscriptionResponse,
    UnsubscribeRequest,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from nats.aio.client import Client as Nats
    from nats.aio.msg import Msg

CLUSTER: Final = "test-cluster"
CONNECT: Final = f"_STAN.discover.{CLUSTER}"
PING: Final = f"_STAN.discover.{CLUSTER}.pings"
#: Publishes are told apart by what they hold, so that one subject serves channels that no subject can name.
PUBLISH: Final = f"_STAN.pub.{CLUSTER}.x"
SUBSCRIBE: Final = f"_STAN.sub.{CLUSTER}"
UNSUBSCRIBE: Final = f"_STAN.unsub.{CLUSTER}"
CLOSE_SUBSCRIPTION: Final = f"_STAN.subclose.{CLUSTER}"
CLOSE: Final = f"_STAN.close.{CLUSTER}"

Answer = TypeVar("Answer", bound=Message)


class Refused(Exception):
    """The server's error text."""


def octets(name: str | bytes) -> bytes:
    """What a client names, on the wire."""
    return name.encode() if isinstance(name, str) else name


def field(number: int, value: str | bytes) -> bytes:
    """One length-delimited protobuf field, whatever its bytes are. `number` below 16, less than 16 KiB."""
    data = octets(value)
    size = bytes([len(data)]) if len(data) < 128 else bytes([len(data) & 127 | 128, len(data) >> 7])
    return bytes([number << 3 | 2]) + size + data


def checked(answer: Answer) -> Answer:
    """An answer without an error. Errors: Refused."""
    text: str = getattr(answer, "error")  # noqa: B009 - not every message has it
    if text:
        raise Refused(text)
    return answer


async def refusal(call: Awaitable[object]) -> str:
    """The text that a call is refused with. Errors: AssertionError if it isn't."""
    try:
        await call
    except Refused as error:
        return str(error)
    raise AssertionError("it was not refused")


class Stan:
    """One client id on a connection of nats-py."""

    def __init__(self, nats: Nats, client_id: str) -> None:
        self.nats = nats
        self.client_id = client_id
        self.conn_id = secrets.token_bytes(8)
        self.inbox = f"_INBOX.{secrets.token_hex(8)}"
        self.heartbeats = 0
        self._acks = f"_STAN.acks.{secrets.token_hex(8)}"
        self._waiting: dict[str, asyncio.Future[PubAck]] = {}

    @classmethod
    async def connect(cls, url: str | list[str], client_id: str = "me", **options: Any) -> Self:
        """A connection of its own, registered. Errors: Refused."""
        client = await cls.nats_only(url, client_id=client_id, **options)
        try:
            await client.register()
        except BaseException:
            await client.nats.close()
            raise
        return client

    @classmethod
    async def nats_only(cls, url: str | list[str], conn_id: bytes = b"", client_id: str = "me", **options: Any) -> Self:
        """A connection that isn't registered, or was: then conn_id is the incarnation that goes on."""
        options.setdefault("allow_reconnect", False)
        client = cls(await nats.connect(url, **options), client_id)
        client.conn_id = conn_id or client.conn_id
        await client.nats.subscribe(f"{client.inbox}.hb", cb=client._on_heartbeat)
        await client.nats.subscribe(client._acks, cb=client._on_ack)
        return client

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        """The NATS connection ends; to the server the client is silent from now on."""
        await self.nats.close()

    async def ask(self, subject: str, payload: bytes, kind: type[Answer], seconds: float = 10) -> Answer:
        """A request as bytes, and its answer as it is."""
        return kind.FromString((await self.nats.request(subject, payload, seconds)).data)

    async def register(self) -> None:
        """Connect under the client id. Errors: Refused."""
        request = ConnectRequest(
            clientID=self.client_id.encode(),
            heartbeatInbox=f"{self.inbox}.hb".encode(),
            protocol=1,
            connID=self.conn_id,
            pingInterval=1,
            pingMaxOut=60,
        )
        checked(await self.ask(CONNECT, request.SerializeToString(), ConnectResponse))

    async def ping(self) -> str:
        """The error, "" if the server knows this incarnation."""
        answer = await self.ask(PING, Ping(connID=self.conn_id).SerializeToString(), PingResponse)
        return answer.error

    async def close(self) -> None:
        """Unregister. Errors: Refused."""
        request = CloseRequest(clientID=self.client_id.encode())
        checked(await self.ask(CLOSE, request.SerializeToString(), CloseResponse))

    async def _on_heartbeat(self, msg: Msg) -> None:
        self.heartbeats += 1
        await msg.respond(b"")

    # publishing

    def publish_bytes(self, channel: str | bytes, data: bytes = b"", *, guid: str = "", reply: str = "") -> bytes:
        """A PubMsg of this client. The channel's bytes are written as they are, UTF-8 or not."""
        rest = PubMsg(clientID=self.client_id, guid=guid, reply=reply, data=data, connID=self.conn_id)
        return field(3, channel) + rest.SerializeToString()

    async def start(self, channel: str | bytes, data: bytes = b"", *, reply: str = "") -> asyncio.Future[PubAck]:
        """Publish without waiting for the ack."""
        guid = secrets.token_hex(8)
        self._waiting[guid] = future = asyncio.get_running_loop().create_future()
        await self.nats.publish(PUBLISH, self.publish_bytes(channel, data, guid=guid, reply=reply), self._acks)
        return future

    async def publish(self, channel: str | bytes, *datas: bytes | str, reply: str = "", seconds: float = 20) -> None:
        """Publish, and wait until all of it is acked. Errors: Refused."""
        futures = [await self.start(channel, octets(data), reply=reply) for data in datas]
        async with asyncio.timeout(seconds):
            for future in futures:
                checked(await future)

    async def _on_ack(self, msg: Msg) -> None:
        ack = PubAck.FromString(msg.data)
        waiting = self._waiting.pop(ack.guid, None)
        if waiting is not None:
            waiting.set_result(ack)

    # subscribing

    async def subscribe(
        self,
        channel: str | bytes,
        start: int = First,
        *,
        durable: str = "",
        queue: str = "",
        inbox: str = "",
        max_in_flight: int = 1000,
        ack_seconds: int = 30,
        sequence: int = 0,
    ) -> Heard:
        """From the first message unless told otherwise. Errors: Refused."""
        heard = Heard(self, octets(channel), inbox or f"{self.inbox}.{secrets.token_hex(4)}")
        await self.nats.subscribe(heard.inbox, cb=heard._on_message)
        request = SubscriptionRequest(
            clientID=self.client_id.encode(),
            subject=octets(channel),
            qGroup=queue.encode(),
            inbox=heard.inbox.encode(),
            maxInFlight=max_in_flight,
            ackWaitInSecs=ack_seconds,
            durableName=durable.encode(),
            startPosition=start,  # type: ignore[arg-type]
            startSequence=sequence,
        )
        answer = checked(await self.ask(SUBSCRIBE, request.SerializeToString(), SubscriptionResponse))
        heard.ack_inbox = answer.ackInbox
        return heard


class Heard:
    """A subscription, and what it was sent that the test has not taken yet."""

    def __init__(self, client: Stan, channel: bytes, inbox: str) -> None:
        self.client = client
        self.channel = channel
        self.inbox = inbox
        self.ack_inbox = ""
        self._text = channel.decode(errors="replace").encode() == channel
        self.messages: asyncio.Queue[MsgProto] = asyncio.Queue()

    async def _on_message(self, msg: Msg) -> None:
        data = msg.data
        if not self._text:
            # Protobuf would refuse such a name; that it is the right one is seen here.
            assert field(2, self.channel) in data
            data = data.replace(field(2, self.channel), b"", 1)
        self.messages.put_nowait(MsgProto.FromString(data))

    async def take(self, count: int, seconds: float = 20) -> list[MsgProto]:
        """The next messages."""
        async with asyncio.timeout(seconds):
            return [await self.messages.get() for _ in range(count)]

    async def sequences(self, count: int) -> list[int]:
        """Of the next messages, acked."""
        taken = [message.sequence for message in await self.take(count)]
        await self.ack(*taken)
        return taken

    async def ack(self, *sequences: int) -> None:
        """Acks, each on its own."""
        for sequence in sequences:
            payload = field(1, self.channel) + Ack(sequence=sequence).SerializeToString()
            await self.client.nats.publish(self.ack_inbox, payload)

    async def close(self) -> None:
        """End it; a durable's place stays. Errors: Refused."""
        await self._end(CLOSE_SUBSCRIPTION)

    async def unsubscribe(self) -> None:
        """End it, with its place. Errors: Refused."""
        await self._end(UNSUBSCRIBE)

    async def _end(self, subject: str) -> None:
        request = UnsubscribeRequest(
            clientID=self.client.client_id.encode(), subject=self.channel, inbox=self.ack_inbox.encode()
        )
        checked(await self.client.ask(subject, request.SerializeToString(), SubscriptionResponse))
