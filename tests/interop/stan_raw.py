"""The STAN protocol spoken by hand, on top of the NATS session that writes down what it hears.

Shapes: a message is a list of (field number, value) — int is a varint, str and bytes are length-delimited; an answer is
{field name: value} with what the server makes up (ack inboxes, times) replaced by a word.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tests.interop.raw import Message, Session, difference

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.stan.servers import StanServer

Field = tuple[int, "int | str | bytes"]

CONNECT: Final = "_STAN.discover.test-cluster"
PING: Final = "_STAN.discover.test-cluster.pings"
PUB: Final = "_STAN.pub.test-cluster"
SUB: Final = "_STAN.sub.test-cluster"
UNSUB: Final = "_STAN.unsub.test-cluster"
SUBCLOSE: Final = "_STAN.subclose.test-cluster"
CLOSE: Final = "_STAN.close.test-cluster"

#: Fields of what the server says, by the kind of message.
ANSWERS: Final = {
    "ConnectResponse": {
        1: "pubPrefix",
        2: "subRequests",
        3: "unsubRequests",
        4: "closeRequests",
        5: "error",
        6: "subCloseRequests",
        7: "pingRequests",
        8: "pingInterval",
        9: "pingMaxOut",
        10: "protocol",
        100: "publicKey",
    },
    "PingResponse": {1: "error"},
    "PubAck": {1: "guid", 2: "error"},
    "SubscriptionResponse": {2: "ackInbox", 3: "error"},
    "CloseResponse": {1: "error"},
    "MsgProto": {
        1: "sequence",
        2: "subject",
        3: "reply",
        4: "data",
        5: "timestamp",
        6: "redelivered",
        7: "redeliveryCount",
        10: "CRC32",
    },
}
KINDS: Final = {
    CONNECT: "ConnectResponse",
    PING: "PingResponse",
    SUB: "SubscriptionResponse",
    UNSUB: "SubscriptionResponse",
    SUBCLOSE: "SubscriptionResponse",
    CLOSE: "CloseResponse",
}
#: A field of each wire type that no message has.
UNKNOWN: Final = b"\xf8\x7f\x07" + b"\xf9\x7f12345678" + b"\xfa\x7f\x03abc" + b"\xfd\x7f1234"


def varint(value: int) -> bytes:
    """A varint; negative numbers as 64 bits."""
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def encode(*fields: Field) -> bytes:
    """A protobuf message, exactly these fields in this order."""
    out = b""
    for number, value in fields:
        if isinstance(value, int):
            out += varint(number << 3) + varint(value)
        else:
            data = value.encode() if isinstance(value, str) else value
            out += varint(number << 3 | 2) + varint(len(data)) + data
    return out


def decode(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of a message that has only varints and length-delimited ones."""
    at = 0

    def number() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(data):
        key = number()
        if key & 7 == 0:
            yield key >> 3, number()
            continue
        assert key & 7 == 2, f"wire type {key & 7} in {data!r}"
        length = number()
        yield key >> 3, data[at : at + length]
        at += length


Answer = dict[str, "int | str | bool"]


def read(kind: str, data: bytes) -> Answer:
    """A message of a kind, with names."""
    names = ANSWERS[kind]
    found: Answer = {}
    for number, value in decode(data):
        found[names[number]] = value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else value
    return found


def connect(client: str, heartbeats: str, connection: bytes = b"", *more: Field) -> bytes:
    """A ConnectRequest; protocol 1 where there is a connID."""
    protocol: tuple[Field, ...] = ((3, 1), (4, connection)) if connection else ()
    return encode((1, client), (2, heartbeats), *protocol, *more)


def publish(client: str, guid: str, channel: str, data: str = "", connection: bytes = b"", *more: Field) -> bytes:
    """A PubMsg; empty fields are left out, as proto3 has it."""
    fields: list[Field] = [(1, client), (2, guid), (3, channel), (5, data), (6, connection)]
    return encode(*(field for field in fields if field[1]), *more)


def subscribe(
    client: str,
    channel: str,
    inbox: str,
    start: int = 4,
    *,
    queue: str = "",
    durable: str = "",
    in_flight: int = 100,
    ack_seconds: int = 30,
    more: tuple[Field, ...] = (),
) -> bytes:
    """A SubscriptionRequest, from the first message unless told otherwise; empty fields are left out."""
    fields: list[Field] = [(1, client), (2, channel), (3, queue), (4, inbox), (5, in_flight), (6, ack_seconds)]
    fields += [(7, durable), (10, start)]
    return encode(*(field for field in fields if field[1]), *more)


