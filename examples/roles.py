"""Four roles: `pub` publishes to `updates`, `sub` prints them, `rep` answers `ping`, `req` asks it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import click
import nats
from nats.errors import NoRespondersError, NoServersError, TimeoutError

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.aio.msg import Msg


async def quiet(_error: Exception) -> None:
    """What goes wrong is raised where it matters; nats-py would print it with a traceback as well."""


async def connect(server: str) -> Client:
    """With several servers, one that goes is replaced by the next."""
    servers = server.split(",")
    try:
        return await nats.connect(
            servers,
            connect_timeout=10,
            allow_reconnect=len(servers) > 1,
            max_reconnect_attempts=30 if len(servers) > 1 else 1,
            reconnect_time_wait=0.1,
            error_cb=quiet,
        )
    except NoServersError as error:
        raise click.ClickException(f"no server answers at {server}: `make run` starts one") from error


async def publish(client: Client, count: int) -> None:
    for number in range(1, count + 1):
        await client.publish("updates", b"update %d" % number)
    await client.flush(timeout=60)
    click.echo(f"published {count} messages to updates")


async def subscribe(client: Client, count: int) -> None:
    subscription = await client.subscribe("updates")
    await client.flush()
    click.echo("listening on updates", err=True)
    received = 0
    async for message in subscription.messages:
        click.echo(message.data.decode())
        received += 1
        if received == count:
            return
    raise click.ClickException("the server closed the connection")


async def request(client: Client) -> None:
    try:
        answer = await client.request("ping", b"", timeout=5)
    except (NoRespondersError, TimeoutError) as error:
        raise click.ClickException("nobody answers ping: start `--role rep` first") from error
    click.echo(answer.data.decode())


async def reply(client: Client, count: int) -> None:
    answered = asyncio.Event()
    left = count

    async def answer(message: Msg) -> None:
        nonlocal left
        await message.respond(b"pong")
        left -= 1
        if left == 0:
            answered.set()

    await client.subscribe("ping", cb=answer)
    await client.flush()
    click.echo("answering ping", err=True)
    await answered.wait()


async def play(role: str, server: str, count: int | None) -> None:
    async with await connect(server) as client:
        match role:
            case "pub":
                await publish(client, count or 100_000)
            case "sub":
                await subscribe(client, count or 0)
            case "req":
                await request(client)
            case "rep":
                await reply(client, count or 0)


@click.command()
@click.option("--role", type=click.Choice(["pub", "sub", "req", "rep"]), required=True)
@click.option(
    "--server", default="nats://127.0.0.1:4222", show_default=True, help="One, or several with commas between."
)
@click.option("--count", type=click.IntRange(1), help="End after so many (pub: 100,000; sub, rep: never).")
def main(role: str, server: str, count: int | None) -> None:
    """Publishes, subscribes, requests or replies."""
    try:
        asyncio.run(play(role, server, count))
    except KeyboardInterrupt:
        click.echo(err=True)


if __name__ == "__main__":
    main()
