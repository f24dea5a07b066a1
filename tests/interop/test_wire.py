"""The client protocol byte for byte: nats-server and streamd say the same to the same bytes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.core.test_wire import CONNECT, ROWS, Row, session

if TYPE_CHECKING:
    from tests.interop.conftest import Pair

pytestmark = pytest.mark.interop

VERBOSE = b'CONNECT {"verbose":true,"pedantic":false,"headers":true}\r\n'
PEDANTIC = b'CONNECT {"verbose":false,"pedantic":true,"headers":true}\r\n'
BOTH = b'CONNECT {"verbose":true,"pedantic":true,"headers":true}\r\n'
PLAIN = b'CONNECT {"verbose":false}\r\n'
HEADERS = b"NATS/1.0\r\nA: 1\r\n\r\n"

#: Either of the two is told that nobody responds: nats-server takes the one its map gives first.
TWO_ON_ONE = b"SUB r 1\r\nSUB r 2\r\nPUB nobody r 0\r\n\r\n"
# Sent with each of the ways to connect; the connection may stay or close, as it pleases nats-server.
SENT = [
    b"PUB a 0\r\n\r\n",
    b"SUB a 1\r\nPUB a 3\r\nabc\r\n",
    b"SUB a q 1\r\nSUB a 3\r\nPUB a 0\r\n\r\nUNSUB 1\r\nPUB a 0\r\n\r\n",
    b"SUB a 1\r\nSUB a 1\r\nPUB a 0\r\n\r\n",
    b"SUB a 1\r\nUNSUB 1 2\r\nPUB a 1\r\n1\r\nPUB a 1\r\n2\r\nPUB a 1\r\n3\r\n",
    b"SUB a 1\r\nUNSUB 1 0\r\nPUB a 1\r\n1\r\n",
    b"SUB a 1\r\nUNSUB 1 -1\r\nPUB a 1\r\n1\r\n",
    b"SUB a 1\r\nUNSUB 1 x\r\nPUB a 1\r\n1\r\n",
    b"SUB a 1\r\nPUB a 0\r\n\r\nPUB a 0\r\n\r\nUNSUB 1 1\r\nPUB a 0\r\n\r\nSUB a 1\r\nPUB a 1\r\nz\r\n",
    b"UNSUB\r\n",
    b"UNSUB 1 2 3\r\n",
    b"SUB\r\n",
    b"SUB  \r\n",
    b"SUB a b c d\r\n",
    b"SUB a. 1\r\n",
    b"SUB .a 1\r\n",
    b"SUB . 1\r\n",
    b"SUB > 1\r\nPUB a.b 0\r\n\r\n",
    b"SUB * 1\r\nPUB a.b 0\r\n\r\nPUB a 0\r\n\r\n",
    b"SUB *.* 1\r\nPUB a.b 0\r\n\r\n",
    b"SUB a.> 1\r\nPUB a 0\r\n\r\nPUB a. 0\r\n\r\nPUB a.b 0\r\n\r\n",
    b"SUB >.a 1\r\n",
    b"SUB a.>b 1\r\nPUB a.>b 0\r\n\r\nPUB a.b 0\r\n\r\n",
    b"SUB a*b 1\r\nPUB axb 0\r\n\r\nPUB a*b 0\r\n\r\n",
    b"SUB \xc3\xa4.\xe2\x82\xac 1\r\nPUB \xc3\xa4.\xe2\x82\xac 0\r\n\r\n",
    b"SUB \xff\xfe 1\r\nPUB \xff\xfe 0\r\n\r\n",
    b"PUB a.> 0\r\n\r\n",
    b"PUB a..b 0\r\n\r\n",
    b"PUB .a 0\r\n\r\n",
    b"PUB a b.* 0\r\n\r\n",
    b"PUB a b..c 0\r\n\r\n",
    b"PUB a\r\n",
    b"PUB a b c d\r\n",
    b"PUB a 1x\r\nx\r\n",
    b"PUB a 1.0\r\nx\r\n",
    b"PUB a +1\r\nx\r\n",
    b"PUB a 0x1\r\nx\r\n",
    b"PUB a 1048576\r\n" + bytes(1048576) + b"\r\n",
    b"PUB a 1048577\r\n",
    b"PUB a 2147483648\r\n",
    b"HPUB a 12 1048577\r\n",
    b"HPUB a %d %d\r\n" % (len(HEADERS), len(HEADERS) + 2) + HEADERS + b"hi\r\n",
    b"SUB a 1\r\nHPUB a r %d %d\r\n" % (len(HEADERS), len(HEADERS)) + HEADERS + b"\r\n",
    b"SUB a 1\r\nHPUB a 3 5\r\nxyzhi\r\n",
    b"HPUB a 5\r\nhello\r\n",
    b"HPUB a r x 5\r\nhello\r\n",
    b"HPUB\r\n",
    b"SUB r 1\r\nPUB nobody r 0\r\n\r\n",
    TWO_ON_ONE,
    b"SUB r.* 1\r\nPUB nobody r.x 3\r\nabc\r\n",
    b"SUB r q 1\r\nPUB nobody r 0\r\n\r\n",
    b"SUB r 1\r\nHPUB nobody r 12 12\r\nNATS/1.0\r\n\r\n\r\n",
    b"SUB r 1\r\nPUB a..b r 0\r\n\r\n",
    b"CONNECT {}\r\n",
    b'CONNECT {"verbose":true}\r\nPUB a 0\r\n\r\n',
    b"SUB a 1\r\nCONNECT {}\r\nPUB a 0\r\n\r\n",
    b"CONNECT\r\n",
    b"CONNECT []\r\n",
    b"CONNECT null\r\n",
    b'CONNECT {"protocol":3}\r\n',
    b'CONNECT {"protocol":-1}\r\n',
    b'CONNECT {"protocol":"1"}\r\n',
    b'CONNECT {"user":1}\r\n',
    b'CONNECT {"unknown":1}\r\n',
    b'CONNECT {"account":"A"}\r\n',
    b'CONNECT {"lang":"x","cluster":"c"}\r\n',
    b"PING x\r\n",
    b"PONG\r\nPONG\r\n",
    b"PONG x\r\n",
    b"PINGG\r\n",
    b"PIN\r\n",
    b"pInG\r\n",
    b"+OK\r\n",
    b"+O\r\n",
    b"-ERR\r\n",
    b"-ERR 'Unknown Protocol Operation'\r\n",
    b"INFO\r\n",
    b"INFO {}\r\n",
    b"INFO x\r\n",
    b"RMSG $G a 0\r\n\r\n",
    b"RS+ $G a\r\n",
    b"LS+ a\r\n",
    b"LMSG a 0\r\n\r\n",
    b"A+ $G\r\n",
    b"HMSG a 1 12 12\r\nNATS/1.0\r\n\r\n\r\n",
    b" PING\r\n",
    b"\n",
    b"\tPING\r\n",
    b"GET / HTTP/1.1\r\n\r\n",
    b"PUBx a 0\r\n\r\n",
    b"PUB\ta\t0\r\n\r\n",
    b"PUB a 3\r\nab\r\n\r\n",
    b"PUB a 3\r\nabc\n",
    b"PUB a 3\r\nabc\rx",
    b"PUB a 1\nx\r\n",
    b"SUB " + b"a" * 4092 + b" 1\r\n",
    b"SUB " + b"a" * 4093 + b" 1\r\n",
    b"SUB " + b"a" * 4094 + b" 1\r\n",
    b"SUB " + b"a" * 4095 + b" 1\r\n",
    b"PUB " + b"a" * 4094 + b" 0\r\n\r\n",
    b"PUB " + b"a" * 4095 + b" 0\r\n\r\n",
    b'CONNECT {"name":"' + b"n" * 5000 + b'"}\r\n',
    b"PUB $JS.ACK.x 0\r\n\r\n",
    b"PUB $SYS.x 0\r\n\r\n",
    b"PUB _R_.x 0\r\n\r\n",
    b"PUB $JSC.x 0\r\n\r\n",
    b"PUB $NRG.x 0\r\n\r\n",
    b"PUB _GR_.x 0\r\n\r\n",
    b"PUB $GR.x 0\r\n\r\n",
    b"PUB a _R_.x 0\r\n\r\n",
    b"PUB a _GR_.x 0\r\n\r\n",
    b"PUB a $GR.x 0\r\n\r\n",
    b"PUB a $JS.ACK.x 0\r\n\r\n",
    b"PUB a $JS.API.x 0\r\n\r\n",
    b"SUB $JS.API.> 1\r\nSUB $SYS.> 2\r\nSUB _R_.> 3\r\nSUB $NRG.> 4\r\nSUB _GR_.> 5\r\nSUB $JSC.> 6\r\n",
    b"SUB r 1\r\nPUB $JS.API.NOPE r 0\r\n\r\n",
    b"SUB r 1\r\nPUB $JS.API.STREAM.INFO r 0\r\n\r\n",
    b"SUB r 1\r\nPUB $JS.NOPE r 0\r\n\r\n",
    b"SUB r 1\r\nPUB $SYS.REQ.SERVER.PING r 0\r\n\r\n",
]


async def both(pair: Pair, sent: bytes, connect: bytes) -> tuple[bytes, bytes]:
    """What the two servers say: (nats-server, streamd)."""
    row = Row("", sent, b"", closes=True, connect=connect)
    end = b"" if sent.endswith(b"\rx") else b"PING\r\nUNSUB\r\n"  # the last one closes every connection
    row = Row("", sent + end, b"", closes=True, connect=connect)
    theirs, ours = await asyncio.gather(session(pair.peer.port, row), session(pair.ours.port, row))
    if sent == TWO_ON_ONE:
        theirs, ours = (answer.replace(b"HMSG r 2 ", b"HMSG r 1 ") for answer in (theirs, ours))
    return theirs, ours


@pytest.mark.anyio
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
async def test_rows_are_those_of_nats_server(pair: Pair, row: Row) -> None:
    """The rows of tests/core are nats-server's behaviour, not our idea of it."""
    assert await session(pair.peer.port, row) == row.expected


@pytest.mark.anyio
@pytest.mark.parametrize(
    "connect",
    [CONNECT, VERBOSE, PEDANTIC, BOTH, PLAIN, b""],
    ids=["usual", "verbose", "pedantic", "both", "plain", "none"],
)
async def test_same_bytes_same_answer(pair: Pair, connect: bytes) -> None:
    """Everything a client may send wrongly, in every mode."""
    wrong = []
    for sent in SENT:
        theirs, ours = await both(pair, sent, connect)
        if theirs != ours:
            wrong.append(f"{sent[:80]!r}\n  nats-server: {theirs[:400]!r}\n  streamd:     {ours[:400]!r}")

    assert not wrong, f"{len(wrong)} differ\n" + "\n".join(wrong)
