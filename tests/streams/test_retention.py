"""What leaves a stream and what doesn't, with file and memory storage."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from nats.js.api import StreamConfig
from nats.js.errors import APIError, NotFoundError

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.js import JetStreamContext

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("storage", ["file", "memory"])]


async def sequences(js: JetStreamContext, stream: str = "S") -> list[int]:
    """The sequences of all live messages."""
    state = (await js.stream_info(stream)).state
    found = []
    for sequence in range(state.first_seq, state.last_seq + 1):
        try:
            found.append((await js.get_msg(stream, sequence)).seq or 0)
        except NotFoundError:
            continue
    return found


async def fill(client: Client, storage: str, count: int = 8, **config: Any) -> JetStreamContext:
    """Stream S, filled over s.0, s.1, s.2 in turn with messages of ten bytes."""
    js = client.jetstream()
    await js.add_stream(StreamConfig(name="S", subjects=["s.*"], storage=storage, **config))  # type: ignore[arg-type]
    for number in range(count):
        await js.publish(f"s.{number % 3}", b"%010d" % number)
    return js


@pytest.mark.parametrize(
    ("config", "left"),
    [
        ({"max_msgs": 3}, [6, 7, 8]),
        ({"max_bytes": 100}, None),
        ({"max_msgs_per_subject": 1}, [6, 7, 8]),
        ({"max_msgs_per_subject": 2}, [3, 4, 5, 6, 7, 8]),
        ({"max_msgs_per_subject": 2, "max_msgs": 4}, [5, 6, 7, 8]),
    ],
)
async def test_old_messages_make_room(
    client: Client, storage: str, config: dict[str, Any], left: list[int] | None
) -> None:
    """Discard old: the oldest go, as many as needed and no more."""
    js = await fill(client, storage, **config)
    state = (await js.stream_info("S")).state
    if left is None:
        size = 43 if storage == "file" else 29
        left = list(range(9 - 100 // size, 9))
    assert await sequences(js) == left
    assert (state.messages, state.first_seq, state.last_seq) == (len(left), left[0], 8)


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({"max_msgs": 3}, "maximum messages exceeded"),
        ({"max_bytes": 130}, "maximum bytes exceeded"),
        ({"max_msgs_per_subject": 1, "discard_new_per_subject": True}, "maximum messages per subject exceeded"),
    ],
)
async def test_new_messages_are_refused(client: Client, storage: str, config: dict[str, Any], text: str) -> None:
    """Discard new: what is there stays, the publisher is told."""
    js = await fill(client, storage, 3, discard="new", **config)
    with pytest.raises(APIError) as refused:
        await asyncio.gather(*[js.publish("s.0", b"%010d" % 9) for _ in range(5)])
    assert (refused.value.err_code, refused.value.description) == (10077, text)
    assert (await sequences(js))[:3] == [1, 2, 3]


async def test_age(client: Client, storage: str) -> None:
    """Messages go when they are old enough, the sequence goes on."""
    js = await fill(client, storage, 3, max_age=0.4)
    assert await sequences(js) == [1, 2, 3]
    async with asyncio.timeout(10):
        while (await js.stream_info("S")).state.messages:
            await asyncio.sleep(0.02)
    assert (await js.publish("s.0", b"")).seq == 4


async def test_deletes_and_purges(client: Client, storage: str) -> None:
    """Interior deletes leave holes; purges go by subject, sequence and number."""
    js = await fill(client, storage)
    await js.delete_msg("S", 4)
    await js.delete_msg("S", 1)
    state = (await js.stream_info("S")).state
    assert (state.messages, state.first_seq, state.num_deleted) == (6, 2, 1)
    await js.purge_stream("S", subject="s.1", keep=1)
    assert await sequences(js) == [3, 6, 7, 8]
    await js.purge_stream("S", seq=7)
    assert await sequences(js) == [7, 8]
    await js.purge_stream("S", keep=1)
    assert await sequences(js) == [8]
    await js.purge_stream("S")
    state = (await js.stream_info("S")).state
    assert (state.messages, state.bytes, state.first_seq, state.last_seq) == (0, 0, 9, 8)


async def test_lowered_limits_apply_at_once(client: Client, storage: str) -> None:
    """An update trims; where new messages are discarded it removes nothing."""
    js = await fill(client, storage, 9)
    config = (await js.stream_info("S")).config
    config.max_msgs_per_subject = 2
    await js.update_stream(config)
    assert await sequences(js) == [4, 5, 6, 7, 8, 9]
    config.max_msgs = 4
    await js.update_stream(config)
    assert await sequences(js) == [6, 7, 8, 9]
    config.max_msgs = 2
    config.discard = "new"  # type: ignore[assignment]
    await js.update_stream(config)
    assert await sequences(js) == [6, 7, 8, 9]


async def test_rollup(client: Client, storage: str) -> None:
    """A message replaces those of its subject, or all; a stored one keeps no status line."""
    js = await fill(client, storage, allow_rollup_hdrs=True)
    await js.publish("s.0", b"now", headers={"Nats-Rollup": "sub"})
    assert await sequences(js) == [2, 3, 5, 6, 8, 9]
    await js.publish("s.1", b"now", headers={"Nats-Rollup": "ALL"})
    assert await sequences(js) == [10]
    sub = await js.pull_subscribe("s.*", "c")
    assert [msg.data for msg in await sub.fetch(1, timeout=2)] == [b"now"]
    # With a reply subject, as infos count what is admitted before it is durable.
    acks = await client.subscribe("acks")
    await client._send_command(b"HPUB s.2 acks 22 24\r\nNATS/1.0 503\r\na: b\r\n\r\nhi\r\n")
    await acks.next_msg(timeout=5)
    assert (await js.get_msg("S", 11)).headers == {"a": "b"}
