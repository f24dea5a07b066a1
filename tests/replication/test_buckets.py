"""Key-value and object stores of nats-py, unchanged, on replicated streams."""

from __future__ import annotations

import asyncio
import hashlib
import random
from typing import TYPE_CHECKING

import pytest
from nats.js.api import DiscardPolicy, ObjectStoreConfig, StreamConfig
from nats.js.errors import KeyDeletedError, KeyNotFoundError, KeyWrongLastSequenceError, ObjectNotFoundError

from tests.replication.test_consumers import step_down

if TYPE_CHECKING:
    from nats.js import JetStreamContext
    from nats.js.kv import KeyValue

    from tests.replication.nodes import Nodes

pytestmark = pytest.mark.anyio


async def bucket(js: JetStreamContext, name: str, history: int) -> KeyValue:
    """A bucket as nats-py makes it, but without times to live of single messages."""
    await js.add_stream(
        StreamConfig(
            name=f"KV_{name}",
            subjects=[f"$KV.{name}.>"],
            num_replicas=3,
            max_msgs_per_subject=history,
            discard=DiscardPolicy.NEW,
            allow_direct=True,
            allow_rollup_hdrs=True,
            deny_delete=True,
        )
    )
    return await js.key_value(name)


async def test_key_value(shared: Nodes) -> None:
    """Every operation, at different servers, with stepdowns between them."""
    js = await shared.js("a")
    kv = await bucket(js, "conf", 5)
    others = [await (await shared.js(name)).key_value("conf") for name in "bc"]
    watcher = await others[1].watchall()
    assert await watcher.updates() is None  # type: ignore[no-untyped-call]
    assert await kv.put("one", b"1") == 1
    assert await others[0].create("two", b"2") == 2
    await shared.alike()  # the client asks any replica why it was refused, and one may lag
    with pytest.raises(KeyWrongLastSequenceError):
        await others[1].create("two", b"again")
    await step_down(shared, "KV_conf")
    assert await others[1].update("two", b"22", last=2) == 3
    with pytest.raises(KeyWrongLastSequenceError):
        await kv.update("two", b"222", last=2)
    await kv.delete("one")
    await others[0].put("three", b"3")
    await step_down(shared, "KV_conf")
    await others[0].purge("two")
    assert await kv.create("one", b"anew") == 7
    seen = [await watcher.updates(timeout=10) for _ in range(7)]  # type: ignore[no-untyped-call]
    assert [(entry.key, entry.operation) for entry in seen if entry is not None] == [
        ("one", None),
        ("two", None),
        ("two", None),
        ("one", "DEL"),
        ("three", None),
        ("two", "PURGE"),
        ("one", None),
    ]
    await watcher.stop()  # type: ignore[no-untyped-call]
    await shared.alike()
    for each in (kv, *others):
        assert (await each.get("one")).value == b"anew"
        assert (await each.get("three")).revision == 5
        with pytest.raises((KeyDeletedError, KeyNotFoundError)):
            await each.get("two")
        with pytest.raises(KeyNotFoundError):
            await each.get("none")
        assert sorted(await each.keys()) == ["one", "three"]
        assert [entry.value for entry in await each.history("one")] == [b"1", b"", b"anew"]
        assert (await each.status()).values == 5
    assert await js.delete_key_value("conf")
    await shared.alike()


async def test_counters_do_not_lose_steps(shared: Nodes) -> None:
    """Many that count by compare and set, at all servers, while the leader changes."""
    js = await shared.js("a")
    await (await bucket(js, "count", 1)).put("n", b"0")
    await shared.alike()  # a get at a replica sees what is there

    async def count(name: str) -> None:
        kv = await (await shared.js(name)).key_value("count")
        done = 0
        while done < 15:
            entry = await kv.get("n")
            try:
                await kv.update("n", b"%d" % (int(entry.value or b"") + 1), last=entry.revision)
                done += 1
            except KeyWrongLastSequenceError:
                continue

    tasks = [asyncio.create_task(count(name)) for name in "abc"]
    await step_down(shared, "KV_count")
    await step_down(shared, "KV_count")
    await asyncio.gather(*tasks)
    await shared.alike()
    assert (await (await js.key_value("count")).get("n")).value == b"45"
    await shared.alike()


async def test_object_store(shared: Nodes) -> None:
    """Objects of many chunks, put at one server and got at others, through a stepdown."""
    js = await shared.js("b")
    store = await js.create_object_store("things", config=ObjectStoreConfig(replicas=3))
    data = random.Random(1).randbytes(1_500_000)
    info = await store.put("big", data)
    assert info.chunks == 12
    await step_down(shared, "OBJ_things")
    other = await (await shared.js("c")).object_store("things")
    found = await other.get("big")
    assert found.data is not None
    assert hashlib.sha256(found.data).digest() == hashlib.sha256(data).digest()
    await other.put("big", b"small now")
    await other.put("more", b"x")
    assert (await store.get("big")).data == b"small now"
    assert sorted(each.name for each in await store.list()) == ["big", "more"]
    await store.delete("more")
    with pytest.raises(ObjectNotFoundError):
        await other.get("more")
    await shared.alike()
