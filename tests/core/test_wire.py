"""The client protocol byte for byte: what goes in, what comes out, whether the connection stays.

Rows follow the NATS client protocol and nats-server 2.15.2. `make interop` runs the same rows against
a real nats-server.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from streamd import Server

CONNECT = b'CONNECT {"verbose":false,"pedantic":false,"protocol":0,"headers":true,"no_responders":true}\r\n'


@dataclass(frozen=True)
class Row:
    """One session: `sent`, then PING unless it closes; `expected` is everything behind INFO."""

    name: str
    sent: bytes
    expected: bytes
    closes: bool = False
    connect: bytes = CONNECT


ROWS = [
    Row("ping", b"PING\r\n", b"PONG\r\n"),
    Row("lower case and tabs", b"sub\tfoo\t1\r\npub foo  2\r\nhi\r\n", b"MSG foo 1 2\r\nhi\r\n"),
    Row("bare line feed", b"SUB foo 1\nPING\n", b"PONG\r\n"),
    Row("size text is echoed", b"SUB foo 1\r\nPUB foo 02\r\nhi\r\n", b"MSG foo 1 02\r\nhi\r\n"),
    Row("reply", b"SUB foo 1\r\nPUB foo bar 2\r\nhi\r\n", b"MSG foo 1 bar 2\r\nhi\r\n"),
    Row("empty payload", b"SUB foo 1\r\nPUB foo 0\r\n\r\n", b"MSG foo 1 0\r\n\r\n"),
    Row("star", b"SUB a.* 1\r\nSUB a 3\r\nPUB a.b 1\r\nx\r\n", b"MSG a.b 1 1\r\nx\r\n"),
    Row("full wildcard", b"SUB a.> 2\r\nSUB a.*.c 3\r\nPUB a.b.d 1\r\nx\r\n", b"MSG a.b.d 2 1\r\nx\r\n"),
    Row("literal wildcards in a publish", b"SUB foo.* 1\r\nPUB foo.* 1\r\nx\r\n", b"MSG foo.* 1 1\r\nx\r\n"),
    Row(
        "foo* is a literal",
        b"SUB foo* 1\r\nPUB foobar 1\r\nx\r\nPUB foo* 1\r\ny\r\n",
        b"MSG foo* 1 1\r\ny\r\n",
    ),
    Row("malformed publish reaches nobody", b"SUB > 1\r\nPUB a..b 1\r\nx\r\n", b""),
    Row(
        "headers",
        b"SUB f 1\r\nHPUB f 22 24\r\nNATS/1.0\r\nKey: abc\r\n\r\nhi\r\n",
        b"HMSG f 1 22 24\r\nNATS/1.0\r\nKey: abc\r\n\r\nhi\r\n",
    ),
    Row("hdr 0 arrives as MSG", b"SUB f 1\r\nHPUB f 0 2\r\nhi\r\n", b"MSG f 1 2\r\nhi\r\n"),
    Row("invalid subject stays open", b"SUB a..b 1\r\n", b"-ERR 'Invalid Subject'\r\n"),
    Row("wildcard not last", b"SUB a.>.b 1\r\n", b"-ERR 'Invalid Subject'\r\n"),
    Row("unsub max", b"SUB f 1\r\nUNSUB 1 1\r\nPUB f 1\r\na\r\nPUB f 1\r\nb\r\n", b"MSG f 1 1\r\na\r\n"),
    Row(
        "unsub max counts from SUB",
        b"SUB f 1\r\nPUB f 1\r\na\r\nUNSUB 1 1\r\nPUB f 1\r\nb\r\n",
        b"MSG f 1 1\r\na\r\n",
    ),
    Row("unsub unknown", b"UNSUB 99\r\n", b""),
    Row(
        "live sid again is ignored",
        b"SUB f 1\r\nSUB g 1\r\nPUB g 1\r\na\r\nPUB f 1\r\nb\r\n",
        b"MSG f 1 1\r\nb\r\n",
    ),
    Row(
        "no responders",
        b"SUB r 9\r\nPUB none r 0\r\n\r\n",
        b"HMSG r 9 36 36\r\nNATS/1.0 503\r\nNats-Subject: none\r\n\r\n\r\n",
    ),
    Row("no reply subscription, no 503", b"PUB none r 0\r\n\r\n", b""),
    Row("+OK and INFO are ignored", b"+OK\r\nINFO {}\r\n", b""),
    Row(
        "verbose",
        b"PUB f 0\r\n\r\nSUB f 1\r\nUNSUB 1\r\n",
        b"+OK\r\n" * 4,
        connect=b'CONNECT {"verbose":true,"pedantic":false}\r\n',
    ),
    Row(
        "verbose: refused SUB",
        b"SUB a..b 1\r\n",
        b"+OK\r\n-ERR 'Invalid Subject'\r\n",
        connect=b'CONNECT {"verbose":true,"pedantic":false}\r\n',
    ),
    Row(
        "pedantic",
        b"SUB f.* 1\r\nPUB f.* 1\r\nx\r\n",
        b"-ERR 'Invalid Publish Subject'\r\nMSG f.* 1 1\r\nx\r\n",
        connect=b'CONNECT {"verbose":false,"pedantic":true}\r\n',
    ),
    Row(
        "verbose: +OK before the MSG",
        b"SUB f 1\r\nPUB f 1\r\nx\r\n",
        b"+OK\r\n+OK\r\n+OK\r\nMSG f 1 1\r\nx\r\n",
        connect=b'CONNECT {"verbose":true,"pedantic":false}\r\n',
    ),
    Row("without CONNECT", b"PUB f 0\r\n\r\n", b"+OK\r\n", connect=b""),
    Row("no echo", b"SUB f 1\r\nPUB f 1\r\nx\r\n", b"", connect=b'CONNECT {"verbose":false,"echo":false}\r\n'),
    Row("headers are stripped", b"SUB f 1\r\n", b"", connect=b'CONNECT {"verbose":false}\r\n'),
    Row("a second CONNECT changes what it names", b"CONNECT {}\r\nPUB f 0\r\n\r\n", b""),
    Row("CONNECT null", b"CONNECT null\r\n", b""),
    Row("CONNECT into an account", b'CONNECT {"account":"A"}\r\n', b"-ERR 'Authorization Violation'\r\n", closes=True),
    Row("INFO without JSON", b"INFO\r\n", b"", closes=True),
    Row("INFO with something else", b"INFO x\r\n", b"", closes=True),
    Row("unknown op", b"FOO\r\n", b"-ERR 'Unknown Protocol Operation'\r\n", closes=True),
    Row("keyword alone", b"PUB\r\n", b"-ERR 'Unknown Protocol Operation'\r\n", closes=True),
    Row("server op", b"MSG f 1 1\r\nx\r\n", b"-ERR 'Unknown Protocol Operation'\r\n", closes=True),
    Row("empty line", b"\r\n", b"-ERR 'Unknown Protocol Operation'\r\n", closes=True),
    Row("payload too long", b"PUB f 1\r\nxyz\r\n", b"-ERR 'Unknown Protocol Operation'\r\n", closes=True),
    Row(
        "payload with bare LF",
        b"PUB f 1\r\nx\nPING\r\n",
        b"-ERR 'Unknown Protocol Operation'\r\n",
        closes=True,
    ),
    Row("bad size", b"PUB f x\r\n", b"", closes=True),
    Row("negative size", b"PUB f -1\r\n", b"", closes=True),
    Row("absurd size", b"PUB f 99999999999999999999999\r\n", b"", closes=True),
    Row("too many arguments", b"PUB f g h 1\r\nx\r\n", b"", closes=True),
    Row("SUB without sid", b"SUB f\r\n", b"", closes=True),
    Row(
        "HPUB without headers",
        b"HPUB f 12 12\r\nNATS/1.0\r\n\r\n\r\n",
        b"",
        closes=True,
        connect=b'CONNECT {"verbose":false}\r\n',
    ),
    Row("header longer than total", b"HPUB f 13 12\r\n", b"", closes=True),
    Row("max payload", b"PUB f 1048577\r\n", b"-ERR 'Maximum Payload Violation'\r\n", closes=True),
    Row(
        "control line",
        b"SUB " + b"a" * 4095 + b" 1\r\n",
        b"-ERR 'maximum control line exceeded'\r\n",
        closes=True,
    ),
    Row(
        "control line without an end",
        b"SUB " + b"a" * 5000,
        b"-ERR 'maximum control line exceeded'\r\n",
        closes=True,
    ),
    Row("-ERR from a client", b"-ERR 'x'\r\n", b"", closes=True),
    Row("bad CONNECT", b"", b"", closes=True, connect=b"CONNECT {\r\n"),
    Row("wrongly typed CONNECT", b"", b"", closes=True, connect=b'CONNECT {"verbose":"x"}\r\n'),
    Row(
        "protocol 2",
        b"",
        b"-ERR 'invalid client protocol'\r\n",
        closes=True,
        connect=b'CONNECT {"verbose":false,"protocol":2}\r\n',
    ),
    Row(
        "no_responders without headers",
        b"",
        b"-ERR 'no responders requires headers support'\r\n",
        closes=True,
        connect=b'CONNECT {"verbose":false,"no_responders":true}\r\n',
    ),
    Row(
        "reply in a reserved space",
        b"PUB f $JS.ACK.x 0\r\n\r\n",
        b"-ERR 'Permissions Violation for Publish with Reply of \"$JS.ACK.x\"'\r\n",
    ),
    Row(
        "publish to a reserved space",
        b"PUB $NRG.x 0\r\n\r\n",
        b"-ERR 'Permissions Violation for Publish to \"$NRG.x\"'\r\n",
    ),
]


async def session(port: int, row: Row) -> bytes:
    """Everything the server says behind its INFO, up to the PONG of a last PING or the end of the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        assert (await reader.readline()).startswith(b"INFO {")
        writer.write(row.connect + row.sent + (b"" if row.closes else b"PING\r\n"))
        received = b""
        while row.closes or not received.endswith(b"PONG\r\n"):
            chunk = await asyncio.wait_for(reader.read(1 << 16), 5)
            if not chunk:
                assert row.closes, received
                break
            received += chunk
        return received if row.closes else received.removesuffix(b"PONG\r\n")
    except ConnectionResetError:
        assert row.closes
        return received
    finally:
        writer.close()


@pytest.mark.anyio
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
async def test_session(server: Server, row: Row) -> None:
    """A client sees exactly these bytes."""
    received = await session(server.port, row)

    assert received == row.expected
