"""Bad input without measure: ten thousand broken publishes, noise, names as long as they can be, inboxes that are none,
and a disk that is full."""

from __future__ import annotations

import asyncio
import random
import re
import time
from typing import TYPE_CHECKING, Any, Final

import pytest

from streamd.config.streaming import ChannelLimits
from streamd.stan import schema_pb2 as pb
from streamd.stan.complaints import BURST, LINE_NS
from tests.core.test_nats_py import until
from tests.faults.stan_load import Watched
from tests.faults.wire import Message, Wire
from tests.faults.witness import MB, memory_bytes
from tests.monitor.asking import ask
from tests.process import ServerProcess
from tests.stan import by_hand
from tests.stan.by_hand import CLUSTER, Refused, Stan, checked, refusal
from tests.stan.here import serving
from tests.stan.servers import StanServer
from tests.stan.test_bad_input import BAD_PUBLISH, BROKEN, undisturbed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

pytestmark = pytest.mark.anyio

FULL: Final = "insufficient storage resources available"
PAYLOAD: Final = b"." * 4000


async def test_ten_thousand_broken_publishes(tmp_path: Path) -> None:
    """Each gets its answer; the log has some of them and the number of all, and memory stays what it was."""
    count = 10_000
    good = pb.PubMsg(clientID="nobody", guid="g", subject="w", data=b"x" * 1000).SerializeToString()
    broken = BROKEN + b"x" * 1000
    with StanServer(tmp_path, 'hb_interval: "10m"') as server:
        async with undisturbed(server), await Wire.connect(server.port) as wire:
            wire.subscribe("answers")
            assert await wire.alive()
            before, started = memory_bytes(server), time.monotonic()
            for number in range(count):
                wire.publish(by_hand.PUBLISH, broken if number % 2 else good, "answers")
            answers = [await wire.next() for _ in range(count)]
            seconds = time.monotonic() - started
            assert memory_bytes(server) - before < 30 * MB
        expected = [pb.PubAck(guid="" if number % 2 else "g", error=BAD_PUBLISH) for number in range(count)]
        assert [pb.PubAck.FromString(found.payload) for found in answers if found is not None] == expected

        def told() -> int:
            lines = re.findall(r"\[ERR\] STREAM: (?:(\d+) more|\[Client:\w*\] Received invalid)", server.log())
            return sum(int(more or 1) for more in lines)

        await until(lambda: told() == count)
        lines = server.log().count("[ERR]")
        assert 16 <= lines <= BURST + 2 * (seconds + 2) * 1e9 / LINE_NS
        assert "[Client:nobody] Received invalid client publish message" in server.log()


def mutated(chance: random.Random, data: bytes) -> bytes:
    """Some bytes changed, gone or new."""
    out = bytearray(data)
    for _ in range(chance.randrange(1, 5)):
        at = chance.randrange(len(out) + 1)
        out[at : at + chance.randrange(3)] = chance.randbytes(chance.randrange(3))
    return bytes(out)


async def test_noise(tmp_path: Path) -> None:
    """Requests of every kind with some of their bytes changed: whatever they mean, nobody else notices, and what they
    made is there after a kill."""
    chance = random.Random(11)
    with Watched(tmp_path, 'hb_interval: "10m"') as server:
        async with await Stan.connect(server.url, "noisy") as noisy, undisturbed_but_channels(server):
            heard = await noisy.subscribe("w", pb.NewOnly)
            request = pb.SubscriptionRequest(
                clientID=b"noisy", subject=b"a", qGroup=b"q", inbox=b"i", maxInFlight=1, ackWaitInSecs=30,
                durableName=b"d", startSequence=1, startTimeDelta=1,
            )  # fmt: skip
            connect = pb.ConnectRequest(clientID=b"other", heartbeatInbox=b"hb", protocol=1, connID=b"x")
            leave = pb.UnsubscribeRequest(clientID=b"noisy", subject=b"a", inbox=b"i")
            kinds = [
                (by_hand.CONNECT, connect.SerializeToString()),
                (by_hand.PING, pb.Ping(connID=b"abc").SerializeToString()),
                (by_hand.PUBLISH, noisy.publish_bytes("a", b"data", guid="g", reply="r")),
                (by_hand.SUBSCRIBE, request.SerializeToString()),
                (by_hand.UNSUBSCRIBE, leave.SerializeToString()),
                (by_hand.CLOSE_SUBSCRIPTION, leave.SerializeToString()),
                (by_hand.CLOSE, pb.CloseRequest(clientID=b"gone").SerializeToString()),
                (heard.ack_inbox, pb.Ack(subject="w", sequence=1).SerializeToString()),
            ]
            for _ in range(400):
                for subject, payload in kinds:
                    await noisy.nats.publish(subject, mutated(chance, payload), "r")
            await noisy.nats.flush()
            await noisy.publish("a", "still here")
        made = await pages(server)
        server.kill()
        server.start()
        assert await pages(server) == made
        assert "Traceback" not in server.log()
        assert "service on account" not in server.log()
        assert server.stop() == 0


