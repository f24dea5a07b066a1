"""Three servers on this machine, one of which is killed while messages are published: nothing that was acked is lost."""

from __future__ import annotations

import asyncio
import random
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click
import nats
from nats.errors import Error as NatsError
from nats.js.api import StreamConfig

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from nats.aio.client import Client

SERVER = [sys.executable, "-m", "streamd"]
NAMES = ("a", "b", "c")
STREAM = "FAILOVER"
#: Publishes under way at any time.
WINDOW = 50
PATIENCE_SECONDS = 60


class Node:
    """A server with its configuration, log and store in one directory."""

    def __init__(self, home: Path, name: str, ports: dict[str, tuple[int, int]]) -> None:
        self.name = name
        self.url = f"nats://127.0.0.1:{ports[name][0]}"
        self.home = home
        routes = ", ".join(f'"nats-route://127.0.0.1:{ports[other][1]}"' for other in NAMES if other != name)
        (home / f"{name}.conf").write_text(
            f"server_name: {name}\n"
            f'listen: "127.0.0.1:{ports[name][0]}"\n'
            f'cluster {{\n  name: failover\n  listen: "127.0.0.1:{ports[name][1]}"\n  routes: [{routes}]\n}}\n'
            f'jetstream {{ store_dir: "./store-{name}" }}\n'
        )
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self.home / f"{self.name}.log").open("ab") as log:
            command = [*SERVER, "-c", f"{self.name}.conf"]
            self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.home)

    def kill(self) -> None:
        """kill -9."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()


def free_ports() -> dict[str, tuple[int, int]]:
    """Two for each node: for clients, for routes. Below those that the system gives to outgoing connections."""
    ports: list[int] = []
    with ExitStack() as stack:
        while len(ports) < 2 * len(NAMES):
            sock, port = stack.enter_context(socket.socket()), random.randrange(20_000, 30_000)
            with suppress(OSError):
                sock.bind(("127.0.0.1", port))
                ports.append(port)
    return {name: (ports[at], ports[at + len(NAMES)]) for at, name in enumerate(NAMES)}


async def quiet(_error: Exception) -> None:
    """What goes wrong is raised where it matters; nats-py would print it with a traceback as well."""


async def connect(*nodes: Node) -> Client:
    return await nats.connect(
        [node.url for node in nodes],
        connect_timeout=1,
        max_reconnect_attempts=-1,
        reconnect_time_wait=0.05,
        error_cb=quiet,
    )


async def insist(what: str, attempt: Callable[[], Awaitable[bool]]) -> None:
    """Again and again until it is true: servers start, elect and catch up."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        try:
            if await attempt():
                return
        except (NatsError, OSError):
            pass
        await asyncio.sleep(0.05)
    raise click.ClickException(f"{what}: not within {PATIENCE_SECONDS} s")


class Publisher:
    """Numbered messages, each sent until it is acked: under its id it is stored once, however often it is sent."""

    def __init__(self, client: Client, count: int) -> None:
        self.jetstream = client.jetstream(timeout=2)
        self.numbers = iter(range(1, count + 1))
        #: number → sequence
        self.acked: dict[int, int] = {}
        #: when the publish was sent that was acked last
        self.sent = 0.0
        self.more = asyncio.Event()

    async def work(self) -> None:
        for number in self.numbers:
            while number not in self.acked:
                sent = time.monotonic()
                try:
                    headers = {"Nats-Msg-Id": str(number)}
                    ack = await self.jetstream.publish(f"{STREAM}.number", b"%d" % number, headers=headers)
                except (NatsError, OSError):
                    await asyncio.sleep(0.02)
                    continue
                self.acked[number] = ack.seq
                self.sent = max(self.sent, sent)
                self.more.set()

    async def sent_after(self, moment: float) -> None:
        """Until a publish is acked that was sent then or later."""
        while self.sent < moment:
            self.more.clear()
            await self.more.wait()

    async def until(self, label: str, count: int) -> None:
        """Shows how it goes on until so many are acked in all."""
        with click.progressbar(length=count - len(self.acked), label=label) as bar:
            while len(self.acked) < count:
                before = len(self.acked)
                self.more.clear()
                await self.more.wait()
                bar.update(len(self.acked) - before)


