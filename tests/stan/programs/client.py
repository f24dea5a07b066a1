"""asyncio-nats-streaming, steered by lines of JSON; what the lines mean stands in tests/stan/program.py."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time

import nats.aio.client
import stan.aio.client

REDELIVERY_COUNT = 7  # a field of MsgProto that this client's description of it lacks

connections = {}
subscriptions = {}
messages = {}


def tell(**line):
    """One line to the test."""
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


async def connect(connection, url, cluster, client, wait_seconds, ping_seconds, ping_out, **_):
    async def reconnected():
        tell(event="reconnected", connection=connection)

    async def quiet(error):
        pass

    async def lost(error):
        tell(event="lost", connection=connection, error=str(error))

    transport = nats.aio.client.Client()
    await transport.connect(
        url,
        loop=asyncio.get_running_loop(),
        max_reconnect_attempts=-1,
        reconnect_time_wait=0.05,
        reconnected_cb=reconnected,
        error_cb=quiet,
    )
    session = stan.aio.client.Client()
    try:
        await session.connect(
            cluster,
            client,
            nats=transport,
            connect_timeout=wait_seconds,
            ping_interval=ping_seconds,
            ping_max_out=ping_out,
            conn_lost_cb=lost,
        )
    except BaseException:
        await transport.close()
        raise
    connections[connection] = (session, transport)


async def publish(connection, channel, data, ack_seconds):
    session, _ = connections[connection]
    for text in data:
        ack = await session.publish(channel, text.encode(), ack_wait=ack_seconds)
        if ack.error:
            raise RuntimeError(ack.error)


async def publish_async(connection, channel, data, ack_seconds):
    session, _ = connections[connection]
    acked = {}
    done = asyncio.Event()

    def handler(index):
        async def acknowledged(ack):
            acked[index] = ack.error
            if len(acked) == len(data):
                done.set()

        return acknowledged

    for index, text in enumerate(data):
        await session.publish(channel, text.encode(), ack_handler=handler(index))
    with contextlib.suppress(asyncio.TimeoutError):
        await asyncio.wait_for(done.wait(), ack_seconds)
    return {"acked": [index for index, error in acked.items() if not error], "errors": [e for e in acked.values() if e]}


def position(kind, value):
    """The keywords of a start position."""
    return {
        "new": {},
        "last": {"start_at": "last_received"},
        "first": {"deliver_all_available": True},
        "sequence": {"start_at": "sequence", "sequence": value},
        "ago": {"start_at": "time", "time": time.time() - value},
        "time": {"start_at": "time", "time": value},
    }[kind]


async def subscribe(
    connection, subscription, channel, start, manual, in_flight, ack_seconds, queue=None, durable=None, **_
):
    session, _ = connections[connection]

    async def heard(message):
        proto = message.proto
        counts = [field.data for field in proto.UnknownFields() if field.field_number == REDELIVERY_COUNT]
        messages[subscription, proto.sequence] = message
        tell(
            event="message",
            subscription=subscription,
            channel=proto.subject,
            sequence=proto.sequence,
            data=proto.data.decode(),
            redelivered=proto.redelivered,
            count=sum(counts),
            timestamp_us=proto.timestamp // 1000,
        )

    subscriptions[subscription] = await session.subscribe(
        channel,
        cb=heard,
        queue=queue,
        durable_name=durable,
        manual_acks=manual,
        max_inflight=in_flight,
        ack_wait=ack_seconds,
        **position(*start),
    )


async def ack(connection, subscription, sequence):
    session, transport = connections[connection]
    await session.ack(messages[subscription, sequence])
    await transport.flush()


async def unsubscribe(subscription):
    await subscriptions.pop(subscription).unsubscribe()


async def close_subscription(subscription):
    await subscriptions.pop(subscription).close()


async def close(connection):
    session, transport = connections.pop(connection)
    try:
        await session.close()
    finally:
        await transport.close()


async def drop(connection):
    _, transport = connections.pop(connection)
    await transport.close()


VERBS = {
    verb.__name__: verb
    for verb in (connect, publish, publish_async, subscribe, ack, unsubscribe, close_subscription, close, drop)
}


async def obey(number, verb, arguments):
    try:
        tell(number=number, result=await VERBS[verb](**arguments))
    except Exception as error:
        tell(number=number, error=str(error) or type(error).__name__)


async def main():
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=1 << 26)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    running = set()
    while line := await reader.readline():
        task = loop.create_task(obey(**json.loads(line)))
        running.add(task)
        task.add_done_callback(running.discard)


asyncio.run(main())