class Stan(Session):
    """A session that knows the STAN messages. What differs between two servers or two runs gets an alias."""

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self.acks = 0

    def call(self, subject: str, payload: bytes, what: str, seconds: float = 5) -> Answer | None:
        """A request and its answer, written down under `what`. None if none comes in time."""
        return self.result(self.post(subject, payload), subject, what, seconds)

    def post(self, subject: str, payload: bytes) -> str:
        """A request; its answer is waited for with result(). Returns its inbox."""
        self._inboxes += 1
        inbox = f"_r.{self._inboxes}"
        self.pub(subject, payload, inbox)
        return inbox

    def result(self, inbox: str, subject: str, what: str, seconds: float = 5) -> Answer | None:
        """The answer to a posted request."""
        found = self._await_reply(inbox, time.monotonic() + seconds)
        if found is None:
            self.note(f"{what} -> nothing")
            return None
        kind = KINDS.get(subject, "PubAck")
        answer = read(kind, found.payload)
        self.alias(answer)
        headers = f" {found.headers!r}" if found.headers else ""
        self.note(f"{what} -> {kind} {answer}{headers}")
        return answer

    def refused(self, subject: str, payload: bytes, text: str, what: str) -> None:
        """A request that is answered with this error and nothing else."""
        answer = self.call(subject, payload, what)
        assert answer is not None, what
        assert {key: value for key, value in answer.items() if key != "guid"} == {"error": text}, what

    def accepted(self, subject: str, payload: bytes, what: str) -> Answer:
        """A request that is answered without an error."""
        answer = self.call(subject, payload, what)
        assert answer is not None, what
        assert "error" not in answer, (what, answer)
        return answer

    def silent(self, subject: str, payload: bytes, fence: bytes, what: str) -> None:
        """A request that gets no answer: the next one, on the same subject, has its own first."""
        unheard = self.post(subject, payload)
        self.call(subject, fence, f"{what}, and the next")
        assert not [message for message in self.heard["_r"] if message.subject == unheard], what

    def join(self, client: str, connection: bytes) -> None:
        """Connect, with a heartbeat inbox that answers when somebody pumps."""
        self.sub(f"hb.{client}", f"hb.{client}")
        self.accepted(CONNECT, connect(client, f"hb.{client}", connection), f"connect {client}")

    def listen(self, inbox: str, payload: bytes, what: str) -> str:
        """Subscribe with a delivery inbox of this name. Returns the ack inbox."""
        self.sub(inbox, inbox)
        answer = self.accepted(SUB, payload, what)
        return str(answer["ackInbox"])

    def delivered(self, inbox: str, count: int) -> list[Answer]:
        """The next so many messages of a delivery inbox, written down."""
        deadline = time.monotonic() + 10
        while len(self.heard[inbox]) < count and time.monotonic() < deadline:
            self._receive(deadline)
        found = [read("MsgProto", message.payload) for message in self.heard[inbox][:count]]
        assert len(found) == count, (inbox, found)
        del self.heard[inbox][:count]
        for message in found:
            assert int(message["timestamp"]) > 10**18
            self.note(f"{inbox} heard { ({**message, 'timestamp': 'T'}) }")
        return found

    def beat(self, client: str) -> Message:
        """Wait for a heartbeat and answer it."""
        waiting = self.heard[f"hb.{client}"]
        deadline = time.monotonic() + 10
        while not waiting and time.monotonic() < deadline:
            self._receive(deadline)
        message = waiting.pop(0)
        self.pub(message.reply)
        self.note(f"heartbeat of {client}: {message.payload!r}")
        return message

    def alias(self, answer: Answer) -> None:
        """Ack inboxes are made up by the server."""
        if "ackInbox" in answer:
            self.acks += 1
            self.aliases[str(answer["ackInbox"])] = f"ack inbox {self.acks}"


@dataclass(frozen=True)
class StanPair:
    """nats-streaming-server and streamd, started with the same configuration."""

    peer: StanServer
    ours: StanServer

    def compare(self, program: Callable[[Stan], None]) -> None:
        """Run a program on both at once. Errors: AssertionError that shows where they differ."""

        def run(server: StanServer) -> list[str]:
            session = Stan(server.port)
            try:
                program(session)
                return session.told()
            finally:
                session.close()

        with ThreadPoolExecutor(2) as pool:
            theirs, ours = pool.map(run, (self.peer, self.ours))
        pairs = zip(theirs, ours, strict=False)
        wrong = [difference(one, other, "nats-streaming-server") for one, other in pairs if one != other]
        assert not wrong, "\n".join(wrong)
        assert len(theirs) == len(ours) > 0
