"""A blocking client that speaks the protocol by hand and writes down what it hears so that servers can be compared.

Shapes: the transcript is a list of lines; what differs from run to run (times, ids, our version) is replaced by a word.
"""

from __future__ import annotations

import json
import re
import socket
import time
from dataclasses import dataclass
from typing import Any

CONNECT = b'CONNECT {"verbose":false,"pedantic":false,"protocol":1,"headers":true,"no_responders":true}\r\n'
TIME = re.compile(r"(?<!\d)(?!0001-01-01)\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")
ACK = re.compile(r"(\$JS\.ACK(?:\.[^. ]+){5})\.\d{16,}\.")
FLOW = re.compile(r"(\$JS\.FC\.[^. ]+\.[^. ]+\.)\w+")
STILL_THERE = b'"err_code":10049,"description":"error creating store for stream"'
# Answers to these say how the server does, not what was asked.
RUNNING = ("level", "total", "errors", "inflight", "max_memory", "max_storage")


@dataclass(frozen=True)
class Message:
    """One MSG or HMSG; `headers` is the whole block."""

    subject: str
    sid: str
    reply: str
    headers: bytes
    payload: bytes

    def text(self) -> str:
        """One line that shows it all."""
        lines = self.headers.decode("utf-8", "replace").replace("\r\n", "|").removesuffix("||")
        return f"{self.subject} reply={self.reply} [{lines}] {_body(self.payload)}"


class Session:
    """One connection to one server. Inboxes and sids are counted, so that they are the same on every server."""

    def __init__(self, port: int, connect: bytes = CONNECT) -> None:
        self.port = port
        self.transcript: list[str] = []
        self.aliases: dict[str, str] = {}
        self.heard: dict[str, list[Message]] = {}
        self.pongs = 0
        self.errors: list[str] = []
        self._inboxes = 0
        self._buffer = b""
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.sendall(connect + b"SUB _r.* _r\r\n")
        self.flush()

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    # speaking

    def send(self, data: bytes) -> None:
        """Raw bytes."""
        self._socket.sendall(data)

    def sub(self, subject: str, sid: str, queue: str = "") -> None:
        """Subscribe; what arrives waits under the sid."""
        self.heard.setdefault(sid, [])
        self.send(f"SUB {subject} {queue} {sid}\r\n".encode())

    def unsub(self, sid: str) -> None:
        """Unsubscribe."""
        self.send(f"UNSUB {sid}\r\n".encode())

    def pub(
        self, subject: str, payload: bytes | str = b"", reply: str = "", headers: dict[str, str] | None = None
    ) -> None:
        """Publish."""
        body = payload.encode() if isinstance(payload, str) else payload
        if headers is None:
            self.send(f"PUB {subject} {reply} {len(body)}\r\n".encode() + body + b"\r\n")
            return
        block = ("NATS/1.0\r\n" + "".join(f"{key}: {value}\r\n" for key, value in headers.items()) + "\r\n").encode()
        self.send(f"HPUB {subject} {reply} {len(block)} {len(block) + len(body)}\r\n".encode() + block + body + b"\r\n")

    def flush(self) -> None:
        """PING, and all that comes before its PONG."""
        wanted = self.pongs + 1
        self.send(b"PING\r\n")
        deadline = time.monotonic() + 10
        while self.pongs < wanted:
            self._receive(deadline)

    # asking, written down

    def ask(
        self, subject: str, body: Any = b"", headers: dict[str, str] | None = None, *, seconds: float = 3
    ) -> Message | None:
        """A request and its answer. None if there is none in time."""
        payload = (
            body if isinstance(body, bytes) else body.encode() if isinstance(body, str) else json.dumps(body).encode()
        )
        self._inboxes += 1
        inbox = f"_r.{self._inboxes}"
        self.pub(subject, payload, inbox, headers)
        found = self._await_reply(inbox, time.monotonic() + seconds)
        deadline = time.monotonic() + seconds
        while found is not None and STILL_THERE in found.payload and time.monotonic() < deadline:
            # nats-server removes a stream's files behind its answer to the delete: a create may come too soon for it.
            self.pub(subject, payload, inbox, headers)
            found = self._await_reply(inbox, deadline)
        self.note(f"{subject} {headers or ''} {payload.decode()[:600]}\n    -> {found.text() if found else 'nothing'}")
        return found

    def api(self, subject: str, body: Any = b"", headers: dict[str, str] | None = None) -> dict[str, Any]:
        """A request to $JS.API and its parsed answer."""
        found = self.ask(f"$JS.API.{subject}", body, headers)
        answer: dict[str, Any] = json.loads(found.payload) if found and found.payload[:1] == b"{" else {}
        return answer

    def gather(self, sid: str, count: int = 0, seconds: float = 0.3) -> list[Message]:
        """What has come for a sid: `count` messages if given, else all within the time."""
        deadline = time.monotonic() + (10 if count else seconds)
        while time.monotonic() < deadline and (not count or len(self.heard[sid]) < count):
            self._receive(deadline)
        found = self.heard[sid][: count or None]
        del self.heard[sid][: count or None]
        self.note(f"{sid} heard {len(found)}" + "".join(f"\n    {message.text()}" for message in found))
        return found

    def note(self, line: str) -> None:
        """A line of the transcript."""
        self.transcript.append(line)

    def told(self) -> list[str]:
        """The transcript with all names the server made replaced."""
        lines = []
        for line in self.transcript:
            for actual, alias in self.aliases.items():
                line = line.replace(actual, alias)
            line = FLOW.sub(r"\1F", ACK.sub(r"\1.T.", TIME.sub("T", line)))
            lines.append(line)
        return lines

    # hearing

    def _await_reply(self, inbox: str, deadline: float) -> Message | None:
        waiting = self.heard.setdefault("_r", [])
        while True:
            for message in waiting:
                if message.subject == inbox:
                    waiting.remove(message)
                    return message
            if time.monotonic() >= deadline:
                return None
            self._receive(deadline)

    def _receive(self, deadline: float) -> None:
        """Wait for bytes until the deadline and sort what is complete."""
        self._socket.settimeout(max(deadline - time.monotonic(), 0.001))
        try:
            data = self._socket.recv(1 << 18)
        except TimeoutError:
            return
        if not data:
            raise ConnectionError(f"the server hung up: {self.errors}")
        self._buffer += data
        while (end := self._buffer.find(b"\r\n")) >= 0:
            words = self._buffer[:end].decode().split(" ")
            kind = words[0].upper()
            if kind in ("MSG", "HMSG"):
                words = [word for word in words if word]
                total = int(words[-1])
                if len(self._buffer) < end + 2 + total + 2:
                    return
                data = self._buffer[end + 2 : end + 2 + total]
                self._buffer = self._buffer[end + 4 + total :]
                split = int(words[-2]) if kind == "HMSG" else 0
                reply = words[3] if len(words) == (6 if kind == "HMSG" else 5) else ""
                message = Message(words[1], words[2], reply, data[:split], data[split:])
                self.heard.setdefault(words[2], []).append(message)
                continue
            line, self._buffer = self._buffer[:end], self._buffer[end + 2 :]
            if kind == "PING":
                self.send(b"PONG\r\n")
            elif kind == "PONG":
                self.pongs += 1
            elif kind == "-ERR":
                self.errors.append(line.decode())
                self.note(line.decode())


