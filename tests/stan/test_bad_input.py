"""Requests that are no good: the original's text to the client, a line in the log, and nothing else anywhere."""

from __future__ import annotations

import asyncio
import re
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import pytest
from nats.errors import NoRespondersError

from streamd.stan import schema_pb2 as pb
from tests.core.test_nats_py import until
from tests.stan import by_hand
from tests.stan.by_hand import Stan, field, refusal
from tests.stan.servers import StanServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from google.protobuf.message import Message

pytestmark = pytest.mark.anyio

#: No message of any kind.
BROKEN: Final = b"\x0a\x7fshort"
BAD_CONNECT: Final = "stan: invalid connection request"
BAD_ID: Final = "stan: invalid clientID: only alphanumeric and `-` or `_` characters allowed"
BAD_PUBLISH: Final = "stan: invalid publish request"
BAD_SUBSCRIPTION: Final = "stan: invalid subscription"
REPLACED: Final = "client has been replaced or is no longer registered"
NO_CLIENT: Final = "stan: unknown clientID"
BAD_NAMES: Final = ("", "a*", "*", "a.>", ">", "a..b", ".a", "a.", ".", "a/b")
STREAMING: Final = 'hb_interval: "10m"\nstore_limits { max_channels: 3, max_subs: 2, channels { w: { max_subs: 0 } } }'


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StanServer]:
    """One for all: nothing of what is done to it stays."""
    with StanServer(tmp_path_factory.mktemp("bad"), STREAMING) as running:
        yield running
        assert "Traceback" not in running.log()
        assert "service on account" not in running.log()
        assert running.stop() == 0


@pytest.fixture
async def stan(server: StanServer) -> AsyncIterator[Stan]:
    """A client in good order."""
    async with await Stan.connect(server.url) as client:
        yield client
        await client.close()


@asynccontextmanager
async def undisturbed(server: StanServer) -> AsyncIterator[None]:
    """Beside the body a client publishes and hears all the time; nobody else leaves anything behind."""
    async with await Stan.connect(server.url, "witness") as witness:
        js = witness.nats.jetstream()
        heard = await witness.subscribe("w", pb.NewOnly)
        before = [(info.config.name, info.state.last_seq) for info in await js.streams_info()]
        done = asyncio.Event()
        count = 0

        async def talk() -> None:
            nonlocal count
            while not done.is_set() or count < 10:
                await witness.publish("w", str(count))
                message = (await heard.take(1))[0]
                assert (message.data, message.redelivered) == (b"%d" % count, False)
                await heard.ack(message.sequence)
                count += 1

        talking = asyncio.create_task(talk())
        try:
            yield
        finally:
            done.set()
            await talking
        after = [(info.config.name, info.state.last_seq) for info in await js.streams_info()]
        expected = [(name, seq + count if name == "STAN_w" else seq) for name, seq in before]
        assert after == expected
        await witness.close()


@asynccontextmanager
async def logging(server: StanServer, *lines: str) -> AsyncIterator[None]:
    """The body makes the server log these error lines, in this order and no others."""
    offset = len(server.log())
    yield
    wanted = [f"STREAM: {line}" for line in lines]

    def told() -> list[str]:
        return re.findall(r"\[ERR\] (.*)", server.log()[offset:])

    await until(lambda: len(told()) >= len(wanted))
    assert told() == wanted


def refused_publish(client: str, channel: str, why: str) -> str:
    """A line of the log."""
    return f'[Client:{client}] Received invalid client publish message for channel "{channel}": {why}'


async def answer(stan: Stan, subject: str, payload: bytes | Message, kind: type[Message]) -> str:
    """The error of an answer that has nothing else."""
    data = payload if isinstance(payload, bytes) else payload.SerializeToString()
    found = await stan.ask(subject, data, kind)
    assert {one.name for one, _ in found.ListFields()} <= {"error", "guid"}
    return str(getattr(found, "error"))  # noqa: B009 - not every message has it


async def test_connects(server: StanServer, stan: Stan) -> None:
    """Broken, without an inbox, a bad id, and an id whose owner lives."""
    ids = ["", "a b", "a.b", "a*", "ä", "a/b", "x\nFORGED"]
    shown = [r"x\x0aFORGED" if "\n" in client else client for client in ids]
    lines = [f"[Client:?] Connect failed; {BAD_CONNECT}", f"[Client:] Connect failed; {BAD_CONNECT}"]
    lines += [f"[Client:a] Connect failed; {BAD_CONNECT}", f"[Client:?] Connect failed; {BAD_CONNECT}"]
    lines += [f"[Client:{client}] Connect failed; {BAD_ID}" for client in shown]
    lines += ["[Client:me] Connect failed; stan: clientID already registered"]
    async with undisturbed(server), logging(server, *lines):
        wrong_type = b"\x08\x01" + field(2, "hb")  # the client id as a number
        for payload in (BROKEN, b"", field(1, "a"), wrong_type):
            assert await answer(stan, by_hand.CONNECT, payload, pb.ConnectResponse) == BAD_CONNECT
        for client in ids:
            request = field(1, client) + field(2, "hb")
            assert await answer(stan, by_hand.CONNECT, request, pb.ConnectResponse) == BAD_ID
        taken = pb.ConnectRequest(clientID=b"me", heartbeatInbox=b"hb", protocol=1, connID=b"other")
        error = await answer(stan, by_hand.CONNECT, taken, pb.ConnectResponse)
        assert error == "stan: clientID already registered"
    assert await stan.ping() == ""