async def pages(server: Watched) -> tuple[set[str], int]:
    """Names of channels, and how many subscriptions they have in all."""
    assert (await ask(server.monitor_port, "/metrics")).status == 200
    names: Any = (await ask(server.monitor_port, "/streaming/channelsz?limit=2000")).json()
    serverz: Any = (await ask(server.monitor_port, "/streaming/serverz")).json()
    return set(names["names"]), serverz["subscriptions"]


class undisturbed_but_channels:  # noqa: N801 - it reads as the other one
    """Like `undisturbed`, where channels may come up beside."""

    def __init__(self, server: StanServer) -> None:
        self._server = server
        self._done = asyncio.Event()

    async def __aenter__(self) -> None:
        self._witness = await Stan.connect(self._server.url, "witness")
        await self._witness.publish("w", "0")
        self._heard = await self._witness.subscribe("w")
        self._talking = asyncio.create_task(self._talk())

    async def _talk(self) -> None:
        count = 0
        while not self._done.is_set() or count < 10:
            assert (await self._heard.sequences(1)) == [count + 1]
            count += 1
            await self._witness.publish("w", str(count))

    async def __aexit__(self, *error: object) -> None:
        self._done.set()
        await self._talking
        await self._witness.close()
        await self._witness.nats.close()


async def test_long_names(tmp_path: Path) -> None:
    """As long as a message can be. What can be taken is taken, the rest refused, and the log stays short."""
    long = "x" * 200_000
    with StanServer(tmp_path, 'hb_interval: "10m"') as server:
        async with undisturbed(server), await Stan.connect(server.url, long) as stan:
            assert await stan.ping() == ""
            reason = f"the name of channel '{'x' * 40}'... is too long: its stream would have more than 255 bytes"
            assert await refusal(publish_named(stan, long)) == reason
            assert await refusal(subscribe_named(stan, long)) == reason
            other = pb.PubMsg(clientID=long, guid=long, subject="w", connID=b"old")
            found = await stan.ask(by_hand.PUBLISH, other.SerializeToString(), pb.PubAck)
            assert found == pb.PubAck(guid=long, error=BAD_PUBLISH)
            durable = await stan.subscribe("w", pb.NewOnly, durable=long)
            await durable.take(3)
            await durable.unsubscribe()
            group = await stan.subscribe("w", pb.NewOnly, queue=long, durable=long)
            await group.take(3)
            await group.unsubscribe()
            request = pb.CloseRequest(clientID=b"y" * 200_000).SerializeToString()
            with pytest.raises(Refused):
                checked(await stan.ask(by_hand.CLOSE, request, pb.CloseResponse))
            await stan.close()
        assert len(server.log()) < 20_000
        assert "Traceback" not in server.log()


async def publish_named(stan: Stan, channel: str) -> None:
    """A publish with a channel of any length."""
    message = pb.PubMsg(clientID=stan.client_id, guid="g", subject=channel, connID=stan.conn_id)
    checked(await stan.ask(by_hand.PUBLISH, message.SerializeToString(), pb.PubAck))


async def subscribe_named(stan: Stan, channel: str, inbox: bytes = b"i") -> str:
    """A subscription as raw as it can be. Returns the ack inbox."""
    request = pb.SubscriptionRequest(
        clientID=stan.client_id.encode(), subject=channel.encode(), inbox=inbox, maxInFlight=10, ackWaitInSecs=30,
        startPosition=pb.First,
    )  # fmt: skip
    return checked(await stan.ask(by_hand.SUBSCRIBE, request.SerializeToString(), pb.SubscriptionResponse)).ackInbox


