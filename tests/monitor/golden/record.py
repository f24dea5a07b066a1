"""Records what a real nats-streaming-server 0.25.6 answers under /streaming: `heads.json`, and the bodies beside it.

    go get -tool github.com/nats-io/nats-streaming-server@v0.25.6   # in a module of its own
    GOBIN=DIR go install tool
    python -m tests.monitor.golden.record DIR/nats-streaming-server

It starts the server with a file store in a temporary directory, connects three clients with every kind of subscription and
publishes to a few channels. The bodies are kept as they came; the test knows which fields differ from run to run.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Final
from urllib.parse import quote

from tests.interop.raw import Session

GOLDEN: Final = Path(__file__).parent
CLUSTER: Final = "golden"
ODD: Final = 'köln "<a & b" ✓'
CONF: Final = """
streaming {
  id: golden
  store: file
  store_limits {
    max_channels: 50
    max_msgs: 1000
    max_age: "24h"
    max_inactivity: "48h"
    channels {
      "orders.>": { max_msgs: 500, max_subs: 7 }
      "orders.*": { max_bytes: 1000000 }
      "orders.eu": { max_msgs: 0, max_age: "1h" }
    }
  }
}
"""

#: Name of the file → path. What ends in .json has a JSON body.
PATHS: Final = {
    "serverz.json": "/streaming/serverz",
    "storez.json": "/streaming/storez",
    "clientsz.json": "/streaming/clientsz",
    "clientsz_subs.json": "/streaming/clientsz?subs=1",
    "clientsz_page.json": "/streaming/clientsz?limit=1&offset=1",
    "clientsz_behind.json": "/streaming/clientsz?offset=100",
    "client.json": "/streaming/clientsz?client=alpha",
    "client_subs.json": "/streaming/clientsz?client=alpha&subs=1",
    "client_without_subs.json": "/streaming/clientsz?client=gamma&subs=1",
    "client_unknown.txt": "/streaming/clientsz?client=no%22body%3C",
    "channelsz.json": "/streaming/channelsz",
    "channelsz_subs.json": "/streaming/channelsz?subs=1",
    "channelsz_page.json": "/streaming/channelsz?limit=2&offset=1&subs=1",
    "channelsz_behind.json": "/streaming/channelsz?offset=100",
    "channelsz_odd_numbers.json": "/streaming/channelsz?offset=-1&limit=x&subs=true",
    "channelsz_zero.json": "/streaming/channelsz?offset=%201&limit=0&subs=01x",
    "channel.json": "/streaming/channelsz?channel=orders",
    "channel_subs.json": "/streaming/channelsz?channel=orders&subs=1",
    "channel_plus.json": "/streaming/channelsz?channel=orders.eu&subs=%2B01",
    "channel_odd.json": "/streaming/channelsz?channel=" + quote(ODD, safe=""),
    "channel_unknown.txt": "/streaming/channelsz?channel=no+where&subs=1",
    "jsonp.txt": "/streaming/channelsz?channel=Zebra&callback=show.it",
    "ft_active.txt": "/streaming/isFTActive",
    "slash.txt": "/streaming/serverz/",
}
EMPTY: Final = {
    "empty_clientsz.json": "/streaming/clientsz?subs=1",
    "empty_channelsz.json": "/streaming/channelsz?subs=1",
}


def message(**fields: str | bytes | int) -> bytes:
    """A protobuf message; `f3=…` is field 3, a text, bytes or a non-negative number."""
    found = b""
    for name, value in fields.items():
        number = int(name[1:])
        if isinstance(value, int):
            found += _varint(number << 3) + _varint(value)
        else:
            raw = value.encode() if isinstance(value, str) else value
            found += _varint(number << 3 | 2) + _varint(len(raw)) + raw
    return found


def _varint(value: int) -> bytes:
    found = b""
    while value > 0x7F:
        found += bytes([value & 0x7F | 0x80])
        value >>= 7
    return found + bytes([value])


class Stan:
    """Just enough of a NATS Streaming client, for several client ids on one connection."""

    def __init__(self, port: int) -> None:
        self.session = Session(port)

    def ask(self, subject: str, payload: bytes) -> bytes:
        answer = self.session.ask(subject, payload)
        assert answer is not None, f"no answer to {subject}"
        return answer.payload

    def connect(self, client: str) -> None:
        self.session.sub(f"hb.{client}", f"hb-{client}")
        request = message(f1=client, f2=f"hb.{client}", f3=1, f4=f"conn-{client}")
        assert b"stan:" not in self.ask(f"_STAN.discover.{CLUSTER}", request)

    def publish(self, client: str, channel: str, data: bytes) -> None:
        request = message(f1=client, f2="guid", f3=channel, f5=data, f6=f"conn-{client}")
        assert b"stan:" not in self.ask(f"_STAN.pub.{CLUSTER}.any", request)

    def subscribe(
        self, client: str, channel: str, inbox: str, *, queue: str = "", durable: str = "", window: int = 100
    ) -> str:
        """From the first message. Returns the ack inbox; nothing is ever acked."""
        self.session.sub(inbox, inbox)
        fields = message(f1=client, f2=channel, f3=queue, f4=inbox, f5=window, f6=100, f7=durable, f10=4)
        answer = self.ask(f"_STAN.sub.{CLUSTER}", fields)
        assert answer[:1] == b"\x12", answer
        return answer[2:].decode()

    def leave(self, client: str, channel: str, ack_inbox: str) -> None:
        """Closes the subscription; a durable one stays, offline."""
        answer = self.ask(f"_STAN.subclose.{CLUSTER}", message(f1=client, f2=channel, f3=ack_inbox))
        assert not answer, answer


def scene(stan: Stan) -> None:
    """Three clients, four channels, and each kind of subscription on one of them."""
    for client in ("beta", "alpha", "gamma"):
        stan.connect(client)
    for channel, count in (("orders", 5), ("orders.eu", 2), ("Zebra", 1), (ODD, 1)):
        for number in range(count):
            stan.publish("alpha", channel, b"x" * (10 + number))
    stan.subscribe("alpha", "orders", "in.plain", window=2)
    stan.subscribe("alpha", "orders", "in.durable", durable="dur")
    stan.subscribe("alpha", "orders.eu", "in.eu")
    stan.subscribe("alpha", "orders", "in.queue", queue="workers", window=1)
    stan.subscribe("beta", "orders", "in.durable.queue", queue="workers", durable="dq")
    away = stan.subscribe("beta", "orders", "in.away", durable="away")
    stan.leave("beta", "orders", away)
    away = stan.subscribe("beta", "orders", "in.away.queue", queue="gone", durable="dq2", window=3)
    stan.leave("beta", "orders", away)
    stan.subscribe("beta", ODD, "in.odd")


def get(port: int, path: str) -> tuple[int, str, bytes]:
    """Status, content type and body."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return answer.status, answer.headers.get("content-type", ""), answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers.get("content-type", ""), error.read()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port


def _until_ready(port: int) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            if b'"STANDALONE"' in get(port, "/streaming/serverz")[2]:
                return
        except OSError:
            pass
        time.sleep(0.05)
    raise TimeoutError("the server didn't start")


def main(binary: str) -> None:
    with tempfile.TemporaryDirectory() as room:
        conf = Path(room) / "golden.conf"
        conf.write_text(CONF)
        port, http = _free_port(), _free_port()
        command = [
            binary,
            "-c",
            str(conf),
            "-dir",
            f"{room}/store",
            "-a",
            "127.0.0.1",
            "-p",
            str(port),
            "-m",
            str(http),
        ]
        server = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        try:
            _until_ready(http)
            heads = {name: _record(http, name, path) for name, path in EMPTY.items()}
            scene(Stan(port))
            heads |= {name: _record(http, name, path) for name, path in PATHS.items()}
        finally:
            server.terminate()
            server.wait()
    (GOLDEN / "heads.json").write_text(json.dumps(heads, indent=1) + "\n")


def _record(port: int, name: str, path: str) -> list[str | int]:
    status, kind, body = get(port, path)
    (GOLDEN / name).write_bytes(body)
    return [path, status, kind]


if __name__ == "__main__":
    main(sys.argv[1])