async def test_another_cluster(server: StanServer, stan: Stan) -> None:
    """Nobody answers under its subjects."""
    request = pb.ConnectRequest(clientID=b"a", heartbeatInbox=b"hb").SerializeToString()
    async with undisturbed(server), logging(server):
        for subject in ("_STAN.discover.other", "_STAN.pub.other.a", "_STAN.sub.other", "_STAN.close.other"):
            with pytest.raises(NoRespondersError):
                await stan.nats.request(subject, request, 5)


async def test_pings(server: StanServer, stan: Stan) -> None:
    """An unknown incarnation is told so; what can't be read isn't answered."""
    async with undisturbed(server), logging(server):
        assert await answer(stan, by_hand.PING, pb.Ping(connID=b"none"), pb.PingResponse) == REPLACED
        heard = await stan.nats.subscribe("pongs")
        for payload in (b"", BROKEN, pb.Ping(connID=stan.conn_id).SerializeToString()):
            await stan.nats.publish(by_hand.PING, payload, "pongs")
        assert (await heard.next_msg(5)).data == b""
        assert heard.pending_msgs == 0


async def test_publishes(server: StanServer, stan: Stan) -> None:
    """Broken, without a guid, from nobody, from who was replaced, into no channel; the guid comes back if it was read."""
    gone = "the client is not connected, or was replaced"
    good: dict[str, Any] = {"clientID": "me", "guid": "g", "subject": "a", "connID": stan.conn_id}
    cases: list[tuple[bytes | Message, str, str]] = [
        (BROKEN, "", refused_publish("", "", "it can't be read")),
        (field(1, "me") + field(2, "g") + b"\x18\x01", "g", refused_publish("me", "", "it can't be read")),
        (b"", "", refused_publish("", "", "it has no guid")),
        (pb.PubMsg(**good | {"guid": ""}), "", refused_publish("me", "a", "it has no guid")),
        (pb.PubMsg(**good | {"clientID": "no", "connID": b""}), "g", refused_publish("no", "a", gone)),
        (pb.PubMsg(**good | {"connID": b"old"}), "g", refused_publish("me", "a", gone)),
    ]
    for name in BAD_NAMES:
        line = refused_publish("me", name, "no channel can have this name")
        cases.append((pb.PubMsg(**good | {"subject": name}), "g", line))
    async with undisturbed(server), logging(server, *(line for _, _, line in cases)):
        for payload, guid, _ in cases:
            data = payload if isinstance(payload, bytes) else payload.SerializeToString()
            assert await stan.ask(by_hand.PUBLISH, data, pb.PubAck) == pb.PubAck(guid=guid, error=BAD_PUBLISH)


async def test_subscriptions(server: StanServer, stan: Stan) -> None:
    """Each check of a request, in the original's order: what is wrong first is told."""
    good: dict[str, Any] = {"clientID": b"me", "subject": b"a", "inbox": b"i", "maxInFlight": 1, "ackWaitInSecs": 1}
    queue = {"qGroup": b"q", "durableName": b"a:b", "subject": b"w"}
    cases: list[tuple[bytes | Message, str, str, str]] = [
        (BROKEN, "?", "", "stan: invalid subscription request"),
        (b"", "", "", "stan: clientID missing"),
        (pb.SubscriptionRequest(clientID=b"me"), "me", "", "stan: invalid ack wait time, should be >= 1s"),
        (pb.SubscriptionRequest(**good | {"ackWaitInSecs": -1}), "me", "a", "stan: invalid ack wait time, should be >= 1s"),
        (pb.SubscriptionRequest(**good | {"maxInFlight": 0}), "me", "a", "stan: invalid MaxInflight, should be >= 1"),
        (pb.SubscriptionRequest(**good | {"startPosition": 5}), "me", "a", "stan: invalid start position"),
        (pb.SubscriptionRequest(**good | {"clientID": b"no"}), "no", "a", NO_CLIENT),
        (
            pb.SubscriptionRequest(**good | queue), "me", "w",
            "stan: durable name of a durable queue subscriber can't contain the character ':'",
        ),
    ]  # fmt: skip
    cases += [
        (pb.SubscriptionRequest(**good | {"subject": name.encode()}), "me", name, "stan: invalid subject")
        for name in BAD_NAMES
    ]
    lines = [f'[Client:{client}] Subscription to "{channel}" failed; {error}' for _, client, channel, error in cases]
    async with undisturbed(server), logging(server, *lines):
        for payload, _, _, error in cases:
            assert await answer(stan, by_hand.SUBSCRIBE, payload, pb.SubscriptionResponse) == error