#: None of them can be listened on, or a service listens there.
NO_INBOXES: Final = (
    b"", b" ", b"a b", b"a\r\nPING", b"a\r\nMSG forged 1 6\r\nforged\r\n", b"a\0b", b"a\tb", b".", b"a..b", b"a.", b"x" * 5000,
    b"$JS.API.STREAM.DELETE.ORDERS", b"$JS.API.STREAM.PURGE.ORDERS", b"$JS.API.CONSUMER.DELETE.ORDERS.work",
    b"$JS.ACK.ORDERS.work.1.1.1.1.0", b"$STAN.test-cluster.a", b"_STAN.close.test-cluster", b"_STAN.discover.test-cluster",
)  # fmt: skip


async def test_inboxes_that_are_none(tmp_path: Path) -> None:
    """Nothing is sent there: who listens to all hears only whole messages, and no service is called in our name."""
    async with serving(tmp_path) as server, await Stan.connect(server.client_url) as stan:
        js = stan.nats.jetstream()
        await js.add_stream(name="ORDERS", subjects=["orders"])
        await js.publish("orders", b"1")
        await js.pull_subscribe("orders", "work")
        await stan.publish("a", "1", "2")
        async with await Wire.connect(server.port) as spy:
            spy.subscribe(">")
            assert await spy.alive()
            for number, inbox in enumerate(NO_INBOXES):
                await subscribe_named(stan, "a", inbox)
                # A second connect has the first one asked on its heartbeat inbox.
                request = pb.ConnectRequest(clientID=b"c%d" % number, heartbeatInbox=inbox or b" ").SerializeToString()
                for _ in range(2):
                    checked(await stan.ask(by_hand.CONNECT, request, pb.ConnectResponse))
            await stan.publish("a", "end")
            await stan.nats.publish("end")
            subjects = await heard_until(spy, "end")
        good = re.compile(r"_INBOX\.[\w.]+|_STAN\.(discover|sub|pub|acks)\.[\w.-]+|end")
        assert [subject for subject in subjects if not good.fullmatch(subject)] == []
        # The messages themselves were sent, to where nobody listens.
        assert subjects.count("_INBOX.nowhere") == 3 * len(NO_INBOXES)
        info = await js.stream_info("ORDERS")
        assert (info.state.messages, info.state.consumer_count) == (1, 1)
        assert await (await stan.subscribe("a")).sequences(3) == [1, 2, 3]


async def heard_until(spy: Wire, last: str) -> list[str]:
    """The subjects that come up to one."""
    subjects: list[str] = []
    async with asyncio.timeout(20):
        while last not in subjects:
            message = await spy.next()
            assert isinstance(message, Message), spy.errors
            subjects.append(message.subject)
    assert spy.errors == []
    return subjects


async def test_odd_inboxes(tmp_path: Path) -> None:
    """Wildcards are letters in a subject that is published to, and a subject need be no UTF-8; the own channel is none."""
    native = {"orders": ChannelLimits(native=True)}
    async with serving(tmp_path, channels=native) as server, await Stan.connect(server.client_url) as stan:
        await stan.publish("a", "1")
        for inbox in ("odd.*", "odd.>", "odd.\xff"):
            await subscribe_named(stan, "a", inbox.encode("latin-1"))
        async with await Wire.connect(server.port) as spy, await Wire.connect(server.port) as other:
            spy.send(b"SUB odd.\xff 1\r\n")
            other.subscribe("odd.x")
            assert await spy.alive()
            assert await other.alive()
            await stan.publish("a", "2")
            line = b""
            while not line.startswith(b"MSG"):
                line = await spy.reader.readline()
            assert line.startswith(b"MSG odd.\xff 1 ")
            other.publish("odd.x", b"own")
            message = await other.next()
            assert message is not None
            assert message.payload == b"own"
        await stan.publish("orders", "1")
        reason = "stan: the inbox is the channel itself: its messages would come back to it for ever"
        assert await refusal(subscribe_named(stan, "orders", b"orders")) == reason
        await stan.publish("orders", "2")
        assert await (await stan.subscribe("orders")).sequences(2) == [1, 2]


