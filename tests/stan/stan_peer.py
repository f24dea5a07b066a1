"""A real nats-streaming-server on a store of its own, and a client of it that speaks the protocol by hand."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time
import urllib.parse
import urllib.request
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from streamd.stan.importer.wire import Message
from tests.interop.raw import Session

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

Value = int | str | bytes
FIRST = 4
READY = ("Streaming Server is ready", "http monitor on", "client connections on")


def encode(fields: dict[int, Value]) -> bytes:
    """A protobuf message; what is zero is left out."""
    out = b""
    for number, value in fields.items():
        if isinstance(value, int):
            out += varint(number << 3) + varint(value & (1 << 64) - 1) if value else b""
        elif value:
            raw = value.encode() if isinstance(value, str) else value
            out += varint(number << 3 | 2) + varint(len(raw)) + raw
    return out


def varint(value: int) -> bytes:
    """Seven bits a byte."""
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


class Peer:
    """The process. Its log, configuration and store are under one directory."""

    def __init__(self, program: Path, home: Path, streaming: str, *arguments: str) -> None:
        """`streaming` is what stands in the block beside id, store and dir."""
        self.home = home
        self.store = home / "store"
        self.log_path = home / "log"
        config = home / "stan.conf"
        lines = ["listen: 127.0.0.1:-1", 'http: "127.0.0.1:-1"', "streaming {", "id: test", "store: file"]
        config.write_text("\n".join([*lines, f'dir: "{self.store}"', streaming, "}"]))
        self.command = [str(program), "-c", str(config), *arguments]
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Peer:
        offset = self.log_path.stat().st_size if self.log_path.exists() else 0
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log, cwd=self.home)
        deadline = time.monotonic() + 30
        while not all(sign in (said := self.log(offset)) for sign in READY):
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.process.kill()
                self.process.wait()
                raise RuntimeError(f"nats-streaming-server did not get ready: {said}")
            time.sleep(0.02)
        self.http_port, self.port = (self._port(said, sign) for sign in READY[1:])
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop it as an operator does, so that everything is flushed."""
        assert self.process is not None
        self.process.send_signal(signal.SIGINT)
        self.process.wait(30)

    def log(self, offset: int = 0) -> str:
        """What it has logged from an offset in bytes on; it shows damaged records as they are, so any bytes may be there."""
        return self.log_path.read_bytes()[offset:].decode(errors="replace")

    @staticmethod
    def _port(said: str, what: str) -> int:
        found = re.search(rf"{what} 127\.0\.0\.1:(\d+)", said)
        assert found, said
        return int(found[1])

    def channel(self, name: str) -> dict[str, Any]:
        """What it says about a channel and its subscriptions."""
        query = urllib.parse.urlencode({"channel": name, "subs": 1})
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}/streaming/channelsz?{query}") as answer:
            found: dict[str, Any] = json.load(answer)
        return found

    def clients(self) -> list[dict[str, Any]]:
        """What it says about clients."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}/streaming/clientsz") as answer:
            found: list[dict[str, Any]] = json.load(answer).get("clients") or []
        return found


@dataclass
class Sub:
    """A subscription of the client below; `heard` are the messages it got, `pending` what it has not acked."""

    channel: str
    inbox: str
    ack_inbox: str = ""
    heard: list[Message] = field(default_factory=list)
    pending: set[int] = field(default_factory=set)


class Stan:
    """One STAN client on a connection of its own. Heartbeats are not answered: the server waits minutes for them."""

    def __init__(self, port: int, client_id: str) -> None:
        self.client_id = client_id
        self.conn_id = f"conn-{client_id}"
        self._session = Session(port)
        self._count = 0
        self._subs: dict[str, Sub] = {}
        # Protocol 1, pings every 5 seconds, 3 may be missed.
        fields: dict[int, Value] = {1: client_id, 2: f"_INBOX.{client_id}.hb", 3: 1, 4: self.conn_id, 5: 5, 6: 3}
        self.prefixes = self._ask("_STAN.discover.test", encode(fields))
        assert not self.prefixes.text(5), self.prefixes.text(5)

    def publish(self, channel: str, data: bytes, reply: str = "") -> None:
        """And wait until it is stored."""
        fields: dict[int, Value] = {1: self.client_id, 2: f"guid{self._count}", 3: channel, 4: reply, 5: data}
        answer = self._ask(f"{self.prefixes.text(1)}.{channel.replace(' ', '_')}", encode({**fields, 6: self.conn_id}))
        assert not answer.text(2), answer.text(2)

    def publish_to(self, channels: list[str], data: bytes) -> None:
        """One to each at once, and wait until all are stored."""
        self._count += 1
        inbox = f"_INBOX.{self.client_id}.{self._count}"
        self._session.sub(inbox, inbox)
        for channel in channels:
            fields: dict[int, Value] = {1: self.client_id, 2: "guid", 3: channel, 5: data, 6: self.conn_id}
            self._session.pub(f"{self.prefixes.text(1)}.{channel}", encode(fields), inbox)
        answers = self._session.gather(inbox, len(channels))
        self._session.unsub(inbox)
        assert [Message(one.payload).text(2) for one in answers] == [""] * len(channels)

    def subscribe(self, channel: str, *, durable: str = "", queue: str = "", max_in_flight: int = 100) -> Sub:
        """From the first message on, with an hour to ack."""
        self._count += 1
        sub = Sub(channel, f"_INBOX.{self.client_id}.{self._count}")
        self._session.sub(sub.inbox, sub.inbox)
        fields: dict[int, Value] = {1: self.client_id, 2: channel, 3: queue, 4: sub.inbox, 5: max_in_flight, 6: 3600}
        answer = self._ask(self.prefixes.text(2), encode({**fields, 7: durable, 10: FIRST}))
        assert not answer.text(3), answer.text(3)
        sub.ack_inbox = answer.text(2)
        return sub

    def receive(self, sub: Sub, count: int) -> list[int]:
        """The sequences of the next so many messages."""
        found = [Message(one.payload) for one in self._session.gather(sub.inbox, count)]
        assert len(found) == count
        sub.heard += found
        sequences = [one.number(1) for one in found]
        sub.pending |= set(sequences)
        return sequences

    def ack(self, sub: Sub, *sequences: int) -> None:
        """In this order."""
        for sequence in sequences:
            self._session.pub(sub.ack_inbox, encode({1: sub.channel, 2: sequence}))
            sub.pending.discard(sequence)
        self._session.flush()

    def leave(self, sub: Sub, *, unsubscribe: bool) -> None:
        """Unsubscribe, or close."""
        subject = self.prefixes.text(3 if unsubscribe else 6)
        answer = self._ask(subject, encode({1: self.client_id, 2: sub.channel, 3: sub.ack_inbox}))
        assert not answer.text(3), answer.text(3)

    def alive(self) -> bool:
        """Answers the PINGs of the NATS server, which hangs up on those who never do."""
        self._session.flush()
        return True

    def close(self) -> None:
        """As a client that says good-bye."""
        assert not self._ask(self.prefixes.text(4), encode({1: self.client_id})).text(1)
        self.hang_up()

    def hang_up(self) -> None:
        """Leave without a word; to the server it stays connected."""
        self._session.close()

    def _ask(self, subject: str, payload: bytes) -> Message:
        self._count += 1
        inbox = f"_INBOX.{self.client_id}.{self._count}"
        self._session.sub(inbox, inbox)
        self._session.pub(subject, payload, inbox)
        (answer,) = self._session.gather(inbox, 1)
        self._session.unsub(inbox)
        return Message(answer.payload)
