"""Encryption at rest: what the files of a store show of channels, and which key opens them.

Every reading back goes over a restart, so that records come from the disk and not from the cache.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Final

import anyio
import anyio.to_thread
import nats
import pytest
from nats.js.errors import APIError, NotFoundError

from streamd import Server, limits
from streamd._engine import Cipher, CorruptRecord, Records, record_encode, record_key
from streamd.cli.main import main
from streamd.config.models import Config, JetStreamConfig
from streamd.config.streaming import KEY_VARIABLE, StreamingConfig
from streamd.errors import StoreEncrypted
from streamd.stan.schema_pb2 import (
    ConnectRequest,
    ConnectResponse,
    MsgProto,
    PubAck,
    PubMsg,
    SubscriptionRequest,
    SubscriptionResponse,
)
from streamd.store import Environment, packs
from streamd.store.directory import DATA_FILE, JOURNAL_FILE
from tests.monitor.asking import ask
from tests.process import ServerProcess
from tests.stan.kept import KEY as KEPT_KEY
from tests.stan.kept import unpack

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable
    from pathlib import Path

    from google.protobuf.message import Message
    from nats.aio.client import Client

pytestmark = pytest.mark.anyio

KEY: Final = "the key of the store"
MARK: Final = b"nobody-may-read-this"
CHANNEL: Final = "orders"
STREAM: Final = "STAN_orders"
#: More than the journal takes at once.
BATCH: Final = limits.JOURNAL_RECORDS_MAX + 50


@pytest.fixture(autouse=True)
def no_key_around(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEY_VARIABLE, raising=False)


class Stan:
    """A client of NATS Streaming, as little of one as needed."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self._paths = ConnectResponse()

    async def _ask(self, subject: str, request: Message, answer: Any) -> Any:
        heard = await self.client.request(subject, request.SerializeToString(), timeout=20)
        answer.ParseFromString(heard.data)
        assert not answer.error, answer.error
        return answer

    async def connect(self) -> None:
        inbox = self.client.new_inbox()

        async def alive(message: Any) -> None:
            await message.respond(b"")

        await self.client.subscribe(inbox, cb=alive)
        request = ConnectRequest(clientID=b"me", heartbeatInbox=inbox.encode())
        self._paths = await self._ask("_STAN.discover.test-cluster", request, ConnectResponse())

    async def publish(self, data: bytes, channel: str = CHANNEL) -> None:
        message = PubMsg(clientID="me", guid=data.hex(), subject=channel, data=data)
        await self._ask(f"{self._paths.pubPrefix}.{channel}", message, PubAck())

    async def publish_all(self, payloads: Iterable[bytes]) -> None:
        await asyncio.gather(*map(self.publish, payloads))

    async def received(self, count: int, channel: str = CHANNEL) -> list[bytes]:
        """The first messages of a channel."""
        inbox = self.client.new_inbox()
        delivered = await self.client.subscribe(inbox)
        request = SubscriptionRequest(
            clientID=b"me",
            subject=channel.encode(),
            inbox=inbox.encode(),
            maxInFlight=count,
            ackWaitInSecs=30,
            startPosition="First",
        )
        await self._ask(self._paths.subRequests, request, SubscriptionResponse())
        messages = [await delivered.next_msg(timeout=20) for _ in range(count)]
        return [MsgProto.FromString(message.data).data for message in messages]


@asynccontextmanager
async def talking(url: str) -> AsyncIterator[Stan]:
    client = await nats.connect(url, allow_reconnect=False)
    try:
        stan = Stan(client)
        await stan.connect()
        yield stan
    finally:
        await client.close()


def served(store: Path, key: str | None = KEY, cipher: Any = None, **more: Any) -> Server:
    """A server with channels on a store."""
    streaming = StreamingConfig(store="file", dir=str(store), encryption_key=key, encryption_cipher=cipher)
    return Server(Config(host="127.0.0.1", port=-1, streaming=streaming, **more))


def showing(store: Path, text: bytes) -> set[str]:
    """The names of the files that hold it."""
    return {path.name for path in store.rglob("*") if path.is_file() and text in path.read_bytes()}


def payloads(count: int, start: int = 0) -> list[bytes]:
    return [b"%s %d" % (MARK, number) for number in range(start, start + count)]