class OnSmallDisk(StanServer):
    """With a store in a directory of little room, which it may use."""

    def __init__(self, directory: Path, disk: Path) -> None:
        streaming = f'streaming {{ id: {CLUSTER}, store: file, dir: "{disk / "stan"}", hb_interval: "10m" }}'
        ServerProcess.__init__(self, directory, config=f"jetstream {{ max_file: 1GB }}\n{streaming}\n")


async def until_refused(call: Callable[[int], Awaitable[object]]) -> tuple[int, str]:
    """Call with 0, 1, 2 ... Returns how many calls went well, and what the next one was told."""
    for number in range(10_000):
        try:
            await call(number)
        except Refused as error:
            return number, str(error)
    raise AssertionError("nothing was ever refused")


async def fill(stan: Stan, channel: str) -> int:
    """Publish until the disk is full. Returns how many were acked."""
    count, reason = await until_refused(lambda number: stan.publish(channel, b"%d:" % number + PAYLOAD))
    assert reason == FULL
    return count


async def until_accepted(call: Callable[[], Awaitable[object]]) -> set[str]:
    """Try until it goes well. Returns what it was told before."""
    told = set()
    async with asyncio.timeout(30):
        while True:
            try:
                await call()
            except Refused as error:
                told.add(str(error))
            else:
                return told


async def test_full_disk(tmp_path: Path, small_disk: Path) -> None:
    """Publishes and durables are refused with the reason, deliveries go on; with room again all goes on by itself."""
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(3 << 20))
    no_space = f"no space left for the store in {small_disk}/stan/jetstream: free some; publishing resumes by itself"
    with OnSmallDisk(tmp_path, small_disk) as server:
        async with await Stan.connect(server.url) as stan:
            await stan.publish("b", "1")
            durable = await stan.subscribe("a", durable="d", max_in_flight=10_000)
            count = await fill(stan, "a")
            assert count > 100
            assert await durable.sequences(count) == list(range(1, count + 1))
            assert await stan.ping() == ""

            async def connect(number: int) -> None:
                await (await Stan.connect(server.url, f"client{number}")).nats.close()

            # Little things may still find a place, but not for ever.
            clients, reason = await until_refused(connect)
            assert reason == no_space
            durables, reason = await until_refused(lambda number: stan.subscribe("b", durable=f"durable{number}"))
            assert reason == no_space
            assert await refusal(stan.publish("a", PAYLOAD)) == FULL

            ballast.unlink()
            assert await until_accepted(lambda: stan.publish("a", "room")) <= {FULL}
            assert (await durable.take(1))[0].sequence == count + 1
            # What was refused left nothing behind: the same names can be had now.
            await connect(clients)
            late = await stan.subscribe("b", durable=f"durable{durables}")
            await stan.publish("b", "2")
            assert await late.sequences(2) == [1, 2]
        assert "no space left for the store" in server.log()
        assert "Traceback" not in server.log()
        server.kill()
        server.start()
        async with await Stan.connect(server.url, "third") as stan:
            found = await (await stan.subscribe("a", max_in_flight=10_000)).take(count + 1)
            assert [message.data for message in found[:-1]] == [b"%d:" % number + PAYLOAD for number in range(count)]
            assert found[-1].data == b"room"
        assert server.stop() == 0


async def test_start_on_a_full_disk(tmp_path: Path, small_disk: Path) -> None:
    """What is stored can be read, by whom the server knows already."""
    with OnSmallDisk(tmp_path, small_disk) as server:
        async with await Stan.connect(server.url) as stan:
            count = await fill(stan, "a")
            conn_id = stan.conn_id
        server.kill()
        server.start()
        async with await Stan.nats_only(server.url, conn_id) as stan:
            assert await stan.ping() == ""
            assert await refusal(stan.publish("a", PAYLOAD)) == FULL
            message = await stan.nats.jetstream().get_msg("STAN_a", count)
            assert message.data == b"%d:" % (count - 1) + PAYLOAD
        assert server.stop() == 0
        assert "Traceback" not in server.log()
