"""`make compose-test`: docker-compose.yml for real. Up, publish, stop the leader, replay, start it again, all caught up,
and the four roles. Ends with 0 only if all of it was run and held; where it can't be run, it says `not run` and why.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import nats
from nats.errors import Error as NatsError
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy, StreamConfig

from benchmarks.ports import free_ports
from tests.compose.daemon import NotRun, base, compose, daemon, need

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from nats.js import JetStreamContext

ROOT: Final = Path(__file__).parents[2]
PROJECT: Final = "streamd-compose-test"
NODES: Final = ("nats1", "nats2", "nats3")
STREAM: Final = "ORDERS"
FIRST: Final = 5_000
SECOND: Final = 1_000
UPDATES: Final = 10_000
WINDOW: Final = 200
PATIENCE_SECONDS: Final = 60


def say(text: str) -> None:
    """One line of what goes on."""
    sys.stdout.write(f"compose: {text}\n")
    sys.stdout.flush()


def ran(*command: str, **variables: str) -> str:
    """A command, which must succeed. Returns what it printed."""
    environment = {**os.environ, **variables}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
    return done.stdout


def images() -> None:
    """Build streamd and the roles of the sources here: the wheel is made here, the rest in containers."""
    ran("make", "-s", "wheel")
    wheel = max((ROOT / "dist").glob("streamd-*.whl"), key=lambda path: path.stat().st_mtime)
    arguments = {"BASE": base(), "BUILD_BASE": base(), "WHEEL": str(wheel.relative_to(ROOT))}
    given = [word for name, value in arguments.items() for word in ("--build-arg", f"{name}={value}")]
    for target, image in (("streamd", "streamd"), ("roles", "streamd-roles")):
        command = [need("docker"), "build", "-q", "--network", "host", "--target", target, "-t", image, *given, "."]
        # The builder that every docker has: the other one may be a plugin that isn't there.
        ran(*command, DOCKER_BUILDKIT="0")


class Composed:
    """The containers of docker-compose.yml under a project name of their own, on free ports."""

    def __init__(self) -> None:
        self._command = [*compose(), "-f", str(ROOT / "docker-compose.yml"), "-p", PROJECT]
        self.ports = dict(zip(NODES, free_ports(len(NODES)), strict=True))
        self._variables = {f"{name.upper()}_PORT": str(port) for name, port in self.ports.items()}

    def run(self, *words: str) -> str:
        """A command of Compose, which must succeed. Returns what it printed."""
        return ran(*self._command, *words, **self._variables)

    def healthy(self, name: str) -> bool:
        """Whether the health check of a node succeeds."""
        (identity,) = self.run("ps", "-q", name).split()
        return ran(need("docker"), "inspect", "-f", "{{.State.Health.Status}}", identity).strip() == "healthy"

    def wait_healthy(self) -> None:
        """Until all nodes are."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not all(self.healthy(name) for name in NODES):
            assert time.monotonic() < deadline, self.run("logs", "--tail", "40")
            time.sleep(0.5)

    def url(self, *names: str) -> list[str]:
        """Where these nodes take clients."""
        return [f"nats://127.0.0.1:{self.ports[name]}" for name in names]

    @contextmanager
    def up(self) -> Iterator[None]:
        """The three nodes; gone with their volumes afterwards."""
        self.run("down", "-v", "--remove-orphans")
        try:
            self.run("up", "-d")
            self.wait_healthy()
            yield
        except BaseException:
            sys.stdout.write(self.run("logs", "--tail", "40"))
            raise
        finally:
            self.run("down", "-v", "--remove-orphans")


async def quiet(_error: Exception) -> None:
    """What goes wrong is raised where it matters."""


