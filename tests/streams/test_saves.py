"""States of consumers are stored with what defines them, or behind that."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from streamd.api.consumer import ConsumerConfig
from streamd.streams.consumers import create_consumer

if TYPE_CHECKING:
    from nats.aio.client import Client

    from streamd import Server
    from streamd.store import Work
    from streamd.store.writer import Writer

pytestmark = pytest.mark.anyio


class Orphans:
    """States that are stored of consumers that aren't."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, writer: Writer) -> None:
        self.found: list[tuple[int, int]] = []
        self._defined: set[tuple[int, int]] = set()
        submit = writer.submit

        def watched(work: Work, done: Any) -> None:
            for stream, part in work.logs.items():
                self._defined |= {(stream, number) for number in part.consumers}
                self.found += [
                    (stream, number) for number in part.consumer_states if (stream, number) not in self._defined
                ]
            submit(work, done)

        monkeypatch.setattr(writer, "submit", watched)


async def test_a_state_waits_for_its_definition(
    server: Server, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While replicas have something for the next commit, a new consumer's row waits for the one after."""
    await client.jetstream().add_stream(name="S", subjects=["s"])
    jetstream = server.jetstream
    assert jetstream is not None
    commits = jetstream.services.commits
    orphans = Orphans(monkeypatch, jetstream.writer)
    commits.open()
    made = asyncio.Event()
    config = ConsumerConfig.model_validate({"durable_name": "c", "name": "c", "ack_policy": "explicit"})
    create_consumer(jetstream.streams["S"], config, 1, lambda _consumer, _error: made.set())
    consumer = jetstream.streams["S"].consumers["c"]
    consumer.purged(None)  # as when a purge of the stream ends just now
    async with asyncio.timeout(10):
        await made.wait()
        while commits._saves:
            await asyncio.sleep(0.001)
    assert not orphans.found
    assert orphans._defined