async def replay(node: Node, acked: dict[int, int]) -> int:
    """Reads the stream from its first message and holds it against what was acked. Returns how many there are."""
    async with await connect(node) as client:
        jetstream = client.jetstream()
        last = (await jetstream.stream_info(STREAM)).state.last_seq
        subscription = await jetstream.subscribe(f"{STREAM}.>", stream=STREAM, ordered_consumer=True)
        found: dict[int, int] = {}
        for sequence in range(1, last + 1):
            message = await subscription.next_msg(timeout=10)
            number = int(message.data)
            if message.metadata.sequence.stream != sequence or number in found:
                raise click.ClickException(f"message {number} is there twice or out of order, at {sequence}")
            found[number] = sequence
        lost = [number for number, sequence in acked.items() if found.get(number) != sequence]
        if lost:
            raise click.ClickException(f"{len(lost)} acked messages are lost, such as {lost[0]}")
        return len(found)


async def show(nodes: dict[str, Node], count: int) -> None:
    async with await connect(*nodes.values()) as client:
        jetstream = client.jetstream(timeout=2)
        config = StreamConfig(name=STREAM, subjects=[f"{STREAM}.>"], num_replicas=len(NAMES))

        async def made() -> bool:
            return (await jetstream.add_stream(config)).config.name == STREAM

        async def leader() -> Node:
            cluster = (await jetstream.stream_info(STREAM)).cluster
            return nodes[(cluster and cluster.leader) or ""]

        async def caught_up() -> bool:
            cluster = (await jetstream.stream_info(STREAM)).cluster
            replicas = (cluster and cluster.replicas) or []
            return len(replicas) == 2 and all(one.current and not one.offline and not one.lag for one in replicas)

        await insist("a stream on three nodes", made)
        led = await leader()
        click.echo(f"three nodes keep the stream, {led.name} leads it")
        publisher = Publisher(client, count)
        working = asyncio.gather(*(publisher.work() for _ in range(WINDOW)))
        await publisher.until("all three", count // 3)
        led.kill()
        killed = time.monotonic()
        await publisher.sent_after(killed)
        click.echo(f"killed {led.name} (kill -9): the next ack came after {time.monotonic() - killed:.2f} s")
        await publisher.until(f"without {led.name}", count * 2 // 3)
        led.start()
        started = time.monotonic()
        await insist(f"{led.name} has caught up", caught_up)
        click.echo(f"started {led.name} again: it had all messages after {time.monotonic() - started:.2f} s")
        await publisher.until("all three", count)
        await working
        await insist("all have all", caught_up)
    replayed = await replay(led, publisher.acked)
    click.echo(f"{len(publisher.acked)} messages acked, {replayed} replayed through {led.name}: none lost, none twice")


async def connected(nodes: dict[str, Node]) -> None:
    """Until each node takes clients. An ended one is shown with its last words."""
    for node in nodes.values():

        async def answers(node: Node = node) -> bool:
            assert node.process is not None
            if node.process.poll() is not None:
                words = (node.home / f"{node.name}.log").read_text(errors="replace")[-500:]
                raise click.ClickException(f"{node.name} ended with {node.process.returncode}:\n{words}")
            await (
                await nats.connect(node.url, allow_reconnect=False, max_reconnect_attempts=1, error_cb=quiet)
            ).close()
            return True

        await insist(f"{node.name} takes clients", answers)


@click.command()
@click.option("--count", type=click.IntRange(3 * WINDOW), default=30_000, show_default=True, help="How many messages.")
def main(count: int) -> None:
    """Starts three servers, publishes, kills the leader with -9 meanwhile, starts it again, and replays everything."""

    async def play(nodes: dict[str, Node]) -> None:
        await connected(nodes)
        await show(nodes, count)

    with tempfile.TemporaryDirectory(prefix="failover-") as home, ExitStack() as stack:
        ports = free_ports()
        nodes = {name: Node(Path(home), name, ports) for name in NAMES}
        for node in nodes.values():
            stack.callback(node.kill)
            node.start()
        asyncio.run(play(nodes))


if __name__ == "__main__":
    main()
