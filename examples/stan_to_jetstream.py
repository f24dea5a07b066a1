"""Moves a durable subscription of NATS Streaming to JetStream: a consumer of the channel's stream that stands where it stands.

What the durable had acked is acked, what it had not comes again, then what is new. The old program must be stopped.
"""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click
import nats
from nats.errors import NoServersError
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from nats.js.errors import APIError

from streamd.stan import schema_pb2 as stan
from streamd.stan.names import stream_name

if TYPE_CHECKING:
    from google.protobuf.message import Message
    from nats.aio.client import Client

Answer = TypeVar("Answer", bound="Message")
BATCH = 100
PATIENCE_SECONDS = 5
NO_CLIENT_ID = "stan-to-jetstream"


@dataclass(frozen=True)
class Durable:
    """What is to be moved. Without a queue group the client id is part of its name."""

    cluster: str
    channel: str
    client_id: str
    name: str
    queue: str

    def shown_in(self, monitor: str) -> dict[str, Any]:
        """Its fields in /streaming/channelsz."""
        query = urllib.parse.urlencode({"channel": self.channel, "subs": 1})
        try:
            with urllib.request.urlopen(f"{monitor}/streaming/channelsz?{query}") as answer:
                shown = json.load(answer).get("subscriptions", [])
        except urllib.error.HTTPError as error:
            raise click.ClickException(f"{monitor}: {error.read().decode().strip() or error}") from error
        except OSError as error:
            raise click.ClickException(f"nothing answers at {monitor}: start the server with -m 8222") from error
        for one in shown:
            if self.queue and one.get("queue_name") == f"{self.name}:{self.queue}":
                break
            if not self.queue and (one.get("durable_name"), one["client_id"]) == (self.name, self.client_id):
                break
        else:
            names = [one.get("durable_name") or one.get("queue_name") or "a plain subscription" for one in shown]
            raise click.ClickException(f"channel {self.channel} has no such durable, but {', '.join(names) or 'none'}")
        if not one["is_offline"]:
            raise click.ClickException(
                f"client {one['client_id']} still serves it: stop that first (don't unsubscribe)"
            )
        found: dict[str, Any] = one
        return found


async def ask(client: Client, subject: str, request: Message, kind: type[Answer]) -> Answer:
    """One request of NATS Streaming's protocol."""
    reply = await client.request(subject, request.SerializeToString(), timeout=PATIENCE_SECONDS)
    answer = kind()
    answer.ParseFromString(reply.data)
    if error := getattr(answer, "error", ""):
        raise click.ClickException(error)
    return answer


async def resume(client: Client, durable: Durable, ack_wait: int, *, expect: int, forget: bool = False) -> set[int]:
    """Resumes the durable for a moment. Returns the sequences that are pending, which come at once, however many.

    With one message in flight nothing new comes while any is pending, so this leaves the position where it is.
    """
    who = durable.client_id.encode()
    request = stan.ConnectRequest(clientID=who, heartbeatInbox=client.new_inbox().encode())
    subjects = await ask(client, f"_STAN.discover.{durable.cluster}", request, stan.ConnectResponse)
    inbox = client.new_inbox()
    messages = await client.subscribe(inbox)
    subscribe = stan.SubscriptionRequest(
        clientID=who,
        subject=durable.channel.encode(),
        qGroup=durable.queue.encode(),
        inbox=inbox.encode(),
        maxInFlight=1,
        ackWaitInSecs=ack_wait,
        durableName=durable.name.encode(),
    )
    subscribed = await ask(client, subjects.subRequests, subscribe, stan.SubscriptionResponse)
    pending: set[int] = set()
    while len(pending) < expect:
        pending.add(stan.MsgProto.FromString((await messages.next_msg(timeout=PATIENCE_SECONDS)).data).sequence)
    end = stan.UnsubscribeRequest(
        clientID=who, subject=durable.channel.encode(), inbox=subscribed.ackInbox.encode()
    )  # fmt: skip
    subject = subjects.unsubRequests if forget else subjects.subCloseRequests
    await ask(client, subject, end, stan.SubscriptionResponse)
    await ask(client, subjects.closeRequests, stan.CloseRequest(clientID=who), stan.CloseResponse)
    await messages.unsubscribe()
    return pending