@pytest.mark.parametrize("cipher", [None, "AES", "CHACHA"])
async def test_the_files_show_no_payload(tmp_path: Path, cipher: str | None) -> None:
    """By whichever way a record goes to the disk, and whoever reads it then; `None`: that the files are those."""
    key = None if cipher is None else KEY
    async with served(tmp_path, key, cipher) as server, talking(server.client_url) as stan:
        for payload in payloads(6):
            await stan.publish(payload)
        await stan.publish_all(payloads(BATCH, 6))

    assert showing(tmp_path, MARK) == ({DATA_FILE, JOURNAL_FILE} if cipher is None else set())
    assert showing(tmp_path, CHANNEL.encode()) == {DATA_FILE, JOURNAL_FILE}  # a channel's name is no secret

    async with served(tmp_path, key, cipher) as server, talking(server.client_url) as stan:
        received = await stan.received(BATCH + 6)
        assert received[:6] == payloads(6)
        assert sorted(received) == sorted(payloads(BATCH + 6))
        js = stan.client.jetstream()
        assert (await js.get_msg(STREAM, 3)).data == payloads(6)[2]
        assert (await js.get_msg(STREAM, 3, direct=True)).data == payloads(6)[2]
        await stan.publish(b"one more")
        assert (await js.get_last_msg(STREAM, f"$STAN.test-cluster.{CHANNEL}")).data == b"one more"
        assert await stan.received(BATCH + 7) == [*received, b"one more"]


async def test_each_record_is_opened_by_its_own_cipher(tmp_path: Path) -> None:
    for number, cipher in enumerate(("AES", "CHACHA", None, "AES")):
        async with served(tmp_path, cipher=cipher) as server, talking(server.client_url) as stan:
            await stan.publish_all(payloads(5, 5 * number))
            assert sorted(await stan.received(5 * number + 5)) == sorted(payloads(5 * number + 5))

    assert not showing(tmp_path, MARK)


async def test_no_nonce_comes_twice(tmp_path: Path) -> None:
    """Each run begins above what all earlier ones have used."""
    for number in range(3):
        async with served(tmp_path, cipher="AES") as server, talking(server.client_url) as stan:
            await stan.publish_all(payloads(40, 40 * number))
            assert server.jetstream is not None
            stream = server.jetstream.streams[STREAM].stream_id

    environment = Environment.open(tmp_path / "jetstream")
    with environment.read() as txn, txn.cursor(db=environment.databases[stream]) as cursor:
        values = packs.read(cursor, 0, 1000, 1 << 20)
    environment.close()
    places = [27 + int.from_bytes(value[21:23], "little") + int.from_bytes(value[23:27], "little") for value in values]
    sealed = [value[place:] for value, place in zip(values, places, strict=True)]
    assert {payload[0] for payload in sealed} == {1}
    counters = [int.from_bytes(payload[5:13], "big") for payload in sealed]
    assert len(counters) == 120
    assert counters == sorted(set(counters))
    assert len({payload[1:5] for payload in sealed}) == 3


async def test_a_store_is_opened_by_its_own_key_only(tmp_path: Path) -> None:
    async with served(tmp_path) as server, talking(server.client_url) as stan:
        await stan.publish_all(payloads(20))

    with pytest.raises(StoreEncrypted, match="the encryption key is not the one"):
        await served(tmp_path, "another key").__aenter__()
    with pytest.raises(StoreEncrypted, match="encryption key required: "):
        await served(tmp_path, None).__aenter__()

    async with served(tmp_path) as server, talking(server.client_url) as stan:
        assert sorted(await stan.received(20)) == sorted(payloads(20))


async def test_encryption_can_begin_later(tmp_path: Path) -> None:
    """What was stored before stays as it is; from then on the key is needed."""
    async with served(tmp_path, None) as server, talking(server.client_url) as stan:
        await stan.publish_all([b"before %d" % number for number in range(10)])
    async with served(tmp_path) as server, talking(server.client_url) as stan:
        await stan.publish_all(payloads(10))

    assert showing(tmp_path, b"before 3")
    assert not showing(tmp_path, MARK)
    for key in (None, "another key"):
        with pytest.raises(StoreEncrypted):
            await served(tmp_path, key).__aenter__()
    async with served(tmp_path) as server, talking(server.client_url) as stan:
        received = await stan.received(20)
        assert sorted(received) == sorted([b"before %d" % number for number in range(10)] + payloads(10))


async def test_another_clusters_key_is_not_taken_on(tmp_path: Path) -> None:
    """A start that fails for another reason doesn't make its key the store's."""
    async with served(tmp_path, None) as server, talking(server.client_url) as stan:
        await stan.publish(MARK)
    other = StreamingConfig(cluster_id="other", store="file", dir=str(tmp_path), encryption_key="another key")
    with pytest.raises(Exception, match="does not match recovered value"):
        await Server(Config(host="127.0.0.1", port=-1, streaming=other)).__aenter__()

    async with served(tmp_path) as server, talking(server.client_url) as stan:
        assert await stan.received(1) == [MARK]


