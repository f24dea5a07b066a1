"""Unmodified clients at work on a cluster that loses nodes, and what they were told.

nats-py publishes into a stream of three replicas and consumes it; the Python client of NATS Streaming does the same on a
channel. Both know all nodes and go to another one when theirs goes.
"""

from __future__ import annotations

import asyncio
import itertools
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final

import nats
from nats.errors import Error as NatsError
from nats.js.api import AckPolicy, ConsumerConfig, StreamConfig

from tests.faults.history import Promises, Stored, differing, faults
from tests.stan.program import Connection, Program, Refused

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from nats.aio.client import Client
    from nats.aio.msg import Msg
    from nats.js import JetStreamContext

    from tests.stan.program import Language

STREAM: Final = "CHAOS"
CONSUMER: Final = "D"
CHANNEL: Final = "chaos"
STAN_CLUSTER: Final = "test"
REPLICAS: Final = 3
#: How long one request may take; a publish that isn't acked by then is sent again under its id.
ANSWER_SECONDS: Final = 2
LOOK_SECONDS: Final = 0.05
#: Between two publishes of the same: the machine has other things to do as well, such as to start servers.
PACE_SECONDS: Final = 0.01
PATIENCE_SECONDS: Final = 90
#: Publishes of NATS Streaming that are under way at once, and how long they may be.
BATCH: Final = 20
ACK_SECONDS: Final = 3


async def quiet(_error: Exception) -> None:
    """What goes wrong is raised where it matters; nats-py would print it."""


async def connect(urls: list[str]) -> Client:
    """A client that notices a dead node within a second or two, and never gives up."""
    return await nats.connect(
        urls,
        error_cb=quiet,
        connect_timeout=1,
        max_reconnect_attempts=-1,
        reconnect_time_wait=0.05,
        ping_interval=1,
        max_outstanding_pings=2,
        pending_size=-1,  # nothing is published into the void of a reconnect
    )


async def insist(what: Callable[[], Awaitable[object]]) -> None:
    """Again and again until it succeeds. Errors: AssertionError with the last one after PATIENCE_SECONDS."""
    last: Exception | None = None
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                try:
                    await what()
                except (NatsError, OSError, TimeoutError) as error:
                    last = error
                    await asyncio.sleep(LOOK_SECONDS)
                else:
                    return
    except TimeoutError:
        raise AssertionError(f"not within {PATIENCE_SECONDS} s: {last!r}") from last


class Counter:
    """Acks, and whoever waits for more of them."""

    def __init__(self) -> None:
        self.count = 0
        self._more = asyncio.Event()

    def add(self, count: int = 1) -> None:
        """So many more came."""
        self.count += count
        self._more.set()

    async def more(self, count: int) -> None:
        """Wait for so many more. Errors: AssertionError after PATIENCE_SECONDS."""
        wanted = self.count + count
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while self.count < wanted:
                    self._more.clear()
                    await self._more.wait()
        except TimeoutError:
            raise AssertionError(f"{wanted - self.count} of {count} acks never came") from None