@pytest.mark.parametrize("subject", [by_hand.UNSUBSCRIBE, by_hand.CLOSE_SUBSCRIPTION])
async def test_ends_of_subscriptions(server: StanServer, stan: Stan, subject: str) -> None:
    """Broken, of an unknown channel, of nothing, and somebody else's: that one goes on."""
    durable = await stan.subscribe("w", pb.NewOnly, durable="mine")
    mine: dict[str, Any] = {"clientID": b"me", "subject": b"w", "inbox": durable.ack_inbox.encode()}
    cases: list[tuple[bytes | Message, str, str]] = [
        (BROKEN, "?", "stan: invalid unsubscribe request"),
        (b"", "", "stan: unknown channel"),
        (pb.UnsubscribeRequest(**mine | {"subject": b"none"}), "me", "stan: unknown channel"),
        (pb.UnsubscribeRequest(**mine | {"inbox": b""}), "me", BAD_SUBSCRIPTION),
        (pb.UnsubscribeRequest(**mine | {"inbox": b"other"}), "me", BAD_SUBSCRIPTION),
        (pb.UnsubscribeRequest(**mine | {"clientID": b"witness"}), "witness", NO_CLIENT),
    ]
    lines = [f"[Client:{client}] Unsubscribe failed; {error}" for _, client, error in cases]
    async with undisturbed(server), logging(server, *lines):
        for payload, _, error in cases:
            assert await answer(stan, subject, payload, pb.SubscriptionResponse) == error
    # The witness' messages came here as well: it is still subscribed.
    assert len(await durable.take(10)) == 10
    await durable.unsubscribe()


async def test_closes(server: StanServer, stan: Stan) -> None:
    """Broken, and of a client that isn't there."""
    async with undisturbed(server), logging(server, 'Unknown client "no" in close request'):
        assert await answer(stan, by_hand.CLOSE, BROKEN, pb.CloseResponse) == "stan: invalid close request"
        assert await answer(stan, by_hand.CLOSE, pb.CloseRequest(clientID=b"no"), pb.CloseResponse) == NO_CLIENT


async def test_acks(server: StanServer, stan: Stan) -> None:
    """Of another channel, broken, or for what isn't pending: the message is pending still and comes again."""
    line = '[Client:me] 1 acks can\'t be read or are not for channel "w"; they are ignored'
    async with undisturbed(server), logging(server, line, line):
        heard = await stan.subscribe("w", pb.NewOnly, ack_seconds=1, max_in_flight=1)
        message = (await heard.take(1))[0]
        for payload in (BROKEN, field(1, "other") + b"\x10" + bytes([1])):
            await stan.nats.publish(heard.ack_inbox, payload)
            await stan.ping()  # each in a batch of its own
        await heard.ack(message.sequence + 1, message.sequence + 1, 2**60, 0)
        again = (await heard.take(1))[0]
        assert (again.sequence, again.redelivered) == (message.sequence, True)
        await heard.ack(message.sequence)
        assert (await heard.take(1))[0].sequence == message.sequence + 1
        await heard.unsubscribe()


async def test_limits(server: StanServer, stan: Stan) -> None:
    """Texts, log lines, and that those who are in go on."""
    await stan.publish("one", "1")
    heard = await stan.subscribe("two")
    full, crowded = "too many channels", "too many subscriptions per channel"
    lines = [
        f'Creating channel "more" failed: {full}', f'Error processing 1 messages for channel "more": {full}',
        f'Creating channel "more" failed: {full}', f'[Client:me] Subscription to "more" failed; {full}',
        f'[Client:me] Subscription to "one" failed; {crowded}', f'[Client:me] Subscription to "one" failed; {crowded}',
    ]  # fmt: skip
    async with undisturbed(server), logging(server, *lines):
        assert await refusal(stan.publish("more", "x")) == full
        assert await refusal(stan.subscribe("more")) == full
        one, durable = await stan.subscribe("one"), await stan.subscribe("one", durable="d")
        await durable.close()
        assert await refusal(stan.subscribe("one")) == crowded
        assert await refusal(stan.subscribe("one", queue="q")) == crowded
    await stan.publish("one", "2")
    await stan.publish("two", "1")
    assert await one.sequences(2) == [1, 2]
    assert await heard.sequences(1) == [1]
