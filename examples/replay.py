"""Stores messages in a stream, then replays it from the first one: all must come, once and in order."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import click
import nats
from nats.errors import NoServersError
from nats.js.errors import NotFoundError, ServiceUnavailableError

if TYPE_CHECKING:
    from nats.aio.client import Client

#: Publishes under way before their acks are awaited.
WINDOW = 1_000
BATCH = 500


async def quiet(_error: Exception) -> None:
    """What goes wrong is raised where it matters; nats-py would print it with a traceback as well."""


async def connect(server: str) -> Client:
    try:
        return await nats.connect(
            server,
            connect_timeout=10,
            allow_reconnect=False,
            max_reconnect_attempts=1,
            reconnect_time_wait=0.1,
            error_cb=quiet,
        )
    except NoServersError as error:
        raise click.ClickException(f"no server answers at {server}: `make run` starts one") from error


async def store(server: str, stream: str, count: int) -> None:
    """Makes the stream anew and publishes `count` numbered messages; returns when each is acked."""
    async with await connect(server) as client:
        jetstream = client.jetstream()
        try:
            with suppress(NotFoundError):
                await jetstream.delete_stream(stream)
        except ServiceUnavailableError as error:
            raise click.ClickException(f"{server} runs without JetStream: start it with -js") from error
        await jetstream.add_stream(name=stream, subjects=[f"{stream}.>"])
        start = time.monotonic()
        with click.progressbar(length=count, label="store ") as bar:
            for first in range(1, count + 1, WINDOW):
                numbers = range(first, min(first + WINDOW, count + 1))
                acks = [await jetstream.publish_async(f"{stream}.number", b"%d" % n) for n in numbers]
                for number, ack in zip(numbers, await asyncio.gather(*acks), strict=True):
                    if ack.seq != number:
                        raise click.ClickException(f"message {number} got sequence {ack.seq}")
                bar.update(len(numbers))
        click.echo(f"stored {count} messages, {count / (time.monotonic() - start):,.0f} a second")


async def replay(server: str, stream: str, count: int) -> None:
    """Reads the stream from its first message."""
    async with await connect(server) as client:
        jetstream = client.jetstream()
        subscription = await jetstream.pull_subscribe(f"{stream}.>", stream=stream)
        expected = 1
        start = time.monotonic()
        with click.progressbar(length=count, label="replay") as bar:
            while expected <= count:
                messages = await subscription.fetch(min(BATCH, count + 1 - expected), timeout=10)
                for message in messages:
                    if message.metadata.sequence.stream != expected or message.data != b"%d" % expected:
                        raise click.ClickException(f"expected message {expected}, got {message.data!r}")
                    expected += 1
                    await message.ack()
                bar.update(len(messages))
        click.echo(f"replayed {count} messages in order, {count / (time.monotonic() - start):,.0f} a second")
        await subscription.unsubscribe()


@click.command()
@click.option("--server", default="nats://127.0.0.1:4222", show_default=True)
@click.option("--stream", default="replay", show_default=True, help="Made anew: what it held is gone.")
@click.option("--count", type=click.IntRange(1), default=10_000, show_default=True)
def main(server: str, stream: str, count: int) -> None:
    """Stores messages in a stream and replays it from the first one."""

    async def run() -> None:
        await store(server, stream, count)
        await replay(server, stream, count)

    asyncio.run(run())


if __name__ == "__main__":
    main()