async def insist(what: Callable[[], Awaitable[object]]) -> None:
    """Try again until it succeeds: a cluster may have no leader for a moment."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            await what()
        except (NatsError, OSError):
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.1)
        else:
            return


async def publish(servers: list[str], first: int, count: int) -> None:
    """Numbered messages, each until it is acked; a message id makes sure that one sent again is stored once."""
    async with await nats.connect(servers, error_cb=quiet) as client:
        jetstream = client.jetstream(timeout=2)

        async def one(number: int) -> None:
            headers = {"Nats-Msg-Id": str(number)}
            await insist(lambda: jetstream.publish("orders.new", b"%d" % number, headers=headers))

        for start in range(first, first + count, WINDOW):
            await asyncio.gather(*(one(number) for number in range(start, min(start + WINDOW, first + count))))


async def replay(servers: list[str], count: int) -> None:
    """All messages from the first, through this node: each number once, sequences without a gap."""
    async with await nats.connect(servers, allow_reconnect=False, error_cb=quiet) as client:
        jetstream = client.jetstream()
        config = ConsumerConfig(ack_policy=AckPolicy.NONE, deliver_policy=DeliverPolicy.ALL)
        subscription = await jetstream.subscribe("orders.>", stream=STREAM, ordered_consumer=True, config=config)
        numbers = []
        for sequence in range(1, count + 1):
            message = await subscription.next_msg(timeout=20)
            assert message.metadata.sequence.stream == sequence, message.metadata
            numbers.append(int(message.data))
        assert sorted(numbers) == list(range(count))
        info = await jetstream.stream_info(STREAM)
        assert info.state.messages == count, info.state


async def leader_of(jetstream: JetStreamContext) -> str:
    """The node that leads the stream."""
    info = await jetstream.stream_info(STREAM)
    assert info.cluster is not None
    assert info.cluster.leader in NODES
    return info.cluster.leader


async def caught_up(jetstream: JetStreamContext) -> None:
    """Until both followers have all that is stored."""

    async def look() -> None:
        info = await jetstream.stream_info(STREAM)
        replicas = (info.cluster.replicas if info.cluster else None) or []
        if len(replicas) != 2 or not all(one.current and not one.offline and not one.lag for one in replicas):
            raise NatsError(f"not caught up: {replicas}")

    await insist(look)


async def failover(composed: Composed) -> None:
    """Publish, stop the leader, publish and replay, start it again, replay there."""
    async with await nats.connect(composed.url(*NODES), error_cb=quiet) as client:
        jetstream = client.jetstream(timeout=2)
        config = StreamConfig(name=STREAM, subjects=["orders.>"], num_replicas=3)
        await insist(lambda: jetstream.add_stream(config))
        await publish(composed.url(*NODES), 0, FIRST)
        say(f"{FIRST} messages acked")
        leader = await leader_of(jetstream)
    rest = [name for name in NODES if name != leader]
    composed.run("stop", leader)
    say(f"stopped {leader}, which led the stream")
    await publish(composed.url(*rest), FIRST, SECOND)
    for name in rest:
        await replay(composed.url(name), FIRST + SECOND)
    say(f"{SECOND} more acked, all {FIRST + SECOND} replayed through {' and '.join(rest)}")
    composed.run("start", leader)
    composed.wait_healthy()
    async with await nats.connect(composed.url(*rest), error_cb=quiet) as client:
        await caught_up(client.jetstream(timeout=2))
    await replay(composed.url(leader), FIRST + SECOND)
    say(f"started {leader} again: caught up, and all replayed through it")


def roles(composed: Composed) -> None:
    """Publisher and subscriber, requester and replier, each in a container of its own."""
    composed.run("up", "-d", "subscriber", "replier")
    deadline = time.monotonic() + PATIENCE_SECONDS
    while "listening on updates" not in (told := composed.run("logs", "subscriber", "replier")) or (
        "answering ping" not in told
    ):
        assert time.monotonic() < deadline, told
        time.sleep(0.2)
    servers = ",".join(f"nats://{name}:4222" for name in NODES)
    said = composed.run("run", "--rm", "publisher", "--role", "pub", "--server", servers, "--count", str(UPDATES))
    assert f"published {UPDATES} messages" in said, said
    assert "pong" in composed.run("run", "--rm", "requester")
    while f"update {UPDATES}" not in (told := composed.run("logs", "subscriber")):
        assert time.monotonic() < deadline, told[-500:]
        time.sleep(0.2)
    assert told.count("update ") == UPDATES
    say(f"roles: {UPDATES} updates printed by the subscriber, ping answered with pong")


def main() -> int:
    """The exit status: 0 only if it was run and held."""
    try:
        with daemon():
            images()
            composed = Composed()
            with composed.up():
                say("three nodes are healthy")
                asyncio.run(failover(composed))
                roles(composed)
    except NotRun as reason:
        say(f"not run: {reason}")
        return 1
    say("passed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