class StreamLoad:
    """Publishers of a replicated stream, a durable pull consumer of it, and an observer of its ack floor."""

    def __init__(self, urls: list[str]) -> None:
        self.urls = urls
        self.promises = Promises()
        self.acks = Counter()
        self._stopping = False
        self._heard_enough = False

    async def set_up(self) -> None:
        """Make the stream and its consumer."""
        client = await connect(self.urls)
        jetstream = client.jetstream(timeout=ANSWER_SECONDS)
        stream = StreamConfig(name=STREAM, subjects=["chaos.>"], num_replicas=REPLICAS)
        consumer = ConsumerConfig(
            durable_name=CONSUMER, ack_policy=AckPolicy.EXPLICIT, ack_wait=3, max_ack_pending=5000
        )
        await insist(lambda: jetstream.add_stream(stream))
        await insist(lambda: jetstream.add_consumer(STREAM, consumer))
        await client.close()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Everybody at work. Publishers with an id see each of theirs through before this ends."""
        publishers = [
            asyncio.create_task(self._publish("lone", window=1, again=True)),
            asyncio.create_task(self._publish("many", window=8, again=True)),
            asyncio.create_task(self._publish("bare", window=4, again=False)),
        ]
        try:
            async with self._reading():
                yield
                self._stopping = True
                await asyncio.wait_for(asyncio.gather(*publishers), PATIENCE_SECONDS)
        finally:
            for task in publishers:
                task.cancel()
            await asyncio.gather(*publishers, return_exceptions=True)

    @asynccontextmanager
    async def _reading(self) -> AsyncIterator[None]:
        """The consumer and the observer at work. They aren't cancelled: nats-py takes that for a message that doesn't come."""
        self._heard_enough = False
        readers = [asyncio.create_task(self._consume()), asyncio.create_task(self._observe())]
        try:
            yield
        finally:
            self._heard_enough = True
            results = await asyncio.gather(*readers, return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result

    async def finish(self) -> list[str]:
        """Consume what is left and replay everything through each node. Returns what is wrong."""
        client = await connect(self.urls)
        jetstream = client.jetstream(timeout=ANSWER_SECONDS)

        async def consumed() -> None:
            info = await jetstream.consumer_info(STREAM, CONSUMER)
            if info.num_pending or info.num_ack_pending:
                raise NatsError(f"{info.num_pending} to be consumed, {info.num_ack_pending} to be acked")

        try:
            async with self._reading():
                await insist(consumed)
                replays = {url: await replay(url) for url in self.urls}
        finally:
            await client.close()
        return [*differing(replays), *faults(self.promises, replays[self.urls[0]], ["lone"])]

    async def _publish(self, name: str, *, window: int, again: bool) -> None:
        """Numbered messages. `again`: each is sent until it is acked; otherwise its fate may stay unknown."""
        client = await connect(self.urls)
        jetstream = client.jetstream(timeout=ANSWER_SECONDS)
        numbers = itertools.count()

        async def work() -> None:
            while not self._stopping:
                await self._one(jetstream, f"{name}:{next(numbers)}", again=again)
                await asyncio.sleep(PACE_SECONDS)

        try:
            await asyncio.gather(*(work() for _ in range(window)))
        finally:
            await client.close()

    async def _one(self, jetstream: JetStreamContext, payload: str, *, again: bool) -> None:
        headers = {"Nats-Msg-Id": payload} if again else None
        while True:
            try:
                ack = await jetstream.publish("chaos.one", payload.encode(), headers=headers)
            except (NatsError, OSError, TimeoutError):
                await asyncio.sleep(LOOK_SECONDS)
                if not again:
                    return
            else:
                self.promises.ack(payload, ack.seq)
                self.acks.add()
                return

    async def _consume(self) -> None:
        """Pull, note, and have each ack confirmed."""
        client = await connect(self.urls)
        try:
            jetstream = client.jetstream(timeout=ANSWER_SECONDS)
            subscription = await jetstream.pull_subscribe_bind(CONSUMER, STREAM)
            while not self._heard_enough:
                try:
                    messages = await subscription.fetch(100, timeout=1)
                except (NatsError, OSError, TimeoutError):
                    await asyncio.sleep(LOOK_SECONDS)  # without a connection it fails at once
                    continue
                for message in messages:
                    self.promises.heard.append((message.metadata.sequence.stream, message.data.decode()))
                await asyncio.gather(*map(self._confirm, messages))
        finally:
            await client.close()

    async def _confirm(self, message: Msg) -> None:
        with suppress(NatsError, OSError, TimeoutError):
            await message.ack_sync(timeout=ANSWER_SECONDS)
            self.promises.confirmed.add(message.metadata.sequence.stream)

    async def _observe(self) -> None:
        """Ask for the ack floor, one question after the other."""
        client = await connect(self.urls)
        try:
            jetstream = client.jetstream(timeout=ANSWER_SECONDS)
            while not self._heard_enough:
                with suppress(NatsError, OSError, TimeoutError):
                    info = await jetstream.consumer_info(STREAM, CONSUMER)
                    assert info.ack_floor is not None
                    self.promises.floors.append(info.ack_floor.stream_seq)
                await asyncio.sleep(LOOK_SECONDS)
        finally:
            await client.close()


async def replay(url: str) -> list[Stored]:
    """All messages of the stream as a client of this node gets them."""
    client = await nats.connect(url, allow_reconnect=False, error_cb=quiet)
    try:
        jetstream = client.jetstream()
        last = (await jetstream.stream_info(STREAM)).state.last_seq
        subscription = await jetstream.subscribe("chaos.>", stream=STREAM, ordered_consumer=True)
        found: list[Stored] = []
        while not found or found[-1].sequence < last:
            message = await subscription.next_msg(timeout=20)
            identity = (message.headers or {}).get("Nats-Msg-Id", "")
            found.append(Stored(message.metadata.sequence.stream, message.data.decode(), identity))
        return found
    finally:
        await client.close()


class ChannelLoad:
    """A publisher and a durable subscriber of a channel of NATS Streaming, through one connection that outlives leaders."""

    def __init__(self, language: Language, urls: list[str], directory: Path) -> None:
        self.promises = Promises()
        self.acks = Counter()
        self._urls = urls
        self._program = Program(language, directory)
        self._stopping = False

    async def set_up(self) -> None:
        """Connect and subscribe."""
        self._connection = await asyncio.to_thread(self._connect, "me")
        self._subscription = await asyncio.to_thread(
            self._connection.subscribe, CHANNEL, ("first", 0), durable="durable", ack_seconds=3
        )

    def _connect(self, name: str) -> Connection:
        return Connection(
            self._program, name, self._urls, name, cluster=STAN_CLUSTER, ack_seconds=ACK_SECONDS, ping_out=30
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """The publisher at work."""
        working = asyncio.create_task(self._publish())
        try:
            yield
            self._stopping = True
            await asyncio.wait_for(working, PATIENCE_SECONDS)
        finally:
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)

    async def _publish(self) -> None:
        number = 0
        while not self._stopping:
            payloads = [f"stan:{number + place}" for place in range(BATCH)]
            number += BATCH
            # Where the library refuses or times out, it isn't known what is stored: it may be there once or not at all.
            with suppress(Refused):
                acked, _ = await asyncio.to_thread(self._connection.publish_async, CHANNEL, payloads)
                for place in acked:
                    self.promises.ack(payloads[place], 0)
                self.acks.add(len(acked))

    async def finish(self) -> list[str]:
        """Replay the channel from the first message. Returns what is wrong."""
        last = "last:0"
        await insist(lambda: self._last(last))
        connection = await asyncio.to_thread(self._connect, "reader")
        reading = await asyncio.to_thread(connection.subscribe, CHANNEL, ("first", 0))
        for subscription in (reading, self._subscription):
            await asyncio.to_thread(
                self._program.until,
                lambda name=subscription.name: any(one.data == last for one in self._program.messages[name]) or None,
                "the last message",
                PATIENCE_SECONDS,
            )
        found = [Stored(one.sequence, one.data) for one in self._program.messages[reading.name] if not one.redelivered]
        self.promises.heard = [(one.sequence, one.data) for one in self._program.messages[self._subscription.name]]
        return faults(self.promises, found, [])

    async def _last(self, payload: str) -> None:
        acked, errors = await asyncio.to_thread(self._connection.publish_async, CHANNEL, [payload])
        if not acked:
            raise TimeoutError(errors)

    def close(self) -> None:
        """The program ends."""
        self._program.close()
