"""Publishers and consumers that note what they were promised, against a server that may vanish at any moment."""

from __future__ import annotations

import asyncio
import json
import random
from collections import defaultdict
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final

import nats
from nats.errors import Error as NatsError

from tests.faults.wire import Wire

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from nats.aio.msg import Msg

    from tests.process import ServerProcess

CONSUMER: Final = "D"
STREAMS: Final = ("PLAIN", "IDS", "BIG")
_FETCH: Final = 200


class Ledger:
    """What the server promised."""

    def __init__(self) -> None:
        self.acked: dict[str, dict[int, bytes]] = defaultdict(dict)  # stream → sequence → payload
        self.confirmed: dict[str, set[int]] = defaultdict(set)  # stream → sequences whose ack was confirmed
        self.delivered: dict[str, set[int]] = defaultdict(set)
        self.faults: list[str] = []
        self.refused: list[str] = []
        self.acks = 0
        self.more = asyncio.Event()  # set at every ack

    def ack(self, stream: str, sequence: int, payload: bytes) -> None:
        """A publish was acked."""
        self.acks += 1
        self.more.set()
        before = self.acked[stream].setdefault(sequence, payload)
        if before != payload:
            self.faults.append(f"{stream} {sequence} was given to {before[:30]!r} and to {payload[:30]!r}")

    def deliver(self, stream: str, sequence: int) -> None:
        """A consumer got a message."""
        if sequence in self.confirmed[stream]:
            self.faults.append(f"{stream} {sequence} came again after its ack was confirmed")
        self.delivered[stream].add(sequence)

    def floor(self, stream: str) -> int:
        """All up to here was confirmed."""
        floor = 0
        while floor + 1 in self.confirmed[stream]:
            floor += 1
        return floor


class Publisher:
    """Publishes numbered payloads with a window of unacked ones; with ids it sends those again after a crash."""

    def __init__(self, name: str, stream: str, ledger: Ledger, *, window: int, size: int, ids: bool) -> None:
        self.name = name
        self.stream = stream
        self._ledger = ledger
        self._window = window
        self._size = size
        self._ids = ids
        self._next = 0
        self._waiting: dict[int, bytes] = {}

    async def run(self, port: int) -> None:
        """Until the connection ends."""
        async with await Wire.connect(port) as wire:
            wire.subscribe(f"_R.{self.name}.*")
            if not self._ids:
                self._waiting.clear()
            for number in self._waiting:
                self._send(wire, number)
            self._fill(wire)
            while (message := await wire.next()) is not None:
                answer = json.loads(message.payload or b'{"error":"no responders"}')
                payload = self._waiting.pop(int(message.subject.rsplit(".", 1)[1]))
                if "error" in answer:
                    self._ledger.refused.append(f"{self.name}: {answer}")
                else:
                    self._ledger.ack(answer["stream"], answer["seq"], payload)
                self._fill(wire)

    @property
    def waiting(self) -> str:
        """What is unacked, for a failed test."""
        return f"{len(self._waiting)} from {min(self._waiting, default=0)}"

    def _fill(self, wire: Wire) -> None:
        while len(self._waiting) < self._window:
            self._waiting[self._next] = f"{self.name}:{self._next}:".encode() + b"." * self._size
            self._send(wire, self._next)
            self._next += 1

    def _send(self, wire: Wire, number: int) -> None:
        headers = f"NATS/1.0\r\nNats-Msg-Id: {self.name}-{number}\r\n\r\n".encode() if self._ids else b""
        subject = f"{self.stream}.{self.name}.{number % 7}"
        wire.publish(subject, self._waiting[number], f"_R.{self.name}.{number}", headers)


