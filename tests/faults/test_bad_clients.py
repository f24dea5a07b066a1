"""Clients that send nonsense: the documented error for them, nothing at all for others."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from typing import TYPE_CHECKING

import pytest

from tests.faults.wire import CONNECT, Wire
from tests.faults.witness import MB, memory_bytes, throw, undisturbed
from tests.process import ServerProcess

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio

SESSION = (
    CONNECT
    + b"PING\r\nSUB a.* q 1\r\nSUB a.> 2\r\nPUB a.b r.1 5\r\nhello\r\n"
    + b"HPUB a.c 22 24\r\nNATS/1.0\r\nKey: abc\r\n\r\nhi\r\nUNSUB 2 7\r\nUNSUB 1\r\nPONG\r\n"
    + b"PUB $JS.API.STREAM.NAMES r.2 2\r\n{}\r\nPUB bad.x r.3 1\r\nx\r\n"
)


def nonsense(chance: random.Random) -> bytes:
    """Noise, or a session with some of it changed."""
    kind = chance.randrange(4)
    if kind == 0:
        return chance.randbytes(chance.randrange(5000))
    if kind == 1:
        words = [
            b"PUB",
            b"SUB",
            b"HPUB",
            b"UNSUB",
            b"CONNECT",
            b" ",
            b"\t",
            b"\r\n",
            b"\n",
            b"\0",
            b"\xff",
            b"{",
            b"9" * 30,
        ]
        words += [
            b">",
            b"*",
            b".",
            b"a",
            b"-1",
            b"0",
            b"1",
            b"$JS.API.",
            b"$SYS.",
            b"NATS/1.0",
            b"+OK",
            b"MSG",
            b"INFO",
        ]
        return CONNECT + b"".join(chance.choices(words, k=200))
    data = bytearray(SESSION * 3)
    for _ in range(chance.randrange(1, 20)):
        at = chance.randrange(len(data))
        if kind == 2:
            data[at] = chance.randrange(256)
        else:
            del data[at : at + chance.randrange(8)]
    return bytes(data)


async def test_random_bytes(process: ServerProcess) -> None:
    """A thousand clients of nonsense leave neither a trace nor a closed witness."""
    chance = random.Random(5)
    async with await Wire.connect(process.port) as wire:
        await wire.api("STREAM.CREATE.BAD", name="BAD", subjects=["bad.*"])
    async with undisturbed(process):
        for round_ in range(20):
            if round_ == 2:
                before = memory_bytes(process)
            thrown = [throw(process.port, nonsense(chance), pieces=chance.choice([1, 1, 7])) for _ in range(50)]
            await asyncio.gather(*thrown)

        assert memory_bytes(process) < before + 20 * MB


async def test_truncated_frames(process: ServerProcess) -> None:
    """A session that ends after any of its bytes."""
    async with undisturbed(process):
        for start in range(0, len(SESSION), 50):
            cuts = range(start, min(start + 50, len(SESSION)))
            answers = await asyncio.gather(*(throw(process.port, SESSION[:cut]) for cut in cuts))

            assert all(answer.startswith(b"INFO {") for answer in answers)


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"PUB a 1048577\r\n", b"-ERR 'Maximum Payload Violation'\r\n"),
        (CONNECT + b"HPUB a 12 1048577\r\n", b"-ERR 'Maximum Payload Violation'\r\n"),
        (b"PUB a " + b"9" * 4000 + b"\r\n", b""),
        (b"PUB a 18446744073709551617\r\n", b""),
        (b"PUB a -9223372036854775808\r\n", b""),
        (CONNECT + b"HPUB a 99999999999999999999 1\r\n", b""),
        (b"SUB a " + b"1" * 4200 + b"\r\n", b"-ERR 'maximum control line exceeded'\r\n"),
        (b"PUB " + b"a." * 3000, b"-ERR 'maximum control line exceeded'\r\n"),
        (b'CONNECT {"name":"' + b"\xff\xfe" + b'"}\r\n', b""),
        (b'CONNECT {"protocol":' + b"9" * 400 + b"}\r\n", b"-ERR 'invalid client protocol'\r\n"),
        (b'CONNECT {"protocol":1e999}\r\n', b""),
        (b'CONNECT {"a":' + b"[" * 4000 + b"\r\n", b""),
        (b'CONNECT {"a":' + b"[" * 1500 + b"]" * 1500 + b"}\r\n", b""),
        (b"CONNECT \0\0\0\r\n", b""),
        (b"CONNECT []\r\n", b""),
        (b"\0" * 5000, b"-ERR 'Unknown Protocol Operation'\r\n"),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"-ERR 'Unknown Protocol Operation'\r\n"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(400), b"-ERR 'Unknown Protocol Operation'\r\n"),
    ],
    ids=lambda value: value[:24].decode("ascii", "replace") if isinstance(value, bytes) else None,
)
async def test_documented_error(process: ServerProcess, data: bytes, error: bytes) -> None:
    """The connection ends, with the text that clients know where there is one."""
    async with undisturbed(process):
        reader, writer = await asyncio.open_connection("127.0.0.1", process.port)
        await reader.readline()
        writer.write(data)
        received = b""
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(10):
                while chunk := await reader.read(1 << 16):
                    received += chunk
        writer.transport.abort()

        assert received.replace(b"+OK\r\n", b"") == error


async def test_user_that_is_no_text(tmp_path: Path) -> None:
    """A lone surrogate passes JSON and no encoder."""
    config = "authorization { user: a, password: b }"
    with ServerProcess(tmp_path, config=config) as server:
        for field in ("user", "pass", "auth_token"):
            connect = b'CONNECT {"verbose":false,"user":"a","pass":"b","%s":"\\ud800"}\r\n' % field.encode()
            answer = await throw(server.port, connect + b"PING\r\n")

            # The token is not asked for.
            ending = b"PONG\r\n" if field == "auth_token" else b"-ERR 'Authorization Violation'\r\n"
            assert answer.endswith(ending)
        assert "Traceback" not in server.log()


@pytest.mark.parametrize(
    "subject", [b"js.\xff\xfe", b"js.\xc3", b"js.\xf0\x9f\x98\x80", b"js.\x01\x02", b"js." + b"x" * 3000]
)
async def test_subjects_that_are_no_text(process: ServerProcess, subject: bytes) -> None:
    """Bytes are bytes: they reach who asks for them, and are stored and read back as they were."""
    async with (
        undisturbed(process),
        await Wire.connect(process.port) as wire,
        await Wire.connect(process.port) as other,
    ):
        assert "error" not in await wire.api("STREAM.CREATE.JS", name="JS", subjects=["js.*"])
        config = {"deliver_subject": "pushed", "ack_policy": "none"}
        reader, writer = other.reader, other.writer
        writer.write(b"SUB js.* 1\r\nPUB " + subject + b" _INBOX.x 2\r\nhi\r\n")

        assert await reader.readline() == b"MSG " + subject + b" 1 _INBOX.x 2\r\n"
        writer.write(b"UNSUB 1\r\nSUB pushed 2\r\n")
        assert await reader.readline() == b"hi\r\n"
        answer = await wire.api("CONSUMER.CREATE.JS", stream_name="JS", config=config)
        assert "error" not in answer
        line = await asyncio.wait_for(reader.readline(), 10)
        assert line.startswith(b"MSG " + subject + b" 2 $JS.ACK.JS.")
        assert await reader.readline() == b"hi\r\n"
        for call, fields in (("STREAM.INFO.JS", {"subjects_filter": ">"}), ("STREAM.MSG.GET.JS", {"seq": 1})):
            assert "error" not in await wire.api(call, **fields)


@pytest.mark.parametrize("seed", range(3))
async def test_nonsense_for_the_api(process: ServerProcess, seed: int) -> None:
    """Whatever is asked, there is an answer, and it is JSON."""
    chance = random.Random(seed)
    numbers = [
        "-1",
        "9223372036854775808",
        "-9223372036854775809",
        "1e400",
        "1" * 5000,
        "0.5",
        "NaN",
        '"x"',
        "null",
        "[]",
    ]
    subjects = [
        "STREAM.CREATE.X",
        "STREAM.UPDATE.X",
        "STREAM.INFO.X",
        "STREAM.NAMES",
        "STREAM.PURGE.X",
        "STREAM.MSG.GET.X",
    ]
    subjects += ["CONSUMER.CREATE.X", "CONSUMER.DURABLE.CREATE.X.D", "CONSUMER.LIST.X", "STREAM.MSG.DELETE.X", "INFO"]
    fields = ["name", "subjects", "max_msgs", "max_age", "seq", "offset", "config", "stream_name", "keep", "filter"]
    async with undisturbed(process), await Wire.connect(process.port) as wire:
        await wire.api("STREAM.CREATE.X", name="X", subjects=["x"])
        for _ in range(150):
            body = ",".join(f'"{field}":{chance.choice(numbers)}' for field in chance.sample(fields, 3))
            payload = chance.choice(
                [
                    chance.randbytes(chance.randrange(1, 200)),
                    f"{{{body}}}".encode(),
                    f'{{"config":{{{body}}}}}'.encode(),
                    f'{{"name":"X","subjects":["x"],{body}}}'.encode(),
                    b"[" * chance.choice([1, 1000, 100_000]),
                    b'{"config":' * 50_000,
                    b'{"name":"\\ud800"}',
                ]
            )
            subject = chance.choice(subjects)
            answer = await wire.request(f"$JS.API.{subject}", payload)

            assert isinstance(json.loads(answer.payload), dict), (subject, payload[:100])


async def test_nonsense_for_acks(process: ServerProcess) -> None:
    """Acks of what was never delivered, in all shapes."""
    async with undisturbed(process), await Wire.connect(process.port) as wire:
        await wire.api("STREAM.CREATE.X", name="X", subjects=["x"])
        config = {"durable_name": "D", "ack_policy": "explicit"}
        await wire.api("CONSUMER.DURABLE.CREATE.X.D", stream_name="X", config=config)
        big = "9" * 25
        tokens = (
            "1.1.1.1.1",
            f"{big}.{big}.{big}.{big}.{big}",
            "-1.-1.-1.-1.-1",
            "a.b.c.d.e",
            "1.99.99.1.0",
            "1",
            "0.0.0.0.0",
        )
        for token in tokens:
            for payload in (
                b"",
                b"+ACK",
                b"-NAK",
                b'-NAK {"delay":' + b"9" * 30 + b"}",
                b"+WPI",
                b"+TERM",
                b"\xff",
                b"+NXT 99999999999",
            ):
                wire.publish(f"$JS.ACK.X.D.{token}", payload)
        info = await wire.api("CONSUMER.INFO.X.D")

        assert info["ack_floor"] == {"consumer_seq": 0, "stream_seq": 0}
        assert info["num_ack_pending"] == 0
