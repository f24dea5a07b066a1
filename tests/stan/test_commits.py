"""Bursts to more channels than one commit may have."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import nats
import pytest

from streamd import Config, Server, limits
from streamd.config.streaming import StreamingConfig
from streamd.stan.schema_pb2 import ConnectRequest, PubAck, PubMsg
from streamd.store import Writer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from nats.aio.msg import Msg

    from streamd.store import Outcome, Work

pytestmark = pytest.mark.anyio
CHANNELS = [f"many.{index}" for index in range(2 * limits.COMMIT_STREAMS_MAX + 5)]


async def test_burst_is_stored_in_order_by_bounded_commits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    submit = Writer.submit

    def noted(self: Writer, work: Work, done: Callable[[Outcome], None]) -> None:
        sizes.append(sum(bool(part.appends) for part in work.logs.values()))
        submit(self, work, done)

    monkeypatch.setattr(Writer, "submit", noted)
    streaming = StreamingConfig(store="file", dir=str(tmp_path), max_channels=0)
    config = Config(host="127.0.0.1", port=-1, streaming=streaming)
    async with Server(config) as server, asyncio.timeout(60):
        client = await nats.connect(server.client_url)
        hello = ConnectRequest(clientID=b"me", heartbeatInbox=client.new_inbox().encode(), protocol=1, connID=b"1")
        await client.request("_STAN.discover.test-cluster", hello.SerializeToString())
        acks: asyncio.Queue[PubAck] = asyncio.Queue()
        inbox = client.new_inbox()

        async def acked(message: Msg) -> None:
            acks.put_nowait(PubAck.FromString(message.data))

        await client.subscribe(inbox, cb=acked)
        for burst in ((b"a",), (b"b", b"c")):
            for data in burst:
                for channel in CHANNELS:
                    message = PubMsg(clientID="me", guid=channel, subject=channel, data=data, connID=b"1")
                    await client.publish(f"_STAN.pub.test-cluster.{channel}", message.SerializeToString(), reply=inbox)
            answers = [await acks.get() for _ in burst for _ in CHANNELS]
            assert not any(answer.error for answer in answers)
            assert sorted(answer.guid for answer in answers) == sorted(CHANNELS * len(burst))
        assert server.streaming is not None
        for channel in CHANNELS:
            stream = server.streaming.channels.by_name[channel].stream
            values = stream.get_many((1, 2, 3))
            assert [value is not None and value[-1:] for value in values] == [b"a", b"b", b"c"]
        await client.close()

    assert max(sizes) == limits.COMMIT_STREAMS_MAX