async def move(client: Client, durable: Durable, shown: dict[str, Any], consumer: str) -> None:
    """Makes the consumer and acks in it what the durable had acked beyond its first pending message."""
    last_sent, ack_wait = shown["last_sent"], shown["ack_wait"]
    pending: set[int] = set()
    if shown["pending_count"]:
        pending = await resume(client, durable, ack_wait, expect=shown["pending_count"])
    start = min(pending, default=last_sent + 1)
    jetstream = client.jetstream()
    stream = stream_name(durable.channel)
    config = ConsumerConfig(
        durable_name=consumer,
        deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
        opt_start_seq=start,
        ack_policy=AckPolicy.EXPLICIT,
        ack_wait=ack_wait,
        max_ack_pending=max(shown["max_inflight"], len(pending) + BATCH),
    )
    await jetstream.add_consumer(stream, config)
    subscription = await jetstream.pull_subscribe_bind(consumer=consumer, stream=stream)
    seen, held = start - 1, []
    while seen < last_sent:
        for message in await subscription.fetch(min(BATCH, last_sent - seen), timeout=PATIENCE_SECONDS):
            seen = message.metadata.sequence.stream
            if seen in pending or seen > last_sent:
                held.append(message)
            else:
                await message.ack_sync()
            if message.metadata.num_pending == 0:
                seen = max(seen, last_sent)
    for message in held:
        await message.nak()
    await subscription.unsubscribe()
    again = f" after {', '.join(map(str, sorted(pending)))} again" if pending else ""
    click.echo(f"consumer {consumer} of stream {stream} goes on with {last_sent + 1}{again}")


async def follow(client: Client, durable: Durable, consumer: str, count: int) -> None:
    """Prints and acks messages: here the new program has its work."""
    jetstream = client.jetstream()
    subscription = await jetstream.pull_subscribe_bind(consumer=consumer, stream=stream_name(durable.channel))
    for _ in range(count):
        (message,) = await subscription.fetch(1, timeout=None)
        click.echo(f"{message.metadata.sequence.stream}: {message.data.decode(errors='replace')}")
        await message.ack_sync()
    await subscription.unsubscribe()


@click.command()
@click.option("--server", default="nats://127.0.0.1:4222", show_default=True)
@click.option("--monitor", default="http://127.0.0.1:8222", show_default=True, help="Where the server's -m is.")
@click.option("--cluster-id", default="test-cluster", show_default=True)
@click.option("--channel", required=True)
@click.option("--durable", required=True, help="Its durable name.")
@click.option("--client-id", default=NO_CLIENT_ID, help="Its client's id; not needed with --queue.")
@click.option("--queue", default="", help="The queue group, if it is a durable of one.")
@click.option("--consumer", help="Name of the consumer (default: the durable's).")
@click.option("--count", default=0, help="Messages to print and ack then.")
@click.option("--remove", is_flag=True, help="Unsubscribe the durable afterwards: there is no way back then.")
def main(
    server: str, monitor: str, cluster_id: str, channel: str, durable: str, client_id: str, queue: str,
    consumer: str | None, count: int, remove: bool,
) -> None:  # fmt: skip
    """Moves a durable subscription of NATS Streaming to a JetStream consumer."""
    old = Durable(cluster_id, channel, client_id, durable, queue)

    async def run() -> None:
        shown = old.shown_in(monitor)
        async with await nats.connect(server, connect_timeout=10, allow_reconnect=False) as client:
            await move(client, old, shown, consumer or durable)
            if remove:
                await resume(client, old, shown["ack_wait"], expect=0, forget=True)
            await follow(client, old, consumer or durable, count)

    try:
        asyncio.run(run())
    except NoServersError as error:
        raise click.ClickException(f"no server answers at {server}") from error
    except (APIError, TimeoutError) as error:
        raise click.ClickException(f"the server says: {error}") from error


if __name__ == "__main__":
    main()