@pytest.mark.parametrize("streaming", [None, StreamingConfig(store="memory", encryption_key="another key")])
async def test_without_channels_theirs_are_offline_and_the_rest_goes_on(
    tmp_path: Path, streaming: StreamingConfig | None
) -> None:
    async with served(tmp_path) as server, talking(server.client_url) as stan:
        await stan.publish_all(payloads(5))
        js = stan.client.jetstream()
        await js.add_stream(name="S", subjects=["s"])
        await js.publish("s", b"plain")

    config = Config(host="127.0.0.1", port=-1, streaming=streaming, jetstream=JetStreamConfig(store_dir=str(tmp_path)))
    async with Server(config) as server:
        assert server.jetstream is not None
        reason = server.jetstream.streams[STREAM].offline
        assert reason is not None
        assert "channel of NATS Streaming whose messages are encrypted" in reason
        client = await nats.connect(server.client_url, allow_reconnect=False)
        js = client.jetstream()
        assert (await js.get_msg("S", 1)).data == b"plain"
        with pytest.raises((APIError, NotFoundError)):
            await js.get_msg(STREAM, 1)
        await client.close()

    async with served(tmp_path) as server, talking(server.client_url) as stan:
        assert sorted(await stan.received(5)) == sorted(payloads(5))


async def test_nothing_shows_the_key(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    server = served(tmp_path, http_host="127.0.0.1", http_port=-1)
    async with server, talking(server.client_url) as stan:
        await stan.publish(MARK)
        assert server.monitor_port is not None
        pages = [await ask(server.monitor_port, path) for path in ("/varz", "/streaming/serverz", "/metrics")]
        assert server.jetstream is not None
        cipher = server.jetstream.encryption.cipher

    assert "STREAM: Store encryption is enabled (" in caplog.text
    assert repr(cipher) in ("Cipher(AES)", "Cipher(CHACHA)")
    assert [page.status for page in pages] == [200, 200, 200]
    shown = [caplog.text, repr(server.config), repr(vars(server)), *(page.body for page in pages)]
    assert not [text for text in shown if KEY in text]
    assert not showing(tmp_path, KEY.encode())


def test_in_memory_nothing_is_encrypted_and_that_is_said() -> None:
    streaming = StreamingConfig(store="memory", encrypt=True, encryption_key=KEY)

    assert any("encryption has no effect" in note for note in Config(streaming=streaming).notes)
    assert not Config(streaming=StreamingConfig(store="memory")).notes


def test_a_record_of_another_key_is_told_by_its_sequence() -> None:
    ours, theirs = (Cipher(bytes([number] * 32), bytes(12), "AES") for number in range(2))
    value = record_encode(7, 1, "a", b"", MARK)
    sealed = Records([(record_key(7), value)]).sealed(ours).read(1, 1)

    assert ours.opened([*sealed, None, value]) == [value, None, value]
    with pytest.raises(CorruptRecord, match="record 7: its payload does not open with this encryption key"):
        theirs.opened(sealed)
    with pytest.raises(ValueError, match="a key has 32 bytes"):
        Cipher(b"short", bytes(12))


@pytest.mark.parametrize("kept", ["sealed", "standalone"])
async def test_what_was_encrypted_is_imported_so(tmp_path: Path, kept: str) -> None:
    """`standalone` is the store without encryption: that the files would show it."""
    key = KEPT_KEY if kept == "sealed" else ""
    command = ["import", "stan", str(unpack(kept, tmp_path / "old").store), "--apply", "--cluster-id", "test-cluster"]
    command += ["--store-dir", str(tmp_path / "new"), "--encryption-key", key]
    assert await anyio.to_thread.run_sync(main, command) == 0

    assert showing(tmp_path / "new", b"order 3") == (set() if key else {DATA_FILE})
    with pytest.raises(StoreEncrypted) if key else nullcontext():
        async with served(tmp_path / "new", None):
            pass
    async with served(tmp_path / "new", key or None) as server, talking(server.client_url) as stan:
        assert await stan.received(4) == [b"order %d" % number for number in range(4)]


# --- as a process


CONFIG: Final = "streaming { store: file, encrypt: true, encryption_cipher: chacha }"


async def test_after_a_crash_the_journal_opens_with_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    with ServerProcess(tmp_path, config=CONFIG) as process:
        async with talking(process.url) as stan:
            for payload in payloads(30):
                await stan.publish(payload)
            process.kill()
        assert "STREAM: Store encryption is enabled (CHACHA)" in process.log()
        assert showing(process.store, CHANNEL.encode()) >= {JOURNAL_FILE}
        assert not showing(process.store, MARK)

        process.start()
        async with talking(process.url) as stan:
            assert await stan.received(30) == payloads(30)
        assert not showing(process.store, MARK)


@pytest.mark.parametrize(
    ("key", "text"), [("another key", "the encryption key is not the one"), (None, "encryption key required: ")]
)
def test_a_start_without_the_key_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str | None, text: str
) -> None:
    """Even if nothing was stored but whose key it is."""
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    with ServerProcess(tmp_path, config=CONFIG) as process:
        process.kill()
        if key is None:
            (tmp_path / "streamd.conf").write_text("streaming { store: file }")
        else:
            monkeypatch.setenv(KEY_VARIABLE, key)
        before = process.log()
        with pytest.raises(RuntimeError, match="did not get ready"):
            process.start()
        assert process.process is not None
        assert process.process.wait(10) == 1
        said = process.log().removeprefix(before)
        assert text in said
        assert "Traceback" not in said
        assert "another key" not in said