class Worker:
    """Pulls from the durable consumer of a stream and has its acks confirmed; leaves one in eight for a redelivery."""

    def __init__(self, stream: str, ledger: Ledger, seed: int) -> None:
        self.stream = stream
        self._ledger = ledger
        self._chance = random.Random(seed)

    async def run(self, url: str, *, until_empty: bool = False) -> None:
        """Until the connection ends or it is cancelled, or everything is acked."""
        client = await nats.connect(url, allow_reconnect=False, error_cb=_ignore)
        try:
            subscription = await client.jetstream().pull_subscribe_bind(CONSUMER, self.stream)
            while not client.is_closed:
                try:
                    messages = await subscription.fetch(_FETCH, timeout=0.3)
                except TimeoutError:  # the client's own, or that of the standard library
                    messages = []
                for message in messages:
                    self._ledger.deliver(self.stream, message.metadata.sequence.stream)
                wanted = [message for message in messages if until_empty or self._wants(message)]
                await asyncio.gather(*(message.ack() if until_empty else self._ack(message) for message in wanted))
                if until_empty and not messages:
                    info = await subscription.consumer_info()
                    if not info.num_pending and not info.num_ack_pending:
                        return
        except (NatsError, OSError):
            assert client.is_closed or not client.is_connected
        finally:
            with suppress(NatsError, OSError):
                await client.close()

    def _wants(self, message: Msg) -> bool:
        return message.metadata.num_delivered > 1 or self._chance.random() > 1 / 8

    async def _ack(self, message: Msg) -> None:
        sequence = message.metadata.sequence.stream
        await message.ack_sync(timeout=30)
        self._ledger.confirmed[self.stream].add(sequence)


class Load:
    """Several streams, publishers of each, a consumer of each."""

    def __init__(self, seed: int = 0, *, lone: bool = False) -> None:
        """`lone`: two publishers that wait for each ack, so that commits are as small as they can be."""
        self.ledger = ledger = Ledger()
        self.publishers = (
            [
                Publisher("p2", "PLAIN", ledger, window=1, size=10, ids=False),
                Publisher("p4", "IDS", ledger, window=1, size=500, ids=True),
            ]
            if lone
            else [
                Publisher("p1", "PLAIN", ledger, window=200, size=100, ids=False),
                Publisher("p2", "PLAIN", ledger, window=1, size=10, ids=False),
                Publisher("p3", "IDS", ledger, window=100, size=100, ids=True),
                Publisher("p4", "IDS", ledger, window=10, size=500, ids=True),
                Publisher("p5", "BIG", ledger, window=8, size=20_000, ids=False),
            ]
        )
        self.workers = [Worker(stream, ledger, seed) for stream in STREAMS]

    async def set_up(self, port: int) -> None:
        """Make the streams and their consumers."""
        async with await Wire.connect(port) as wire:
            for stream in STREAMS:
                answer = await wire.api(
                    f"STREAM.CREATE.{stream}", name=stream, subjects=[f"{stream}.>"], storage="file"
                )
                assert "error" not in answer, answer
                config = {
                    "durable_name": CONSUMER,
                    "ack_policy": "explicit",
                    "ack_wait": 10**9,
                    "max_ack_pending": 5000,
                }
                answer = await wire.api(
                    f"CONSUMER.DURABLE.CREATE.{stream}.{CONSUMER}", stream_name=stream, config=config
                )
                assert "error" not in answer, answer

    @asynccontextmanager
    async def running(self, server: ServerProcess) -> AsyncIterator[None]:
        """Everybody at work; the body kills the server, and what it had sent before is still taken in."""
        publishers = [asyncio.create_task(publisher.run(server.port)) for publisher in self.publishers]
        workers = [asyncio.create_task(worker.run(server.url)) for worker in self.workers]
        try:
            yield
            await asyncio.wait_for(asyncio.gather(*publishers), 20)
        finally:
            for task in (*workers, *publishers):
                task.cancel()
            results = await asyncio.gather(*workers, *publishers, return_exceptions=True)
        for result in results:
            if isinstance(result, Exception):
                raise result

    async def acks(self, more: int, timeout_seconds: float = 30) -> None:
        """Wait for so many acks more. Errors: AssertionError says who waits for which."""
        wanted = self.ledger.acks + more
        try:
            async with asyncio.timeout(timeout_seconds):
                while self.ledger.acks < wanted:
                    self.ledger.more.clear()
                    await self.ledger.more.wait()
        except TimeoutError:
            waiting = {publisher.name: publisher.waiting for publisher in self.publishers}
            raise AssertionError(f"{wanted - self.ledger.acks} of {more} acks never came: {waiting}") from None

    async def finish(self, url: str) -> None:
        """Consume everything that is left."""
        await asyncio.wait_for(asyncio.gather(*(worker.run(url, until_empty=True) for worker in self.workers)), 300)


async def _ignore(error: Exception) -> None:
    """The connection ends on purpose; nats-py would log it."""
