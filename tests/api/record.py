"""Record what a real nats-server answers: `python -m tests.api.record HOST:PORT` rewrites golden/*.json.

Purpose:    the rows the tests compare with. The server must be empty, not clustered, and started for this
            only (`nats-server -js -sd DIR -a 127.0.0.1 -p PORT`); it is 2.15.2 in the recorded files.
Shapes:     a file is a list of [subject, request text, response text]; requests run in order on one server;
            rows whose subject is "reset" delete every stream.
"""

from __future__ import annotations

import json
import socket
import sys
from pathlib import Path

from tests.api.scenarios import SCENARIOS

GOLDEN = Path(__file__).parent / "golden"


class Peer:
    """One blocking connection that asks and waits for the answer."""

    def __init__(self, host: str, port: int) -> None:
        self.socket = socket.create_connection((host, port))
        self.file = self.socket.makefile("rb")
        self.file.readline()
        self.socket.sendall(b'CONNECT {"verbose":false,"headers":true,"no_responders":true}\r\nSUB inbox 1\r\n')

    def ask(self, subject: str, body: bytes) -> str:
        """The reply's text; the status line where it has no body; "" if none comes within a second."""
        self.socket.sendall(b"PUB %s inbox %d\r\n%s\r\n" % (subject.encode(), len(body), body))
        self.socket.settimeout(1)
        try:
            while True:
                line = self.file.readline().split()
                if line[0] == b"PING":
                    self.socket.sendall(b"PONG\r\n")
                elif line[0] in (b"MSG", b"HMSG"):
                    data = self.file.read(int(line[-1]) + 2)[:-2]
                    return data.decode()
        except TimeoutError:
            self.file = self.socket.makefile("rb")
            return ""


def reset(peer: Peer) -> None:
    """Delete all streams."""
    for name in json.loads(peer.ask("$JS.API.STREAM.NAMES", b""))["streams"] or []:
        peer.ask(f"$JS.API.STREAM.DELETE.{name}", b"")


def record(address: str, only: str = "") -> None:
    """Run every scenario and write its file."""
    host, _, port = address.rpartition(":")
    peer = Peer(host, int(port))
    GOLDEN.mkdir(exist_ok=True)
    for name, requests in SCENARIOS.items():
        if only not in name:
            continue
        reset(peer)
        rows: list[list[str]] = []
        for subject, request in requests:
            if subject == "reset":
                reset(peer)
                continue
            text = request if isinstance(request, str) else json.dumps(request, separators=(",", ":"))
            full = subject if subject.startswith(("$", "=")) else f"$JS.API.{subject}"
            rows.append([full, text, peer.ask(full.removeprefix("="), text.encode())])
        reset(peer)
        lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
        (GOLDEN / f"{name}.json").write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    record(*sys.argv[1:])