def _body(payload: bytes) -> str:
    if payload[:1] == b"{":
        try:
            return json.dumps(neutral(json.loads(payload)))
        except ValueError:
            pass
    return repr(payload if len(payload) < 200 else (len(payload), payload[:20]))


def neutral(value: Any) -> Any:
    """Parsed JSON without what differs between two runs of one server. Field order stays."""
    if isinstance(value, list):
        return [neutral(one) for one in value]
    if not isinstance(value, dict):
        return value
    kind = value.get("type", "")
    shown = {}
    for key, one in value.items():
        if key in ("_nats.level", "_nats.ver") or (key == "id" and str(kind).startswith("io.nats.jetstream.")):
            one = "*"
        elif key in ("api", "limits") and isinstance(one, dict):
            one = {name: "*" if name in RUNNING else inner for name, inner in one.items()}
        elif key in ("ack_time", "leader_since"):
            one = "*"
        shown[key] = neutral(one)
    return shown


def difference(theirs: str, ours: str, peer: str = "nats-server") -> str:
    """The request, and both answers from a little before the place where they part."""
    same = next((at for at, (one, other) in enumerate(zip(theirs, ours, strict=False)) if one != other), 0)
    start = max(same - 100, 0)
    shown = slice(start, same + 600)
    return f"{theirs[:300].splitlines()[0]}\n  {peer}: …{theirs[shown]}\n  {'streamd':{len(peer)}}: …{ours[shown]}"
