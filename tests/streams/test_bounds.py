"""What the configuration allows all streams together, and what INFO tells, as nats-server 2.15.2 answers."""

from __future__ import annotations

import errno
import json
from typing import TYPE_CHECKING, Any

import nats
import pytest

from streamd import Config, JetStreamConfig, Server
from streamd.config.models import JetStreamLimits
from streamd.store import Environment

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from nats.aio.client import Client

pytestmark = pytest.mark.anyio
SECOND_NS = 10**9


@pytest.fixture
async def client(anyio_backend: str, tmp_path: Path) -> AsyncIterator[Client]:
    """Of a server that lets streams hold 20,000 bytes of either kind."""
    jetstream = JetStreamConfig(
        store_dir=str(tmp_path),
        max_memory_bytes=20_000,
        max_storage_bytes=20_000,
        limits=JetStreamLimits(max_ack_pending=7, max_request_batch=5, duplicate_window_ns=60 * SECOND_NS),
    )
    config = Config(host="127.0.0.1", port=-1, client_advertise="example.org:4333", jetstream=jetstream)
    async with Server(config) as server:
        connection = await nats.connect(server.client_url, allow_reconnect=False)
        yield connection
        await connection.close()


async def ask(client: Client, subject: str, **fields: Any) -> dict[str, Any]:
    answer = await client.request(subject, json.dumps(fields).encode() if fields else b"", timeout=10)
    return dict(json.loads(answer.data))


async def create(client: Client, name: str, **fields: Any) -> dict[str, Any]:
    return await ask(client, f"$JS.API.STREAM.CREATE.{name}", name=name, subjects=[name.lower()], **fields)


def code(answer: dict[str, Any]) -> int:
    return int(answer.get("error", {}).get("err_code", 0))


async def test_streams_reserve_no_more_than_there_is(client: Client) -> None:
    assert code(await create(client, "A", max_bytes=30_000)) == 10047
    assert code(await create(client, "A", max_bytes=30_000, storage="memory")) == 10028
    assert code(await create(client, "A", max_bytes=15_000)) == 0
    assert code(await create(client, "B", max_bytes=15_000)) == 10047
    assert code(await ask(client, "$JS.API.STREAM.UPDATE.A", name="A", subjects=["a"], max_bytes=25_000)) == 10047
    assert code(await ask(client, "$JS.API.STREAM.UPDATE.A", name="A", subjects=["a"], max_bytes=20_000)) == 0


@pytest.mark.parametrize("storage", ["file", "memory"])
async def test_publishes_beyond_the_bound_are_refused_until_there_is_room(client: Client, storage: str) -> None:
    await create(client, "C", storage=storage)
    answers: list[dict[str, Any]] = []
    while not answers or "error" not in answers[-1]:
        assert len(answers) < 30
        answers.append(json.loads((await client.request("c", b"x" * 1_000, timeout=10)).data))
    stored = len(answers) - 1

    assert answers[-1]["error"] == {"code": 503, "err_code": 10023, "description": "insufficient resources"}
    assert 15 <= stored <= 20
    assert (await ask(client, "$JS.API.STREAM.PURGE.C"))["purged"] == stored
    assert json.loads((await client.request("c", b"", timeout=10)).data) == {"stream": "C", "seq": stored + 1}


async def test_ceilings_of_the_server(client: Client) -> None:
    """A duplicate window, a pull batch and acks pending: too much is refused, and the defaults fit below."""
    assert (await create(client, "D"))["config"]["duplicate_window"] == 60 * SECOND_NS
    assert code(await create(client, "E", duplicate_window=120 * SECOND_NS)) == 10052

    async def consumer(name: str, **fields: Any) -> dict[str, Any]:
        config = {"name": name, "durable_name": name, "ack_policy": "explicit", **fields}
        return await ask(client, f"$JS.API.CONSUMER.CREATE.D.{name}", stream_name="D", config=config)

    assert (await consumer("x", max_batch=9))["error"]["description"] == (
        "consumer max request batch exceeds server limit of 5"
    )
    assert code(await consumer("x", max_ack_pending=9)) == 10121
    made = (await consumer("x"))["config"]
    assert (made["max_batch"], made["max_ack_pending"]) == (5, 7)


async def test_info_tells_the_advertised_address(client: Client) -> None:
    assert (client._server_info["host"], client._server_info["port"]) == ("example.org", 4333)


@pytest.mark.parametrize("text", [":1", "a:b", "a:70000", "::1", "a:"])
def test_an_address_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="client_advertise"):
        Config(client_advertise=text)


async def test_number_of_streams(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """LMDB has a fixed number of databases; a stream that goes gives its place back."""
    monkeypatch.setattr("streamd.limits.STORE_STREAMS_MAX", 2)
    for name in ("A", "B"):
        assert code(await create(client, name)) == 0
    assert code(await create(client, "C")) == 10027
    assert code(await create(client, "M", storage="memory")) == 0
    await ask(client, "$JS.API.STREAM.DELETE.A")
    assert code(await create(client, "C")) == 0


async def test_stream_that_found_no_room_on_the_disk(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asked for it is told, it isn't there, and it can be made once there is room."""

    def full(environment: Environment, txn: object) -> int:
        raise OSError(errno.ENOSPC, "no space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(Environment, "commit", full)
        assert code(await create(client, "A")) == 10047
        assert code(await ask(client, "$JS.API.STREAM.INFO.A")) == 10059
    assert code(await create(client, "A")) == 0
